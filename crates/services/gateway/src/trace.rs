//! The steps of a call as spans of one trace; where nothing is exported, a step is no span at all.

/// A step of a call, as a child of this span.
macro_rules! step {
    ($parent:expr, $name:literal) => {{
        let parent: &tracing::Span = $parent;
        if portico_telemetry::is_exported(parent) {
            tracing::info_span!(parent: parent, $name)
        } else {
            tracing::Span::none()
        }
    }};
}

pub(crate) use step;
