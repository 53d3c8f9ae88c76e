//! Metric handles, registered once.

use portico_telemetry::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabel {
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    method: &'static str,
    outcome: &'static str,
}

/// What the worker counts. Label values come from the code, so their number is bounded.
#[derive(Debug, Clone)]
pub(crate) struct WorkerMetrics {
    instances: Family<StatusLabel, Gauge>,
    shares: Gauge,
    events: Family<OutcomeLabel, Counter>,
    probes: Family<OutcomeLabel, Counter>,
    discoveries: Family<OutcomeLabel, Counter>,
    resyncs: Family<OutcomeLabel, Counter>,
    calls: Family<CallLabels, Counter>,
    pub(crate) probe_seconds: Histogram,
    pub(crate) discovery_seconds: Histogram,
    /// Sessions that were left to expire because too many had to be closed.
    pub(crate) abandoned_sessions: Counter,
}

impl WorkerMetrics {
    pub(crate) fn registered(metrics: &Metrics) -> Self {
        let buckets = || exponential_buckets(0.001, 2.0, 18);
        let own = Self {
            instances: Family::default(),
            shares: Gauge::default(),
            events: Family::default(),
            probes: Family::default(),
            discoveries: Family::default(),
            resyncs: Family::default(),
            calls: Family::default(),
            probe_seconds: Histogram::new(buckets()),
            discovery_seconds: Histogram::new(buckets()),
            abandoned_sessions: Counter::default(),
        };
        metrics.register(
            "portico_worker_instances",
            "Watched instances by health; pending: not known yet",
            own.instances.clone(),
        );
        metrics.register(
            "portico_worker_shares",
            "Shares of all instances, of 32, that this worker looks after",
            own.shares.clone(),
        );
        metrics.register(
            "portico_worker_events",
            "Events by what became of them: applied, superseded, foreign, passed_on, ignored, invalid, forged",
            own.events.clone(),
        );
        metrics.register("portico_worker_probes", "Health probes by outcome", own.probes.clone());
        metrics.register(
            "portico_worker_probe_seconds",
            "Duration of health probes in seconds",
            own.probe_seconds.clone(),
        );
        metrics.register("portico_worker_discoveries", "Discoveries by outcome", own.discoveries.clone());
        metrics.register(
            "portico_worker_discovery_seconds",
            "Duration of discoveries in seconds",
            own.discovery_seconds.clone(),
        );
        metrics.register(
            "portico_worker_resyncs",
            "Comparisons with the registry by outcome",
            own.resyncs.clone(),
        );
        metrics.register(
            "portico_worker_registry_calls",
            "Calls to the registry by method and outcome",
            own.calls.clone(),
        );
        metrics.register(
            "portico_worker_abandoned_sessions",
            "Sessions at servers that were not closed because too many had to be",
            own.abandoned_sessions.clone(),
        );
        own
    }

    pub(crate) fn shares(&self, count: usize) {
        self.shares.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(crate) fn event(&self, outcome: &'static str) {
        self.events.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    pub(crate) fn probe(&self, outcome: &'static str) {
        self.probes.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    pub(crate) fn discovery(&self, outcome: &'static str) {
        self.discoveries.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    pub(crate) fn resync(&self, outcome: &'static str) {
        self.resyncs.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    pub(crate) fn call(&self, method: &'static str, outcome: &'static str) {
        self.calls.get_or_create(&CallLabels { method, outcome }).inc();
    }

    /// Counts an instance as pending until the handle says otherwise or is dropped.
    pub(crate) fn instance(&self) -> Counted {
        let counted = Counted { instances: self.instances.clone(), status: "pending" };
        counted.gauge().inc();
        counted
    }
}

/// One instance in the gauge.
#[derive(Debug)]
pub(crate) struct Counted {
    instances: Family<StatusLabel, Gauge>,
    status: &'static str,
}

impl Counted {
    pub(crate) fn set(&mut self, status: &'static str) {
        self.gauge().dec();
        self.status = status;
        self.gauge().inc();
    }

    fn gauge(&self) -> Gauge {
        self.instances.get_or_create(&StatusLabel { status: self.status }).clone()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.gauge().dec();
    }
}
