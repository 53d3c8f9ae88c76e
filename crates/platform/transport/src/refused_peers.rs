//! Peers that were turned away: counted all, told to an audit as far as it can bear.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use portico_telemetry::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How many refusals of each kind wait for their record; further ones are only counted.
const QUEUE: usize = 32;
/// Pause between two records once the queue's worth of them was written at once: a flood fills no table.
const PACE: Duration = Duration::from_secs(1);

/// Somebody on an internal port who is not who may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedPeer {
    /// The service that the peer's certificate names, if it got that far.
    pub service: Option<String>,
    /// Where it connected from; none for a link inside the process.
    pub address: Option<IpAddr>,
    /// The gRPC path that it called; empty if the connection itself was refused.
    pub method: String,
    /// Why, as a stable code.
    pub reason: &'static str,
    /// Refusals before this one that were counted but not told.
    pub untold: u64,
}

impl RefusedPeer {
    /// Returns the principal for an audit record; empty if the peer did not show who it is.
    #[must_use]
    pub fn principal(&self) -> String {
        self.service.as_ref().map(|service| format!("service:{service}")).unwrap_or_default()
    }

    /// Returns the target for an audit record.
    #[must_use]
    pub fn target(&self) -> &str {
        if self.method.is_empty() { "connection" } else { &self.method }
    }

    /// Returns the name for an audit record: what else it stands for.
    #[must_use]
    pub fn name(&self) -> String {
        match self.untold {
            0 => String::new(),
            untold => format!("{untold} more before this one"),
        }
    }

    /// Returns the peer's address for an audit record; empty inside a process.
    #[must_use]
    pub fn peer(&self) -> String {
        self.address.map(|address| address.to_string()).unwrap_or_default()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    reason: &'static str,
}

/// Where refusals are reported. A clone reports to the same place.
#[derive(Debug, Clone)]
pub struct PeerRefusals {
    counter: Family<Labels, Counter>,
    services: Way,
    strangers: Way,
}

/// The way of one kind of peer to its records.
#[derive(Debug, Clone)]
struct Way {
    queue: mpsc::Sender<RefusedPeer>,
    untold: Arc<AtomicU64>,
}

/// Where reported refusals come out, at a pace that an audit can bear.
#[derive(Debug)]
pub struct RefusedPeers {
    /// Services that have shown who they are: whoever can reach the port can be a stranger as often as it likes, and
    /// must not drown these.
    services: mpsc::Receiver<RefusedPeer>,
    strangers: mpsc::Receiver<RefusedPeer>,
    /// When the next record would be due if none had been saved up.
    due: Option<Instant>,
}

impl PeerRefusals {
    /// Makes both ends, and the counter under `metric`.
    #[must_use]
    pub fn new(metrics: &Metrics, metric: &str) -> (Self, RefusedPeers) {
        let counter = Family::default();
        metrics.register(metric, "Peers that were refused on the internal port, by reason", counter.clone());
        let (services, from_services) = Way::new();
        let (strangers, from_strangers) = Way::new();
        let refused = RefusedPeers { services: from_services, strangers: from_strangers, due: None };
        (Self { counter, services, strangers }, refused)
    }

    /// Counts a refusal and tells of it, unless too many wait already.
    pub fn report(&self, refused: RefusedPeer) {
        self.count(refused.reason);
        let way = if refused.service.is_some() { &self.services } else { &self.strangers };
        way.send(refused);
    }

    /// Counts what says nothing about who may call, such as a connection that was closed before it began.
    pub(crate) fn count(&self, reason: &'static str) {
        self.counter.get_or_create(&Labels { reason }).inc();
    }
}

impl Way {
    fn new() -> (Self, mpsc::Receiver<RefusedPeer>) {
        let (queue, receiver) = mpsc::channel(QUEUE);
        (Self { queue, untold: Arc::default() }, receiver)
    }

    fn send(&self, mut refused: RefusedPeer) {
        let untold = self.untold.swap(0, Ordering::Relaxed);
        refused.untold = untold;
        if self.queue.try_send(refused).is_err() {
            self.untold.fetch_add(untold + 1, Ordering::Relaxed);
        }
    }
}

impl RefusedPeers {
    /// Waits for the next refusal to record: a queue's worth at once, then one a second; services before strangers.
    /// Nothing when nobody can report any more and all is told. Cancelling the wait loses nothing.
    pub async fn next(&mut self) -> Option<RefusedPeer> {
        let burst = PACE * u32::try_from(QUEUE).unwrap_or(u32::MAX);
        // Before one is taken: a service that comes meanwhile goes first, and a cancelled wait holds none.
        if let Some(earliest) = self.due.and_then(|due| due.checked_sub(burst)) {
            tokio::time::sleep_until(earliest).await;
        }
        let refused = tokio::select! {
            biased;
            Some(refused) = self.services.recv() => refused,
            Some(refused) = self.strangers.recv() => refused,
            else => return None,
        };
        let now = Instant::now();
        self.due = Some(self.due.map_or(now, |due| due.max(now)) + PACE);
        Some(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stranger() -> RefusedPeer {
        RefusedPeer {
            service: None,
            address: None,
            method: String::new(),
            reason: "certificate_missing",
            untold: 0,
        }
    }

    #[tokio::test]
    async fn s3_60_strangers_do_not_drown_a_service_that_calls_what_is_not_its_own() {
        let (refusals, mut refused) = PeerRefusals::new(&Metrics::new(), "portico_test_refused_peers");
        for _ in 0..100 {
            refusals.report(stranger());
        }
        let worker = RefusedPeer { service: Some("worker".to_owned()), ..stranger() };
        refusals.report(worker.clone());
        assert_eq!(refused.next().await, Some(worker));
    }

    #[tokio::test(start_paused = true)]
    async fn s3_60_a_wait_that_is_cancelled_loses_no_refusal_and_a_service_that_comes_meanwhile_goes_first() {
        let (refusals, mut refused) = PeerRefusals::new(&Metrics::new(), "portico_test_refused_peers");
        for _ in 0..=QUEUE {
            refusals.report(stranger());
            refused.next().await.unwrap();
        }
        refusals.report(stranger());
        assert!(tokio::time::timeout(PACE / 2, refused.next()).await.is_err());
        let worker = RefusedPeer { service: Some("worker".to_owned()), ..stranger() };
        refusals.report(worker.clone());
        drop(refusals);
        assert_eq!(refused.next().await, Some(worker));
        assert_eq!(refused.next().await, Some(stranger()));
        assert_eq!(refused.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn s3_60_a_flood_of_strangers_is_counted_whole_and_recorded_slowly() {
        let metrics = Metrics::new();
        let (refusals, mut refused) = PeerRefusals::new(&metrics, "portico_test_refused_peers");
        for _ in 0..1000 {
            refusals.report(stranger());
        }
        let page = metrics.render();
        assert!(
            page.contains("portico_test_refused_peers_total{reason=\"certificate_missing\"} 1000"),
            "{page}"
        );
        let began = Instant::now();
        for _ in 0..QUEUE {
            assert_eq!(refused.next().await.unwrap().untold, 0);
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        refusals.report(stranger());
        assert_eq!(refused.next().await.unwrap().untold, 1000 - QUEUE as u64);
        refusals.report(stranger());
        assert_eq!(refused.next().await.unwrap().untold, 0);
        assert!(began.elapsed() >= PACE, "{:?}", began.elapsed());
    }
}
