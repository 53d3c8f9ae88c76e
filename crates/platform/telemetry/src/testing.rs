//! Finished spans, as OTLP would send them, for tests.

use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::SubscriberExt as _;

/// Collects the spans that end on this thread, until it is dropped.
#[derive(Debug)]
pub struct SpanCollector {
    exporter: InMemorySpanExporter,
    _provider: SdkTracerProvider,
    _default: DefaultGuard,
}

/// A span that has ended; ids are hexadecimal text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishedSpan {
    /// Its name.
    pub name: String,
    /// The trace that it belongs to.
    pub trace_id: String,
    /// Its own id.
    pub span_id: String,
    /// The id of its parent; zeros if it has none.
    pub parent_id: String,
}

impl SpanCollector {
    /// Becomes the subscriber of this thread.
    #[must_use]
    pub fn install() -> Self {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        let subscriber = tracing_subscriber::registry().with(crate::init::export(&provider));
        let default = tracing::subscriber::set_default(subscriber);
        Self { exporter, _provider: provider, _default: default }
    }

    /// Returns what has ended so far, in that order.
    #[must_use]
    pub fn finished(&self) -> Vec<FinishedSpan> {
        let spans = self.exporter.get_finished_spans().unwrap_or_default();
        let text = |span: opentelemetry_sdk::trace::SpanData| FinishedSpan {
            name: span.name.into_owned(),
            trace_id: span.span_context.trace_id().to_string(),
            span_id: span.span_context.span_id().to_string(),
            parent_id: span.parent_span_id.to_string(),
        };
        spans.into_iter().map(text).collect()
    }
}
