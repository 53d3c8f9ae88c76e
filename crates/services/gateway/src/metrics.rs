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

/// Labels of a counted retry.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
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
    /// This replica and those that it hears of.
    pub(crate) replicas: Gauge,
    pub(crate) sessions: Gauge,
    /// 1 while what replicas share does not answer.
    pub(crate) coordination_down: Gauge,
    pub(crate) letters_dropped: Counter,
    pub(crate) upstream_sessions_closed: Counter,
    pub(crate) disk_failures: Counter,
    pub(crate) catalogue_copy_age: Gauge,
    pub(crate) clock_skew: Counter,
    shed: Arc<HashMap<Shed, Counter>>,
    ejections: Arc<HashMap<Ejection, Counter>>,
    /// Instances that are ejected or half open.
    pub(crate) instances_ejected: Gauge,
    pub(crate) instance_returns: Counter,
    retries: Arc<HashMap<Retry, Counter>>,
}

/// What was turned away because there was too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Shed {
    /// A request without a token, with few places left.
    Anonymous,
    /// A request, with no place left.
    Calls,
    /// A stream, with no place among the streams left.
    Streams,
    /// A call or stream of a principal that has many open.
    Principal,
    /// A call over a rate.
    Rate,
    /// A stream whose reader did not read.
    SlowReader,
}

impl Shed {
    const ALL: [Self; 6] =
        [Self::Anonymous, Self::Calls, Self::Streams, Self::Principal, Self::Rate, Self::SlowReader];

    fn as_str(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Calls => "open_calls",
            Self::Streams => "open_streams",
            Self::Principal => "principal_open",
            Self::Rate => "rate",
            Self::SlowReader => "slow_reader",
        }
    }
}

/// Why an instance of a server is passed over for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Ejection {
    /// It refused the connection, or TLS with it failed.
    NoConnection,
    /// It did not take the connection in time.
    ConnectTimeout,
    /// Its address may not be called.
    AddressRefused,
    /// Several calls in a row reached it and were not answered.
    NoAnswer,
}

impl Ejection {
    const ALL: [Self; 4] = [Self::NoConnection, Self::ConnectTimeout, Self::AddressRefused, Self::NoAnswer];

    fn as_str(self) -> &'static str {
        match self {
            Self::NoConnection => "no_connection",
            Self::ConnectTimeout => "connect_timeout",
            Self::AddressRefused => "address_refused",
            Self::NoAnswer => "no_answer",
        }
    }
}

/// What became of a call that an instance took no connection for, while its server has others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Retry {
    /// Another instance answered it.
    Answered,
    /// It was sent to another instance and failed there too.
    Failed,
    /// No other instance is healthy and was not tried.
    NoInstance,
    /// The time that it has is over.
    NoTime,
    /// The retry budget of the server is used up.
    NoBudget,
}

impl Retry {
    const ALL: [Self; 5] = [Self::Answered, Self::Failed, Self::NoInstance, Self::NoTime, Self::NoBudget];

    fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::NoInstance => "no_instance",
            Self::NoTime => "no_time",
            Self::NoBudget => "no_budget",
        }
    }
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
        let shed = Family::<ReasonLabel, Counter>::default();
        let counters = Shed::ALL
            .iter()
            .map(|reason| (*reason, shed.get_or_create(&ReasonLabel { reason: reason.as_str() }).clone()));
        let metrics = Self {
            calls: Arc::new(calls),
            duration: Histogram::new(exponential_buckets(0.000_25, 2.0, 18)),
            streams: Gauge::default(),
            audit_dropped: Counter::default(),
            audit_pending: Gauge::default(),
            replicas: Gauge::default(),
            sessions: Gauge::default(),
            coordination_down: Gauge::default(),
            letters_dropped: Counter::default(),
            upstream_sessions_closed: Counter::default(),
            disk_failures: Counter::default(),
            catalogue_copy_age: Gauge::default(),
            clock_skew: Counter::default(),
            shed: Arc::new(counters.collect()),
            ejections: ejections(registry),
            instances_ejected: Gauge::default(),
            instance_returns: Counter::default(),
            retries: retries(registry),
        };
        metrics.replicas.set(1);
        metrics.register_replicas(registry);
        metrics.register_instances(registry);
        registry.register("portico_gateway_shed", "Calls and streams turned away at too much load", shed);
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

    fn register_replicas(&self, registry: &Metrics) {
        registry.register(
            "portico_gateway_replicas",
            "Gateways that this one hears of, itself included",
            self.replicas.clone(),
        );
        registry.register(
            "portico_gateway_sessions",
            "Sessions that were used on this gateway lately",
            self.sessions.clone(),
        );
        registry.register(
            "portico_gateway_coordination_down",
            "1 while what gateways share does not answer",
            self.coordination_down.clone(),
        );
        registry.register(
            "portico_gateway_letters_dropped",
            "Letters to other gateways that could not be sent",
            self.letters_dropped.clone(),
        );
        registry.register(
            "portico_gateway_upstream_sessions_closed",
            "Sessions that servers were told are over",
            self.upstream_sessions_closed.clone(),
        );
        registry.register(
            "portico_gateway_disk_write_failures",
            "Copies of credentials that could not be written to disk; they are tried again",
            self.disk_failures.clone(),
        );
        registry.register(
            "portico_gateway_catalogue_copy_age_seconds",
            "Seconds since the catalogue was last written to disk; over 180 it cannot be written",
            self.catalogue_copy_age.clone(),
        );
        registry.register(
            "portico_gateway_clock_skew_refusals",
            "Calls refused because clocks differ by more than the leeway",
            self.clock_skew.clone(),
        );
    }

    fn register_instances(&self, registry: &Metrics) {
        registry.register(
            "portico_gateway_instances_ejected",
            "Instances of servers that are passed over just now while another one can take their calls",
            self.instances_ejected.clone(),
        );
        registry.register(
            "portico_gateway_instance_returns",
            "Ejected instances of servers that answered again",
            self.instance_returns.clone(),
        );
    }

    pub(crate) fn shed(&self, what: Shed) {
        if let Some(counter) = self.shed.get(&what) {
            counter.inc();
        }
    }

    pub(crate) fn ejected(&self, why: Ejection) {
        if let Some(counter) = self.ejections.get(&why) {
            counter.inc();
        }
    }

    pub(crate) fn retried(&self, outcome: Retry) {
        if let Some(counter) = self.retries.get(&outcome) {
            counter.inc();
        }
    }

    pub(crate) fn count(&self, reason: &str) {
        if let Some(counter) = self.calls.get(reason) {
            counter.inc();
        }
    }
}

fn ejections(registry: &Metrics) -> Arc<HashMap<Ejection, Counter>> {
    let family = Family::<ReasonLabel, Counter>::default();
    let counter = |why: &Ejection| family.get_or_create(&ReasonLabel { reason: why.as_str() }).clone();
    let counters = Ejection::ALL.iter().map(|why| (*why, counter(why))).collect();
    registry.register(
        "portico_gateway_instance_ejections",
        "Instances of servers that took no connection, or did not answer, and are passed over for a while",
        family,
    );
    Arc::new(counters)
}

fn retries(registry: &Metrics) -> Arc<HashMap<Retry, Counter>> {
    let family = Family::<OutcomeLabel, Counter>::default();
    let counter = |outcome: &Retry| family.get_or_create(&OutcomeLabel { outcome: outcome.as_str() }).clone();
    let counters = Retry::ALL.iter().map(|outcome| (*outcome, counter(outcome))).collect();
    registry.register(
        "portico_gateway_retries",
        "Calls that an instance took no connection for, by what became of them",
        family,
    );
    Arc::new(counters)
}
