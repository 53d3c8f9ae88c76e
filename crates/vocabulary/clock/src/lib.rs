//! Wall-clock time as a parameter.
//!
//! Code that needs to know what time it is takes a [`Clock`]; code that waits uses `tokio::time`.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Duration, SubsecRound, Utc};

/// Tells the current time.
pub trait Clock: Send + Sync + Debug {
    /// Returns the current time, truncated to microseconds: the precision that both databases keep.
    fn now(&self) -> DateTime<Utc>;
}

/// A clock that tasks and requests share.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now().trunc_subsecs(6)
    }
}

/// A clock for tests: it stands still until it is moved, and its clones share one time.
#[derive(Debug, Clone)]
pub struct MockClock {
    now: Arc<Mutex<DateTime<Utc>>>,
}

impl MockClock {
    /// Makes a clock that stands at `now`.
    #[must_use]
    pub fn at(now: DateTime<Utc>) -> Self {
        Self { now: Arc::new(Mutex::new(now.trunc_subsecs(6))) }
    }

    /// Moves the clock by `step`, which may be negative.
    pub fn advance(&self, step: Duration) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        *now = (*now + step).trunc_subsecs(6);
    }

    /// Puts the clock at `now`.
    pub fn set(&self, now: DateTime<Utc>) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = now.trunc_subsecs(6);
    }
}

impl Clock for MockClock {
    fn now(&self) -> DateTime<Utc> {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 123_456_789).unwrap()
    }

    #[test]
    fn clones_of_a_mock_clock_move_together() {
        let clock = MockClock::at(start());
        let shared: SharedClock = Arc::new(clock.clone());
        clock.advance(Duration::seconds(5));
        assert_eq!(shared.now(), start().trunc_subsecs(6) + Duration::seconds(5));
        clock.set(start());
        assert_eq!(shared.now(), start().trunc_subsecs(6));
    }

    #[test]
    fn times_have_microsecond_precision() {
        assert_eq!(MockClock::at(start()).now().timestamp_subsec_nanos(), 123_456_000);
        assert_eq!(SystemClock.now().timestamp_subsec_nanos() % 1000, 0);
    }
}
