//! How long a follower waits before it connects again.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use chrono::{DateTime, Utc};

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);

/// Exponential backoff with jitter: half of the pause is fixed, half depends on the moment.
///
/// The jitter only has to keep replicas from reconnecting in step, and no two fail in the same microsecond.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    pub(crate) fn next(&mut self, now: DateTime<Utc>) -> Duration {
        let pause = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let mut hasher = DefaultHasher::new();
        (now.timestamp_micros(), self.failures).hash(&mut hasher);
        let share = u32::try_from(hasher.finish() % 1024).unwrap_or_default();
        pause / 2 + pause / 2 * share / 1024
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_start_again() {
        let mut backoff = Backoff::default();
        let now = DateTime::UNIX_EPOCH;
        let pauses: Vec<_> = (0..40).map(|_| backoff.next(now)).collect();
        assert!((FIRST / 2..=FIRST).contains(&pauses[0]));
        assert!(pauses[10..].iter().all(|pause| (LONGEST / 2..=LONGEST).contains(pause)));
        backoff.reset();
        assert!(backoff.next(now) <= FIRST);
    }

    #[test]
    fn replicas_do_not_reconnect_in_step() {
        let at = |micros| {
            let mut backoff = Backoff { failures: 9 };
            backoff.next(DateTime::from_timestamp_micros(micros).unwrap())
        };
        assert_ne!(at(1), at(2));
    }
}
