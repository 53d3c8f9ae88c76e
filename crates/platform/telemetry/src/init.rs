//! Sets up logging and OTLP for a process, once.

use std::{fmt, io, io::Write, sync::Mutex};

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{Directive, filter_fn},
    fmt::MakeWriter,
    layer::SubscriberExt as _,
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

use crate::{
    Metrics,
    logs::{Escaping, LineQueue},
    otlp::Otlp,
    settings::{LogFormat, TelemetrySettings},
};

/// Crates that carry requests and exports, by the start of their targets.
const TRANSPORT: [&str; 5] = ["h2", "hyper", "tonic", "tower", "opentelemetry"];

/// Why telemetry could not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `log_filter` does not read as directives.
    #[error(
        "telemetry.log_filter `{filter}` is not valid: {source}; write e.g. `info,portico_gateway=debug`"
    )]
    Filter {
        /// The filter as it was given.
        filter: String,
        /// What is wrong with it.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// The OTLP exporter could not be made.
    #[error("telemetry.otlp_endpoint cannot be used: {0}; write e.g. `http://127.0.0.1:4317`")]
    Endpoint(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The threads that log and export could not be started.
    #[error("telemetry cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    /// The process already logs through another subscriber.
    #[error("telemetry was already set up in this process: call init once")]
    AlreadySet,
}

/// Marks a subscriber that exports spans, so that trace context costs nothing where none does.
pub(crate) struct OtlpMarker;

impl<S: Subscriber> Layer<S> for OtlpMarker {}

/// Keeps telemetry alive; dropping it sends what is still waiting, for at most a few seconds.
#[must_use = "telemetry ends when the guard is dropped"]
pub struct Guard {
    otlp: Mutex<Option<Otlp>>,
    log: LineQueue,
}

impl Guard {
    /// Sends `metrics` by OTLP at the configured interval; does nothing when no endpoint is set.
    pub fn export_metrics(&self, metrics: &Metrics) {
        if let Some(otlp) = &mut *self.otlp.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
            otlp.export_metrics(metrics.clone());
        }
    }

    /// Sends what is still waiting and stops; blocks for at most a few seconds.
    pub fn shutdown(self) {
        drop(self);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let otlp = self.otlp.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(otlp) = otlp {
            otlp.shutdown();
        }
        // Last, because the exporters may still have something to say.
        self.log.flush();
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}

/// Sets up logs to standard error through a bounded queue, and OTLP when an endpoint is set.
///
/// `service` becomes `service.name`.
pub fn init(settings: &TelemetrySettings, service: &'static str) -> Result<Guard, TelemetryError> {
    let filter = filter(&settings.log_filter)?;
    let otlp = match &settings.otlp_endpoint {
        Some(endpoint) => Some(Otlp::start(endpoint, settings, service)?),
        None => None,
    };
    let export = otlp.as_ref().map(|otlp| export(otlp.tracer_provider()));
    let log = LineQueue::start(settings.log_format, io::stderr()).map_err(TelemetryError::Thread)?;
    Registry::default()
        .with(lines(settings.log_format, log.clone()))
        .with(export)
        .with(filter)
        .try_init()
        .map_err(|_| TelemetryError::AlreadySet)?;
    Ok(Guard { otlp: Mutex::new(otlp), log })
}

/// Makes the layer that exports spans.
///
/// The exporter's own connection is left out, or every export would cause the next one.
pub(crate) fn export<S>(traces: &SdkTracerProvider) -> impl Layer<S> + Send + Sync + use<S>
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    let spans = traces.tracer("portico");
    let no_transport = filter_fn(|span| !TRANSPORT.iter().any(|target| span.target().starts_with(target)));
    tracing_opentelemetry::layer().with_tracer(spans).and_then(OtlpMarker).with_filter(no_transport)
}

/// Parses the filter; what lies below HTTP stays quiet unless it is asked for by name.
fn filter(text: &str) -> Result<EnvFilter, TelemetryError> {
    let invalid = |source| TelemetryError::Filter { filter: text.to_owned(), source };
    let mut filter = EnvFilter::builder().parse(text).map_err(invalid)?;
    for target in TRANSPORT {
        if !text.contains(target) {
            let quiet: Directive = format!("{target}=warn").parse().map_err(invalid)?;
            filter = filter.add_directive(quiet);
        }
    }
    Ok(filter)
}

/// Makes the layer that writes one escaped line per event.
pub(crate) fn lines<S, M>(format: LogFormat, writer: M) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    M: for<'writer> MakeWriter<'writer, Writer: Write> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(Escaping(writer));
    match format {
        LogFormat::Human => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_current_span(false).boxed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn telemetry_starts_once_and_says_what_is_wrong_with_a_filter() {
        let wrong =
            TelemetrySettings { log_filter: "info,portico=loud".to_owned(), ..TelemetrySettings::default() };
        let error = init(&wrong, "test").unwrap_err().to_string();
        assert!(error.starts_with("telemetry.log_filter `info,portico=loud` is not valid"), "{error}");
        let guard = init(&TelemetrySettings::default(), "test").unwrap();
        tracing::info!("telemetry is up");
        assert!(matches!(init(&TelemetrySettings::default(), "test"), Err(TelemetryError::AlreadySet)));
        guard.shutdown();
    }
}
