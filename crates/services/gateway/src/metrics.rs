//! Metric handles, registered once.

use std::collections::HashMap;
use std::sync::Arc;

use portico_telemetry::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::refusal::Reason;

/// Labels of a counted call; reasons come from a closed table, so their number is bounded.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// What the gateway counts.
#[derive(Debug, Clone)]
pub(crate) struct GatewayMetrics {
    /// Counters by reason, looked up without a lock.
    calls: Arc<HashMap<&'static str, Counter>>,
    pub(crate) duration: Histogram,
    pub(crate) streams: Gauge,
    pub(crate) audit_dropped: Counter,
    pub(crate) audit_pending: Gauge,
}

/// The reason of a call that was carried out.
pub(crate) const OK: &str = "ok";
/// The reason of a call whose agent left before its end.
pub(crate) const AGENT_GONE: &str = "agent_gone";
/// The reason of a call that its agent cancelled.
pub(crate) const CANCELLED: &str = "cancelled";

impl GatewayMetrics {
    pub(crate) fn new(registry: &Metrics) -> Self {
        let family = Family::<ReasonLabel, Counter>::default();
        let reasons = Reason::ALL.iter().map(|reason| reason.as_str()).chain([OK, AGENT_GONE, CANCELLED]);
        let calls =
            reasons.map(|reason| (reason, family.get_or_create(&ReasonLabel { reason }).clone())).collect();
        let metrics = Self {
            calls: Arc::new(calls),
            duration: Histogram::new(exponential_buckets(0.000_25, 2.0, 18)),
            streams: Gauge::default(),
            audit_dropped: Counter::default(),
            audit_pending: Gauge::default(),
        };
        registry.register("portico_gateway_calls", "Calls by reason of their end", family);
        registry.register(
            "portico_gateway_call_seconds",
            "Duration of calls in seconds",
            metrics.duration.clone(),
        );
        registry.register("portico_gateway_streams", "Open streams of events", metrics.streams.clone());
        registry.register(
            "portico_gateway_audit_dropped_records",
            "Audit records that did not fit into the spool",
            metrics.audit_dropped.clone(),
        );
        registry.register(
            "portico_gateway_audit_pending_bytes",
            "Bytes in the audit spool that the registry has not acknowledged",
            metrics.audit_pending.clone(),
        );
        metrics
    }

    pub(crate) fn count(&self, reason: &str) {
        if let Some(counter) = self.calls.get(reason) {
            counter.inc();
        }
    }
}
