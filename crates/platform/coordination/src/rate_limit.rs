//! Token buckets, decided locally and without waiting.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::{DateTime, Utc};

use crate::lock;

const SHARDS: usize = 64;
/// How many keys are kept; one takes about a hundred bytes.
const CAPACITY: usize = 65_536;
const MINUTE_NANOS: i64 = 60_000_000_000;

/// What a limit applies to. Making one allocates: keep it where it is used often.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LimitKey(Arc<str>);

impl LimitKey {
    /// Names a bucket: `LimitKey::new("principal", id)`; for the whole gateway the subject is empty.
    #[must_use]
    pub fn new(scope: &str, subject: &str) -> Self {
        // Scopes are constants of the program and hold no colon, so different pairs have different texts.
        Self(format!("{scope}:{subject}").into())
    }
}

/// How much passes through a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// How many tokens come back in a minute, evenly; with 0 nothing passes.
    pub per_minute: u32,
    /// How many tokens a full bucket holds; with 0 nothing passes.
    pub burst: u32,
}

/// The bucket is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rate limit reached: try again in {retry_after:?}")]
pub struct Limited {
    /// After this time one token is there, unless somebody else takes it.
    pub retry_after: Duration,
}

/// Many token buckets; a clone shares them.
///
/// A bucket is one number, the time at which it is full again (the generic cell rate algorithm, ITU-T I.371). A
/// full bucket is the same as none, so idle keys cost nothing and memory is bounded: without room the buckets that
/// are nearest to full are forgotten first.
#[derive(Clone, Debug)]
pub struct RateLimiter {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    hasher: RandomState,
    shards: Vec<Mutex<Shard>>,
    keys_per_shard: usize,
}

/// When each bucket is full again, in nanoseconds since 1970.
type Shard = HashMap<LimitKey, i64, RandomState>;

impl RateLimiter {
    pub(crate) fn new() -> Self {
        Self::with_capacity(CAPACITY)
    }

    fn with_capacity(keys: usize) -> Self {
        let hasher = RandomState::new();
        let shards = (0..SHARDS).map(|_| Mutex::new(HashMap::with_hasher(hasher.clone()))).collect();
        Self { shared: Arc::new(Shared { hasher, shards, keys_per_shard: keys.div_ceil(SHARDS) }) }
    }

    /// Takes one token, or tells when to come back.
    pub fn try_acquire(&self, key: &LimitKey, limit: Limit, now: DateTime<Utc>) -> Result<(), Limited> {
        if limit.per_minute == 0 || limit.burst == 0 {
            return Err(Limited { retry_after: Duration::from_mins(1) });
        }
        let interval = MINUTE_NANOS / i64::from(limit.per_minute);
        let depth = interval.saturating_mul(limit.burst.into());
        let now = now.timestamp_micros().saturating_mul(1000);

        let mut shard = self.shard(key);
        let stored = shard.get_mut(key);
        let full_at = stored.as_deref().copied().unwrap_or(now);
        // Not before now: an idle bucket does not grow beyond its depth. Not beyond an empty bucket: a clock that
        // was set back, or a limit that was lowered, locks nobody out for longer than one interval.
        let full_at = full_at.clamp(now, now.saturating_add(depth));
        let next = full_at.saturating_add(interval);
        let wait = next.saturating_sub(now).saturating_sub(depth);
        let passes = wait <= 0;
        if let Some(stored) = stored {
            *stored = if passes { next } else { full_at };
        } else {
            // A new bucket is full, so the token is there.
            if shard.len() >= self.shared.keys_per_shard {
                make_room(&mut shard, now);
            }
            shard.insert(key.clone(), next);
        }
        if passes {
            return Ok(());
        }
        // Rounded up to what the clock can tell.
        let micros = u64::try_from(wait).unwrap_or_default().div_ceil(1000);
        Err(Limited { retry_after: Duration::from_micros(micros) })
    }

    fn shard(&self, key: &LimitKey) -> std::sync::MutexGuard<'_, Shard> {
        // The upper bits: the map inside uses the lower ones of the same hash.
        let hash = self.shared.hasher.hash_one(key) >> 40;
        lock(&self.shared.shards[usize::try_from(hash % SHARDS as u64).unwrap_or_default()])
    }
}

/// Forgets full buckets, and if all are in use an eighth of them, the fullest.
fn make_room(shard: &mut Shard, now: i64) {
    let before = shard.len();
    shard.retain(|_, full_at| *full_at > now);
    if shard.len() < before {
        return;
    }
    let mut times: Vec<i64> = shard.values().copied().collect();
    let eighth = times.len() / 8;
    let (_, limit, _) = times.select_nth_unstable(eighth);
    let limit = *limit;
    shard.retain(|_, full_at| *full_at > limit);
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    const LIMIT: Limit = Limit { per_minute: 60, burst: 3 };

    fn start() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn keys(limiter: &RateLimiter) -> usize {
        limiter.shared.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    #[test]
    fn memory_stays_bounded_and_an_empty_bucket_is_not_forgotten_for_fuller_ones() {
        let limiter = RateLimiter::with_capacity(SHARDS * 8);
        let empty = LimitKey::new("principal", "greedy");
        for _ in 0..3 {
            limiter.try_acquire(&empty, LIMIT, start()).unwrap();
        }
        for n in 0..10_000 {
            limiter.try_acquire(&LimitKey::new("principal", &n.to_string()), LIMIT, start()).unwrap();
        }
        assert!(keys(&limiter) <= SHARDS * 8, "{}", keys(&limiter));
        assert!(limiter.try_acquire(&empty, LIMIT, start()).is_err());
    }

    #[test]
    fn idle_keys_make_room() {
        let limiter = RateLimiter::with_capacity(SHARDS * 8);
        let later = start() + TimeDelta::minutes(1);
        for n in 0..10_000 {
            limiter.try_acquire(&LimitKey::new("idle", &n.to_string()), LIMIT, start()).unwrap();
        }
        for n in 0..10_000 {
            limiter.try_acquire(&LimitKey::new("idle", &n.to_string()), LIMIT, later).unwrap();
        }
        assert!(keys(&limiter) <= SHARDS * 8);
    }

    #[test]
    fn threads_together_get_no_more_than_the_burst() {
        let limiter = RateLimiter::new();
        let limit = Limit { per_minute: 1, burst: 100 };
        let key = LimitKey::new("principal", "p");
        let passed: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        (0..100).filter(|_| limiter.try_acquire(&key, limit, start()).is_ok()).count()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(passed, 100);
    }
}
