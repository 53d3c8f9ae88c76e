//! Token buckets, decided locally and without waiting.

mod desk;
mod share;

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::{DateTime, Utc};
use portico_process::Tasks;
use tokio::{sync::mpsc, time::Instant};

use crate::{lock, server::Server};
use desk::{Desk, Wish};
use share::Share;

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

    fn as_str(&self) -> &str {
        &self.0
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
/// are nearest to full are forgotten first. Time is the caller's.
///
/// # Replicas
///
/// With Redis the replicas share a second bucket for each key, by the server's clock. A call passes if its replica's
/// own bucket and the shared one have a token. Replicas lease tokens of the shared bucket ahead of need and spend
/// them without asking; a task settles, for many keys at once and once for many calls. What a replica does not need
/// is given back after a few seconds.
///
/// While a replica asks, for the first time or because its lease is used up, it may spend what the shared bucket
/// held when it last answered; it owes that. So all replicas together pass at most burst + rate × time +
/// (replicas - 1) × burst, the last only if all of them spend a whole burst in the few milliseconds that an answer
/// takes. It is paid back before anything else passes: over a longer time the limit holds exactly. While Redis is
/// down each replica grants the whole limit.
#[derive(Clone, Debug)]
pub struct RateLimiter {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    hasher: RandomState,
    shards: Vec<Mutex<Shard>>,
    keys_per_shard: usize,
    /// Where keys ask for their shared bucket, if there is one.
    desk: Option<mpsc::Sender<Wish>>,
}

type Shard = HashMap<LimitKey, Bucket, RandomState>;

#[derive(Debug)]
struct Bucket {
    /// When it is full again, in nanoseconds since 1970.
    full_at: i64,
    share: Share,
}

/// A refused call is not told to come back sooner than an answer may be there.
const SOONEST: Duration = Duration::from_millis(5);

impl RateLimiter {
    pub(crate) fn new() -> Self {
        Self::with_capacity(CAPACITY, None)
    }

    /// Makes a limiter whose buckets are also shared through Redis.
    pub(crate) fn in_redis(server: Server, tasks: &Tasks) -> Self {
        let (desk, wishes) = mpsc::channel(desk::QUEUE);
        let limiter = Self::with_capacity(CAPACITY, Some(desk));
        let desk = Desk::new(server, limiter.clone(), wishes);
        let shutdown = tasks.shutdown_token();
        tasks.spawn("coordination.rate_limits", async move {
            desk.run(shutdown).await;
            Ok::<_, std::convert::Infallible>(())
        });
        limiter
    }

    fn with_capacity(keys: usize, desk: Option<mpsc::Sender<Wish>>) -> Self {
        let hasher = RandomState::new();
        let shards = (0..SHARDS).map(|_| Mutex::new(HashMap::with_hasher(hasher.clone()))).collect();
        Self { shared: Arc::new(Shared { hasher, shards, keys_per_shard: keys.div_ceil(SHARDS), desk }) }
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
        let Some(bucket) = shard.get_mut(key) else {
            // A new bucket is full and knows of no other replica, so the token is there.
            if shard.len() >= self.shared.keys_per_shard {
                make_room(&mut shard, now);
            }
            let mut bucket = Bucket { full_at: now.saturating_add(interval), share: Share::default() };
            // Nothing is known yet that could refuse it.
            let _ = self.spend_shared(key, limit, &mut bucket.share);
            shard.insert(key.clone(), bucket);
            return Ok(());
        };
        // Not before now: an idle bucket does not grow beyond its depth. Not beyond an empty bucket: a clock that
        // was set back, or a limit that was lowered, locks nobody out for longer than one interval.
        bucket.full_at = bucket.full_at.clamp(now, now.saturating_add(depth));
        let next = bucket.full_at.saturating_add(interval);
        let wait = next.saturating_sub(now).saturating_sub(depth);
        if wait > 0 {
            // Rounded up to what the clock can tell.
            let micros = u64::try_from(wait).unwrap_or_default().div_ceil(1000);
            return Err(Limited { retry_after: Duration::from_micros(micros) });
        }
        self.spend_shared(key, limit, &mut bucket.share)?;
        bucket.full_at = next;
        Ok(())
    }

    /// Spends a token of the shared bucket, if there is one, and asks ahead of need.
    fn spend_shared(&self, key: &LimitKey, limit: Limit, share: &mut Share) -> Result<(), Limited> {
        let Some(desk) = &self.shared.desk else { return Ok(()) };
        let spent = share.spend();
        if share.wants_to_ask() {
            // Without room the next call asks.
            let wish = Wish { key: key.clone(), limit, at: share.ask_at() };
            share.set_asked(desk.try_send(wish).is_ok());
        }
        spent.map_err(|until| {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            Limited { retry_after: left.unwrap_or_default().max(SOONEST) }
        })
    }

    /// Changes what is known of a key's shared bucket, unless the key was forgotten.
    fn with_share<T>(&self, key: &LimitKey, change: impl FnOnce(&mut Share) -> T) -> Option<T> {
        self.shard(key).get_mut(key).map(|bucket| change(&mut bucket.share))
    }

    /// Lets the local buckets decide alone.
    fn forget_shares(&self) {
        for shard in &self.shared.shards {
            for bucket in lock(shard).values_mut() {
                bucket.share = Share::default();
            }
        }
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
    shard.retain(|_, bucket| bucket.full_at > now);
    if shard.len() < before {
        return;
    }
    let mut times: Vec<i64> = shard.values().map(|bucket| bucket.full_at).collect();
    let eighth = times.len() / 8;
    let (_, limit, _) = times.select_nth_unstable(eighth);
    let limit = *limit;
    shard.retain(|_, bucket| bucket.full_at > limit);
}

#[cfg(test)]
mod tests;
