//! What an operator sees of the connections of a listener.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use portico_telemetry::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;

/// Pause between two log lines about refusals of one kind: whoever can connect can cause as many as it likes.
const PACE: Duration = Duration::from_mins(1);

/// Why a connection was not served to its own end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Its address has as many as it may.
    AddressLimit,
    /// The other end does not speak TLS, or not as it should.
    TlsHandshake,
    /// The handshake took too long.
    TlsTimeout,
    /// It had sent nothing when others needed its place.
    Silent,
    /// No request came in time.
    NoRequest,
}

impl Refusal {
    const ALL: [(Self, &'static str); 5] = [
        (Self::AddressLimit, "address_limit"),
        (Self::TlsHandshake, "tls_handshake"),
        (Self::TlsTimeout, "tls_timeout"),
        (Self::Silent, "silent"),
        (Self::NoRequest, "no_request"),
    ];
}

/// Counts the connections of one listener. A clone counts in the same place.
#[derive(Debug, Clone)]
pub(crate) struct Tally(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    open: Gauge,
    refused: [Refused; Refusal::ALL.len()],
}

#[derive(Debug, Default)]
struct Refused {
    counter: Counter,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    last: Option<Instant>,
    untold: u64,
}

/// One open connection, while it lasts.
#[derive(Debug)]
pub(super) struct Open(Tally);

impl Tally {
    /// Counts for the listener of this name, where everybody can see it if there are metrics.
    pub(crate) fn new(listener: &'static str, metrics: Option<&Metrics>) -> Self {
        let Some(metrics) = metrics else {
            return Self(Arc::new(Inner { open: Gauge::default(), refused: Default::default() }));
        };
        let help = "Connections that are open, by listener";
        let open = metrics.labelled_gauge("portico_listener_connections", help, ("listener", listener));
        let refused = Refusal::ALL.map(|(_, reason)| {
            let labels = [("listener", listener), ("reason", reason)];
            let help = "Connections that were closed before they were of any use, by listener and reason";
            let counter = metrics.labelled_counter("portico_listener_refused", help, &labels);
            Refused { counter, told: Mutex::default() }
        });
        Self(Arc::new(Inner { open, refused }))
    }

    /// Counts a connection until what is returned is dropped.
    pub(super) fn open(&self) -> Open {
        self.0.open.inc();
        Open(self.clone())
    }

    /// Counts a refusal, and tells how many there were since the last line of the log if one is due now.
    pub(super) fn refuse(&self, refusal: Refusal) -> Option<u64> {
        let refused = &self.0.refused[refusal as usize];
        refused.counter.inc();
        let mut told = refused.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.untold += 1;
        let now = Instant::now();
        if told.last.is_some_and(|last| now.duration_since(last) < PACE) {
            return None;
        }
        told.last = Some(now);
        Some(std::mem::take(&mut told.untold))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.open.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_its_own_counter() {
        for (place, (refusal, _)) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, place);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_refusals_is_counted_whole_and_told_in_sum() {
        let metrics = Metrics::new();
        let tally = Tally::new("public", Some(&metrics));
        assert_eq!(tally.refuse(Refusal::TlsHandshake), Some(1));
        for _ in 0..1000 {
            assert_eq!(tally.refuse(Refusal::TlsHandshake), None);
        }
        assert_eq!(tally.refuse(Refusal::AddressLimit), Some(1), "another kind has lines of its own");
        tokio::time::advance(PACE).await;
        assert_eq!(tally.refuse(Refusal::TlsHandshake), Some(1001));
        let page = metrics.render();
        let line = r#"portico_listener_refused_total{listener="public",reason="tls_handshake"} 1002"#;
        assert!(page.contains(line), "{page}");
    }

    #[test]
    fn open_connections_are_those_that_are_open() {
        let metrics = Metrics::new();
        let tally = Tally::new("public", Some(&metrics));
        let held = (tally.open(), tally.open());
        assert!(metrics.render().contains(r#"portico_listener_connections{listener="public"} 2"#));
        drop(held);
        assert!(metrics.render().contains(r#"portico_listener_connections{listener="public"} 0"#));
    }
}
