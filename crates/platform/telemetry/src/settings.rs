//! The `telemetry` section of a settings file.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One readable line per event.
    #[default]
    Human,
    /// One JSON object per line.
    Json,
}

/// What is logged, and where traces and metrics go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TelemetrySettings {
    /// How a log line looks: `human` or `json`.
    pub log_format: LogFormat,
    /// What is logged, as `tracing` directives: `info` or `info,portico_gateway=debug`.
    pub log_filter: String,
    /// OTLP collector (gRPC) for traces and metrics, e.g. `http://127.0.0.1:4317`; none by default.
    #[schemars(with = "Option<String>")]
    pub otlp_endpoint: Option<Url>,
    /// Seconds between two exports of metrics by OTLP.
    #[schemars(range(min = 1, max = 3600))]
    pub otlp_metrics_interval_seconds: u64,
    /// Share of new traces that are recorded, 0.0 to 1.0; the decision of an incoming trace is kept.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub trace_sample_ratio: f64,
}

impl TelemetrySettings {
    /// Returns the pause between two exports, at least a second.
    pub(crate) fn metrics_interval(&self) -> Duration {
        Duration::from_secs(self.otlp_metrics_interval_seconds.max(1))
    }
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self {
            log_format: LogFormat::Human,
            log_filter: "info".to_owned(),
            otlp_endpoint: None,
            otlp_metrics_interval_seconds: 30,
            trace_sample_ratio: 1.0,
        }
    }
}
