//! What operators see of Redis.

use portico_telemetry::Metrics;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};

/// One capability, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Of {
    pub(crate) capability: &'static str,
}

/// Counters of the connection and of what is asked over it.
#[derive(Clone, Debug)]
pub(crate) struct ServerMetrics {
    pub(crate) up: Gauge,
    pub(crate) connections: Counter,
    pub(crate) seconds: Family<Of, Histogram>,
    pub(crate) failures: Family<Of, Counter>,
    pub(crate) dead_letters: Counter,
    pub(crate) lost_messages: Counter,
}

impl ServerMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let new = Self {
            up: Gauge::default(),
            connections: Counter::default(),
            seconds: Family::new_with_constructor(|| {
                Histogram::new([0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5])
            }),
            failures: Family::default(),
            dead_letters: Counter::default(),
            lost_messages: Counter::default(),
        };
        metrics.register("portico_coordination_up", "Whether Redis answers: 1 or 0", new.up.clone());
        metrics.register(
            "portico_coordination_connections",
            "Connections to Redis that were made; more than one means that some were lost",
            new.connections.clone(),
        );
        metrics.register(
            "portico_coordination_operation_seconds",
            "Time that Redis took, by capability",
            new.seconds.clone(),
        );
        metrics.register(
            "portico_coordination_failures",
            "Operations that Redis did not complete, by capability",
            new.failures.clone(),
        );
        metrics.register(
            "portico_coordination_dead_letters",
            "Events that this process found to be delivered too often without being acknowledged",
            new.dead_letters.clone(),
        );
        metrics.register(
            "portico_coordination_lost_messages",
            "Messages that were dropped because their mailbox was full",
            new.lost_messages.clone(),
        );
        new
    }
}
