//! When an instance counts as healthy, and when it is looked at next (S4-36).

use std::time::Duration;

use portico_ids::Rng;

use crate::settings::WorkerSettings;
use crate::spec::Check;

/// What is known of an instance's health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Status {
    Healthy,
    /// With what the last probe said.
    Unhealthy(String),
}

/// Turns single probes into a status: one success heals, only `retries` failures in a row make ill.
#[derive(Debug, Default)]
pub(crate) struct Health {
    failures: u32,
    status: Option<Status>,
}

impl Health {
    pub(crate) fn passed(&mut self) {
        self.failures = 0;
        self.status = Some(Status::Healthy);
    }

    pub(crate) fn failed(&mut self, check: &Check, reason: String) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= check.retries {
            self.status = Some(Status::Unhealthy(reason));
        }
    }

    /// `None` until the first probe that says something.
    pub(crate) fn status(&self) -> Option<&Status> {
        self.status.as_ref()
    }

    pub(crate) fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// How long to wait for the next probe.
    ///
    /// A failure is looked at again soon, so that a blip is told from an outage; the wait then doubles, up to the
    /// interval while the status is in doubt and up to the backoff limit once it is known.
    pub(crate) fn delay(&self, check: &Check, settings: &WorkerSettings) -> Duration {
        if self.failures == 0 {
            return check.interval;
        }
        let limit = if self.failures < check.retries {
            check.interval
        } else {
            check.interval.max(settings.backoff_limit())
        };
        doubled(settings.retry_delay(), self.failures - 1, limit)
    }
}

/// The wait after `times` doublings, at most `limit`.
pub(crate) fn doubled(first: Duration, times: u32, limit: Duration) -> Duration {
    first.saturating_mul(1_u32.checked_shl(times).unwrap_or(u32::MAX)).min(limit)
}

/// Spreads a wait by a tenth in both directions, so that what began together does not stay together.
pub(crate) fn jittered(wait: Duration, rng: &dyn Rng) -> Duration {
    let mut byte = [0];
    rng.fill(&mut byte);
    wait.mul_f64(0.9 + 0.2 * f64::from(byte[0]) / 255.0)
}

#[cfg(test)]
mod tests {
    use portico_ids::SeededRng;

    use super::*;

    fn check() -> Check {
        Check { url: None, interval: Duration::from_secs(30), timeout: Duration::from_secs(5), retries: 3 }
    }

    #[test]
    fn s4_36_only_failures_in_a_row_make_unhealthy() {
        let (mut health, check) = (Health::default(), check());
        for _ in 0..5 {
            health.failed(&check, "down".to_owned());
            health.failed(&check, "down".to_owned());
            assert_ne!(health.status(), Some(&Status::Unhealthy("down".to_owned())));
            health.passed();
        }
        assert_eq!(health.status(), Some(&Status::Healthy));
        for _ in 0..3 {
            health.failed(&check, "down".to_owned());
        }
        assert_eq!(health.status(), Some(&Status::Unhealthy("down".to_owned())));
    }

    #[test]
    fn s4_42_one_success_heals() {
        let (mut health, check) = (Health::default(), check());
        (0..9).for_each(|_| health.failed(&check, "down".to_owned()));
        health.passed();
        assert_eq!(health.status(), Some(&Status::Healthy));
        assert_eq!(health.delay(&check, &WorkerSettings::default()), check.interval);
    }

    #[test]
    fn failures_are_confirmed_soon_and_backed_off_later() {
        let (mut health, check) = (Health::default(), check());
        let settings = WorkerSettings::default();
        let delays: Vec<u64> = (0..9)
            .map(|_| {
                health.failed(&check, "down".to_owned());
                health.delay(&check, &settings).as_secs()
            })
            .collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        let frequent = Check { interval: Duration::from_secs(3), retries: 100, ..check };
        assert_eq!(health.delay(&frequent, &settings), frequent.interval);
        assert_eq!(doubled(Duration::from_secs(1), 400, Duration::from_mins(1)), Duration::from_mins(1));
    }

    #[test]
    fn jitter_stays_within_a_tenth() {
        let rng = SeededRng::new(1);
        let waits: Vec<Duration> = (0..100).map(|_| jittered(Duration::from_secs(10), &rng)).collect();
        assert!(waits.iter().all(|w| (Duration::from_secs(9)..=Duration::from_secs(11)).contains(w)));
        assert!(waits.iter().any(|wait| wait != &waits[0]));
    }
}
