//! Logs, metrics, traces and trace-context propagation.
//!
//! A binary calls [`init`] once and keeps the [`Guard`] until it exits. Metrics live in one [`Metrics`] registry per
//! process: the admin listener renders it, and [`Guard::export_metrics`] sends the same values by OTLP.

mod correlation;
mod init;
mod logs;
mod metrics;
mod otlp;
mod settings;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod trace_context;

pub use correlation::{CORRELATION_HEADER, CorrelationId};
pub use init::{Guard, TelemetryError, init};
pub use metrics::{METRICS_CONTENT_TYPE, Metrics};
pub use settings::{LogFormat, TelemetrySettings};
pub use trace_context::{TraceContext, is_exported};
