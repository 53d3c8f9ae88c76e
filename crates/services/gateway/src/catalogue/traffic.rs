//! How an instance fares with the calls of this gateway.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// How long an instance that took no connection gets none of the calls that another one can take.
const EJECTED_FOR: Duration = Duration::from_secs(10);

/// Calls in flight, and passive outlier ejection: an instance whose connections fail has few calls in flight, so that by load
/// alone it would be the first choice until the worker's next probe.
#[derive(Debug)]
pub(crate) struct Traffic {
    in_flight: AtomicUsize,
    since: Instant,
    /// Until when it is ejected, in milliseconds after `since`; 0: it never was.
    ejected_until: AtomicU64,
}

impl Default for Traffic {
    fn default() -> Self {
        Self { in_flight: AtomicUsize::new(0), since: Instant::now(), ejected_until: AtomicU64::new(0) }
    }
}

impl Traffic {
    pub(crate) fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Notes that it took no connection; `true` if it was not ejected already.
    pub(crate) fn eject(&self) -> bool {
        let before = self.ejected_until.swap(self.age(EJECTED_FOR), Ordering::Relaxed);
        !self.is_before(before)
    }

    /// Notes that it answered.
    pub(crate) fn answered(&self) {
        // Written only where there is something to change: all calls of the instance read it.
        if self.ejected_until.load(Ordering::Relaxed) != 0 {
            self.ejected_until.store(0, Ordering::Relaxed);
        }
    }

    /// Whether it took no connection a moment ago; once the time is over, a call tries it again.
    pub(crate) fn is_ejected(&self) -> bool {
        self.is_before(self.ejected_until.load(Ordering::Relaxed))
    }

    fn is_before(&self, until: u64) -> bool {
        until != 0 && self.age(Duration::ZERO) < until
    }

    fn age(&self, and: Duration) -> u64 {
        u64::try_from((self.since.elapsed() + and).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_instance_that_took_no_connection_is_tried_again_after_a_while() {
        let traffic = Traffic::default();
        assert!(!traffic.is_ejected());
        assert!(traffic.eject());
        assert!(traffic.is_ejected());
        assert!(!traffic.eject(), "it is already");
        tokio::time::advance(EJECTED_FOR).await;
        assert!(!traffic.is_ejected());
        assert!(traffic.eject(), "anew");
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_that_answers_is_ejected_no_longer() {
        let traffic = Traffic::default();
        traffic.eject();
        traffic.answered();
        assert!(!traffic.is_ejected());
    }
}
