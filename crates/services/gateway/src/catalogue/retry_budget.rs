//! How often calls may be sent a second time.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Calls that earn one retry: retries add a fifth to the load, the ratio that Linkerd (`retryRatio: 0.2`) and Envoy
/// (`budget_percent: 20`) have by default.
const CALLS_PER_RETRY: u32 = 5;
/// Retries that need no calls, so that few calls are helped too: ten a second, for ten seconds (Linkerd's
/// `minRetriesPerSecond: 10`, `ttl: 10s`).
const FREE_PER_SECOND: u32 = 10;
const FREE: u32 = 100 * CALLS_PER_RETRY;
/// Most that calls can earn in advance.
const MOST: u32 = 1000 * CALLS_PER_RETRY;
/// The time in which the free part of a call's worth comes back.
const TICK: Duration = Duration::from_millis(1000 / (FREE_PER_SECOND * CALLS_PER_RETRY) as u64);

/// The retry budget of one server: a bucket that calls and time fill, so that a server whose instances are dead never gets
/// twice its load.
///
/// Within any time, retries are at most a fifth of the calls, ten a second and what the bucket holds.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    since: Instant,
    /// In calls; [`CALLS_PER_RETRY`] of them pay one retry.
    balance: AtomicU32,
    /// Up to which tick after `since` time has paid.
    paid: AtomicU64,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { since: Instant::now(), balance: AtomicU32::new(FREE), paid: AtomicU64::new(0) }
    }
}

impl RetryBudget {
    /// Notes a call.
    pub(crate) fn deposit(&self) {
        self.fill(1, MOST);
    }

    /// Takes the price of one retry; `false` if there is too little.
    pub(crate) fn withdraw(&self) -> bool {
        self.take_in_time();
        let price = |balance: u32| balance.checked_sub(CALLS_PER_RETRY);
        self.balance.fetch_update(Ordering::Relaxed, Ordering::Relaxed, price).is_ok()
    }

    /// Whether there is the price of one retry just now.
    pub(crate) fn covers_one(&self) -> bool {
        self.take_in_time();
        self.balance.load(Ordering::Relaxed) >= CALLS_PER_RETRY
    }

    /// Adds what time has paid since it was last asked.
    fn take_in_time(&self) {
        let tick = u64::try_from(self.since.elapsed().as_millis() / TICK.as_millis()).unwrap_or(u64::MAX);
        let ticks = tick.saturating_sub(self.paid.fetch_max(tick, Ordering::Relaxed));
        self.fill(u32::try_from(ticks).unwrap_or(u32::MAX), FREE);
    }

    /// Empties it, and lets time pay nothing any more.
    #[cfg(test)]
    pub(crate) fn close(&self) {
        self.paid.store(u64::MAX, Ordering::Relaxed);
        self.balance.store(0, Ordering::Relaxed);
    }

    /// Adds to a balance that is below `most`, up to it.
    fn fill(&self, calls: u32, most: u32) {
        let more = |balance: u32| (balance < most).then(|| balance.saturating_add(calls).min(most));
        // A full bucket stays as it is.
        let _ = self.balance.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(budget: &RetryBudget) -> usize {
        std::iter::from_fn(|| budget.withdraw().then_some(())).count()
    }

    #[tokio::test(start_paused = true)]
    async fn s2_08_retries_are_a_fifth_of_the_calls_and_ten_a_second() {
        let budget = RetryBudget::default();
        assert_eq!(drain(&budget), 100, "ten seconds' worth at the start");
        assert_eq!(drain(&budget), 0);
        for _ in 0..50 {
            budget.deposit();
        }
        assert_eq!(drain(&budget), 10, "a fifth of the calls");
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(drain(&budget), 30, "ten a second");
        tokio::time::advance(Duration::from_hours(1)).await;
        assert_eq!(drain(&budget), 100, "time alone saves up no more than ten seconds");
    }

    #[tokio::test(start_paused = true)]
    async fn what_calls_earn_in_advance_is_bounded_and_time_takes_none_of_it() {
        let budget = RetryBudget::default();
        for _ in 0..MOST * 2 {
            budget.deposit();
        }
        tokio::time::advance(Duration::from_mins(1)).await;
        assert_eq!(drain(&budget), 1000);
    }

    #[tokio::test(start_paused = true)]
    async fn time_pays_also_when_it_is_asked_often() {
        let budget = RetryBudget::default();
        drain(&budget);
        let mut paid = 0;
        for _ in 0..1000 {
            tokio::time::advance(Duration::from_millis(1)).await;
            paid += drain(&budget);
        }
        assert_eq!(paid, 10);
    }
}
