//! Exports traces and metrics by OTLP over gRPC, on a runtime of its own.
//!
//! The own runtime keeps exports off the threads that answer requests, and lets the last flush work after the
//! process' runtime has stopped.

mod convert;

use std::{sync::mpsc, time::Duration};

use base64::Engine as _;
use opentelemetry::KeyValue;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider},
};
use portico_clock::{Clock as _, SystemClock};
use tokio::{runtime::Runtime, sync::watch};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use url::Url;

use crate::{Metrics, TelemetryError, TelemetrySettings};

/// Longest time that one export may take.
const EXPORT_DEADLINE: Duration = Duration::from_secs(5);
/// Longest time that the last flush may take, for traces and for metrics each.
const FLUSH_DEADLINE: Duration = Duration::from_secs(3);

/// The running exporters.
pub(crate) struct Otlp {
    runtime: Runtime,
    channel: Channel,
    traces: SdkTracerProvider,
    resource: Resource,
    interval: Duration,
    metrics: Option<MetricsLoop>,
}

struct MetricsLoop {
    stop: watch::Sender<bool>,
    stopped: mpsc::Receiver<()>,
}

impl Otlp {
    /// Connects lazily: a collector that is down costs spans, not the start.
    pub(crate) fn start(
        endpoint: &Url,
        settings: &TelemetrySettings,
        service: &'static str,
    ) -> Result<Self, TelemetryError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("otlp")
            .enable_all()
            .build()
            .map_err(TelemetryError::Thread)?;
        // The batch exporter finds the runtime of its connection by this guard.
        let entered = runtime.enter();
        let channel = connect(endpoint)?;
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_channel(channel.clone())
            .with_timeout(EXPORT_DEADLINE)
            .build()
            .map_err(|error| TelemetryError::Endpoint(error.into()))?;
        let resource = Resource::builder_empty()
            .with_attributes([
                KeyValue::new("service.name", service),
                KeyValue::new("service.namespace", "portico"),
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            ])
            .build();
        let ratio = Sampler::TraceIdRatioBased(settings.trace_sample_ratio);
        let traces = SdkTracerProvider::builder()
            .with_sampler(Sampler::ParentBased(Box::new(ratio)))
            .with_resource(resource.clone())
            .with_batch_exporter(exporter)
            .build();
        drop(entered);
        let interval = settings.metrics_interval();
        Ok(Self { runtime, channel, traces, resource, interval, metrics: None })
    }

    pub(crate) fn tracer_provider(&self) -> &SdkTracerProvider {
        &self.traces
    }

    /// Starts the periodic export; a second call replaces the registry of the first.
    pub(crate) fn export_metrics(&mut self, metrics: Metrics) {
        let (stop, mut stopping) = watch::channel(false);
        let (done, stopped) = mpsc::channel();
        let mut client = MetricsServiceClient::new(self.channel.clone());
        let resource = convert::resource(&self.resource);
        let interval = self.interval;
        self.runtime.spawn(async move {
            let started = SystemClock.now();
            let mut last = false;
            while !last {
                // Stopping wakes the loop for one final export; a dropped sender counts as stopping.
                last = tokio::time::timeout(interval, stopping.changed()).await.is_ok();
                let request = convert::request(&metrics.render(), &resource, started, SystemClock.now());
                match tokio::time::timeout(EXPORT_DEADLINE, client.export(request)).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(status)) => tracing::warn!(error = %status, "metrics export failed"),
                    Err(_) => tracing::warn!("metrics export took too long"),
                }
            }
            // The receiver is gone when the deadline of the flush has passed: nobody to tell.
            let _ = done.send(());
        });
        self.metrics = Some(MetricsLoop { stop, stopped });
    }

    /// Sends what is still waiting; gives up after the flush deadline.
    pub(crate) fn shutdown(self) {
        if let Some(metrics) = &self.metrics {
            // Both fail only when the loop has already ended.
            let _ = metrics.stop.send(true);
            let _ = metrics.stopped.recv_timeout(FLUSH_DEADLINE);
        }
        if let Err(error) = self.traces.shutdown_with_timeout(FLUSH_DEADLINE) {
            tracing::warn!(%error, "the last traces could not be exported");
        }
        // Never blocks, so the guard may be dropped on a runtime's thread.
        self.runtime.shutdown_background();
    }
}

fn connect(url: &Url) -> Result<Channel, TelemetryError> {
    let invalid = |error: tonic::transport::Error| TelemetryError::Endpoint(error.into());
    let mut endpoint = Endpoint::from_shared(url.to_string())
        .map_err(invalid)?
        .connect_timeout(EXPORT_DEADLINE)
        .timeout(EXPORT_DEADLINE);
    match url.scheme() {
        "http" => {}
        "https" => endpoint = endpoint.tls_config(system_roots()).map_err(invalid)?,
        other => {
            let message = format!("`{other}` is not http or https");
            return Err(TelemetryError::Endpoint(message.into()));
        }
    }
    Ok(endpoint.connect_lazy())
}

/// Trusts what the machine trusts; tonic takes roots as PEM only.
fn system_roots() -> ClientTlsConfig {
    let roots = rustls_native_certs::load_native_certs().certs;
    let pem = roots.iter().map(|der| {
        let body = base64::engine::general_purpose::STANDARD.encode(der);
        Certificate::from_pem(format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"))
    });
    ClientTlsConfig::new().ca_certificates(pem)
}

#[cfg(test)]
mod tests;
