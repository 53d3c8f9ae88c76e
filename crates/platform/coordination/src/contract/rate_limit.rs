use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::Suite;
use crate::{Limit, LimitKey, RateLimiter};

/// One token a second, three at once.
const LIMIT: Limit = Limit { per_minute: 60, burst: 3 };

fn at(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap() + TimeDelta::milliseconds(millis)
}

fn key() -> LimitKey {
    LimitKey::new("principal", "p")
}

/// Takes tokens until there is none.
fn drain(limiter: &RateLimiter, key: &LimitKey, limit: Limit, now: DateTime<Utc>) -> usize {
    (0..1000).take_while(|_| limiter.try_acquire(key, limit, now).is_ok()).count()
}

pub(super) async fn a_full_bucket_holds_the_burst_and_refills_evenly<P: AsyncFn(Duration)>(suite: &Suite<P>) {
    let limiter = suite.backend.rate_limiter();
    assert_eq!(drain(&limiter, &key(), LIMIT, at(0)), 3);
    assert_eq!(drain(&limiter, &key(), LIMIT, at(999)), 0);
    assert_eq!(drain(&limiter, &key(), LIMIT, at(1000)), 1);
    assert_eq!(drain(&limiter, &key(), LIMIT, at(3000)), 2);
    assert_eq!(
        drain(&limiter, &key(), LIMIT, at(3_600_000)),
        3,
        "an idle bucket holds no more than the burst"
    );
    let minute: usize = (0..60).map(|s| drain(&limiter, &key(), LIMIT, at(7_200_000 + s * 1000))).sum();
    assert_eq!(minute, 3 + 59);
}

pub(super) async fn waiting_as_told_is_enough_and_no_shorter_wait_is<P: AsyncFn(Duration)>(suite: &Suite<P>) {
    let limiter = suite.backend.rate_limiter();
    for per_minute in [1, 7, 60, 61, 12_345, 1_000_000] {
        let limit = Limit { per_minute, burst: 5 };
        let key = LimitKey::new("rate", &per_minute.to_string());
        let mut now = at(0);
        assert_eq!(drain(&limiter, &key, limit, now), 5);
        for _ in 0..100 {
            let wait = limiter.try_acquire(&key, limit, now).unwrap_err().retry_after;
            now += TimeDelta::from_std(wait).unwrap();
            let too_early = now - TimeDelta::microseconds(1);
            limiter.try_acquire(&key, limit, too_early).unwrap_err();
            limiter.try_acquire(&key, limit, now).unwrap();
        }
    }
}

pub(super) async fn one_key_takes_nothing_from_another<P: AsyncFn(Duration)>(suite: &Suite<P>) {
    let limiter = suite.backend.rate_limiter();
    let (greedy, modest) = (LimitKey::new("principal", "greedy"), LimitKey::new("principal", "modest"));
    for second in 0..60 {
        let now = at(second * 1000);
        drain(&limiter, &greedy, LIMIT, now);
        limiter.try_acquire(&modest, LIMIT, now).unwrap();
    }
    let other_scope = LimitKey::new("endpoint", "greedy");
    assert_eq!(drain(&limiter, &other_scope, LIMIT, at(59_000)), 3);
}

pub(super) async fn a_clock_that_is_set_back_locks_nobody_out<P: AsyncFn(Duration)>(suite: &Suite<P>) {
    let limiter = suite.backend.rate_limiter();
    assert_eq!(drain(&limiter, &key(), LIMIT, at(3_600_000)), 3);
    let wait = limiter.try_acquire(&key(), LIMIT, at(0)).unwrap_err().retry_after;
    assert!(wait <= Duration::from_secs(1), "{wait:?}");
    assert_eq!(drain(&limiter, &key(), LIMIT, at(1000)), 1, "{wait:?}");
}

pub(super) async fn a_limit_of_zero_lets_nothing_pass<P: AsyncFn(Duration)>(suite: &Suite<P>) {
    let limiter = suite.backend.rate_limiter();
    for limit in [Limit { per_minute: 0, burst: 9 }, Limit { per_minute: 9, burst: 0 }] {
        limiter.try_acquire(&key(), limit, at(0)).unwrap_err();
    }
}
