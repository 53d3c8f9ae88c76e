//! How an instance fares with the calls of this gateway.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long an instance that takes no connection gets none of the calls that another one can take: at first, and at most.
/// Each call that has tried it in vain doubles the time.
const EJECTED_FOR: Duration = Duration::from_secs(10);
const EJECTED_AT_MOST: Duration = Duration::from_mins(1);
/// How long the call that tries an ejected instance keeps others from doing the same.
const TRIAL: Duration = Duration::from_secs(10);
/// Calls in a row that reach an instance and come to nothing before it is ejected (Envoy's
/// `consecutive_gateway_failure` has the same default).
const UNANSWERED: u32 = 5;

/// Calls in flight, and passive outlier ejection: an instance whose connections fail has few calls in flight, so that by load
/// alone it would be the first choice until the worker's next probe.
///
/// Once an ejection is over the instance is half open: one call tries it, and the others wait for what becomes of that.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    in_flight: AtomicUsize,
    /// Calls in a row that came to nothing.
    unanswered: AtomicU32,
    /// How often it was ejected. What began before the newest ejection tells nothing new.
    ejections: AtomicU32,
    /// Whether it is ejected or half open. All calls read it; the lock is taken only then.
    is_out: AtomicBool,
    outage: Mutex<Outage>,
    /// Cancelled once the catalogue no longer has the instance at its address.
    departed: CancellationToken,
}

#[derive(Debug, Default)]
struct Outage {
    /// Ejections since it last answered.
    in_a_row: u32,
    /// Until when no call tries it.
    until: Option<Instant>,
    /// Whether one does just now.
    on_trial: bool,
}

/// The number of ejections that there had been when a call began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Begun(u32);

impl Traffic {
    pub(crate) fn begin(&self) -> Begun {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Begun(self.ejections.load(Ordering::Relaxed))
    }

    pub(crate) fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Notes that a call got no connection; `true` if the instance is ejected for that. `random` is any number.
    pub(crate) fn not_connected(&self, begun: Begun, random: u32) -> bool {
        let now = Instant::now();
        let mut outage = self.outage();
        let is_known = outage.until.is_some_and(|until| now < until && !outage.on_trial);
        if is_known || begun.0 != self.ejections.load(Ordering::Relaxed) {
            return false;
        }
        outage.in_a_row = outage.in_a_row.saturating_add(1);
        outage.until = Some(now + ejected_for(outage.in_a_row, random));
        outage.on_trial = false;
        self.ejections.fetch_add(1, Ordering::Relaxed);
        self.unanswered.store(0, Ordering::Relaxed);
        self.is_out.store(true, Ordering::Relaxed);
        true
    }

    /// Notes that a call may have reached it and came to nothing; `true` if the instance is ejected for that.
    pub(crate) fn not_answered(&self, begun: Begun, random: u32) -> bool {
        let in_a_row = self.unanswered.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        (in_a_row >= UNANSWERED || !self.is_good()) && self.not_connected(begun, random)
    }

    /// Notes that it answered; `true` if it was ejected before.
    pub(crate) fn answered(&self, begun: Begun) -> bool {
        // Written only where there is something to change: all calls of the instance read it.
        if self.unanswered.load(Ordering::Relaxed) != 0 {
            self.unanswered.store(0, Ordering::Relaxed);
        }
        if self.is_good() {
            return false;
        }
        let mut outage = self.outage();
        // A server that shuts down still answers what it has begun.
        if begun.0 != self.ejections.load(Ordering::Relaxed) || outage.until.is_none() {
            return false;
        }
        *outage = Outage::default();
        self.is_out.store(false, Ordering::Relaxed);
        true
    }

    /// Whether it took its last connection, as far as is known.
    pub(crate) fn is_good(&self) -> bool {
        !self.is_out.load(Ordering::Relaxed)
    }

    /// Whether the caller is the one to try it, because its ejection is over. One that never tells what came of it, as when
    /// its agent has left, is followed by another one.
    pub(crate) fn claim_trial(&self) -> bool {
        if self.is_good() {
            return false;
        }
        let now = Instant::now();
        let mut outage = self.outage();
        if outage.until.is_none_or(|until| now < until) {
            return false;
        }
        outage.until = Some(now + TRIAL);
        outage.on_trial = true;
        true
    }

    /// Says that the catalogue no longer has it.
    pub(super) fn depart(&self) {
        self.departed.cancel();
    }

    /// Cancelled once the catalogue no longer has it.
    pub(crate) fn departed(&self) -> &CancellationToken {
        &self.departed
    }

    fn outage(&self) -> MutexGuard<'_, Outage> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Up to a half more than the time itself, at random: gateways shall not all try at once.
fn ejected_for(in_a_row: u32, random: u32) -> Duration {
    let doubled = EJECTED_FOR.saturating_mul(1 << in_a_row.saturating_sub(1).min(16));
    let time = doubled.min(EJECTED_AT_MOST);
    time + (time / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A call that gets no connection.
    fn fail(traffic: &Traffic) -> bool {
        traffic.not_connected(begun(traffic), 0)
    }

    fn begun(traffic: &Traffic) -> Begun {
        let begun = traffic.begin();
        traffic.end();
        begun
    }

    #[tokio::test(start_paused = true)]
    async fn s2_08_after_an_ejection_one_call_at_a_time_tries_the_instance() {
        let traffic = Traffic::default();
        assert!(traffic.is_good() && !traffic.claim_trial());
        assert!(fail(&traffic));
        assert!(!traffic.is_good() && !traffic.claim_trial(), "not yet");
        assert!(!fail(&traffic), "it is known already");
        tokio::time::advance(EJECTED_FOR).await;
        assert!(traffic.claim_trial());
        assert!(!traffic.claim_trial(), "somebody does it");
        assert!(traffic.answered(begun(&traffic)));
        assert!(traffic.is_good() && !traffic.claim_trial());
    }

    #[tokio::test(start_paused = true)]
    async fn s2_08_a_trial_that_nobody_hears_of_again_is_followed_by_another() {
        let traffic = Traffic::default();
        fail(&traffic);
        tokio::time::advance(EJECTED_FOR).await;
        assert!(traffic.claim_trial());
        tokio::time::advance(TRIAL).await;
        assert!(traffic.claim_trial());
    }

    #[tokio::test(start_paused = true)]
    async fn s2_08_ejections_grow_up_to_a_bound_and_begin_anew_after_an_answer() {
        let traffic = Traffic::default();
        for seconds in [10, 20, 40, 60, 60] {
            assert!(fail(&traffic));
            tokio::time::advance(Duration::from_millis(seconds * 1000 - 1)).await;
            assert!(!traffic.claim_trial(), "{seconds}");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(traffic.claim_trial(), "{seconds}");
        }
        assert!(traffic.answered(begun(&traffic)));
        assert!(fail(&traffic));
        tokio::time::advance(EJECTED_FOR).await;
        assert!(traffic.claim_trial());
    }

    #[test]
    fn s2_08_ejections_last_up_to_a_half_longer_at_random() {
        assert_eq!(ejected_for(1, 0), EJECTED_FOR);
        assert_eq!(ejected_for(1, u32::MAX), EJECTED_FOR * 3 / 2);
        assert_eq!(ejected_for(u32::MAX, u32::MAX), EJECTED_AT_MOST * 3 / 2);
        let middle = ejected_for(1, u32::MAX / 2);
        assert!(middle > EJECTED_FOR && middle < EJECTED_FOR * 3 / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_began_before_the_ejection_neither_ends_nor_prolongs_it() {
        let traffic = Traffic::default();
        let before = begun(&traffic);
        assert!(fail(&traffic));
        assert!(!traffic.answered(before), "it finishes what it has begun, and takes nothing new");
        assert!(!traffic.is_good());
        tokio::time::advance(EJECTED_FOR).await;
        assert!(!traffic.not_connected(before, 0));
        assert!(traffic.claim_trial());
    }

    #[tokio::test(start_paused = true)]
    async fn s2_08_calls_in_a_row_without_an_answer_eject_an_instance() {
        let traffic = Traffic::default();
        for _ in 1..UNANSWERED {
            assert!(!traffic.not_answered(begun(&traffic), 0));
        }
        traffic.answered(begun(&traffic));
        for _ in 1..UNANSWERED {
            assert!(!traffic.not_answered(begun(&traffic), 0), "counted anew");
        }
        assert!(traffic.not_answered(begun(&traffic), 0));
        tokio::time::advance(EJECTED_FOR).await;
        assert!(traffic.claim_trial());
        assert!(traffic.not_answered(begun(&traffic), 0), "one trial is enough");
        assert!(!traffic.is_good() && !traffic.claim_trial());
    }
}
