//! A bounded map whose entries expire.

#![expect(clippy::unused_async, reason = "a shared backend waits for the network here")]

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use portico_clock::SharedClock;

use crate::{CoordinationError, expires_at, lock};

const SHARDS: usize = 16;

/// Bounds of one shard.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    entries: usize,
    bytes: usize,
    value: usize,
}

const BOUNDS: Bounds = Bounds { entries: 100_000 / SHARDS, bytes: (64 << 20) / SHARDS, value: 256 << 10 };

/// Values that replicas share until they expire: sessions, states of a login, one-time codes.
///
/// Bounded in entries and bytes: when there is no room, the entries nearest to their expiry make some. What must
/// not be lost belongs into a database.
#[derive(Clone, Debug)]
pub struct TtlMap {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clock: SharedClock,
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
    bounds: Bounds,
}

#[derive(Debug)]
struct Shard {
    bounds: Bounds,
    entries: HashMap<Arc<str>, Entry>,
    /// The same keys by when they expire; the number tells equal times apart.
    by_expiry: BTreeMap<(DateTime<Utc>, u64), Arc<str>>,
    next: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    value: Bytes,
    expiry: (DateTime<Utc>, u64),
}

impl TtlMap {
    pub(crate) fn in_process(clock: SharedClock) -> Self {
        Self::bounded(clock, BOUNDS)
    }

    fn bounded(clock: SharedClock, bounds: Bounds) -> Self {
        let shards = std::array::from_fn(|_| Mutex::new(Shard::new(bounds)));
        Self { shared: Arc::new(Shared { clock, hasher: RandomState::new(), shards, bounds }) }
    }

    /// Returns the value, unless it has expired.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, CoordinationError> {
        let now = self.shared.clock.now();
        Ok(self.shard(key).live(key, now).map(|entry| entry.value.clone()))
    }

    /// Sets the value and its time to live.
    pub async fn put(&self, key: &str, value: Bytes, ttl: Duration) -> Result<(), CoordinationError> {
        self.check(&value)?;
        let now = self.shared.clock.now();
        self.shard(key).put(key, value, ttl, now);
        Ok(())
    }

    /// Sets the value if there is none; of several racers exactly one gets true.
    pub async fn put_if_absent(
        &self,
        key: &str,
        value: Bytes,
        ttl: Duration,
    ) -> Result<bool, CoordinationError> {
        self.check(&value)?;
        let now = self.shared.clock.now();
        let mut shard = self.shard(key);
        if shard.live(key, now).is_some() {
            return Ok(false);
        }
        shard.put(key, value, ttl, now);
        Ok(true)
    }

    /// Removes the value and tells whether there was one.
    pub async fn remove(&self, key: &str) -> Result<bool, CoordinationError> {
        Ok(self.take(key).await?.is_some())
    }

    /// Removes the value and returns it; of several racers exactly one gets it.
    pub async fn take(&self, key: &str) -> Result<Option<Bytes>, CoordinationError> {
        let now = self.shared.clock.now();
        let mut shard = self.shard(key);
        let live = shard.live(key, now).is_some();
        Ok(shard.remove(key).filter(|_| live))
    }

    /// Gives the value a new time to live and tells whether there is one.
    pub async fn touch(&self, key: &str, ttl: Duration) -> Result<bool, CoordinationError> {
        let now = self.shared.clock.now();
        let mut shard = self.shard(key);
        let Some(value) = shard.live(key, now).map(|entry| entry.value.clone()) else {
            return Ok(false);
        };
        shard.put(key, value, ttl, now);
        Ok(true)
    }

    fn check(&self, value: &Bytes) -> Result<(), CoordinationError> {
        let limit = self.shared.bounds.value;
        if value.len() > limit {
            return Err(CoordinationError::TooLarge { length: value.len(), limit });
        }
        Ok(())
    }

    fn shard(&self, key: &str) -> MutexGuard<'_, Shard> {
        let hash = self.shared.hasher.hash_one(key);
        // The lowest bits, in range by the remainder.
        lock(&self.shared.shards[usize::try_from(hash % SHARDS as u64).unwrap_or_default()])
    }
}

impl Shard {
    fn new(bounds: Bounds) -> Self {
        Self { bounds, entries: HashMap::new(), by_expiry: BTreeMap::new(), next: 0, bytes: 0 }
    }

    fn live(&self, key: &str, now: DateTime<Utc>) -> Option<&Entry> {
        self.entries.get(key).filter(|entry| entry.expiry.0 > now)
    }

    fn put(&mut self, key: &str, value: Bytes, ttl: Duration, now: DateTime<Utc>) {
        self.remove(key);
        let size = cost(key, &value);
        self.make_room(size, now);
        let key: Arc<str> = Arc::from(key);
        let expiry = (expires_at(now, ttl), self.next);
        self.next += 1;
        self.bytes += size;
        self.by_expiry.insert(expiry, Arc::clone(&key));
        self.entries.insert(key, Entry { value, expiry });
    }

    /// Drops what has expired, and then what expires next, until there is room for one more entry.
    fn make_room(&mut self, size: usize, now: DateTime<Utc>) {
        while let Some((&(at, _), _)) = self.by_expiry.first_key_value() {
            let full = self.entries.len() >= self.bounds.entries || self.bytes + size > self.bounds.bytes;
            if at > now && !full {
                break;
            }
            if let Some((_, key)) = self.by_expiry.pop_first()
                && let Some(entry) = self.entries.remove(&key)
            {
                self.bytes -= cost(&key, &entry.value);
            }
        }
    }

    fn remove(&mut self, key: &str) -> Option<Bytes> {
        let entry = self.entries.remove(key)?;
        self.by_expiry.remove(&entry.expiry);
        self.bytes -= cost(key, &entry.value);
        Some(entry.value)
    }
}

fn cost(key: &str, value: &Bytes) -> usize {
    key.len() + value.len()
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use portico_clock::MockClock;

    use super::*;

    fn map(bounds: Bounds) -> (TtlMap, MockClock) {
        let clock = MockClock::at(DateTime::from_timestamp(1_800_000_000, 0).unwrap());
        (TtlMap::bounded(Arc::new(clock.clone()), bounds), clock)
    }

    fn sizes(map: &TtlMap) -> (usize, usize) {
        map.shared.shards.iter().map(|s| lock(s)).fold((0, 0), |(entries, bytes), shard| {
            assert_eq!(shard.entries.len(), shard.by_expiry.len());
            (entries + shard.entries.len(), bytes + shard.bytes)
        })
    }

    #[tokio::test]
    async fn entries_stay_bounded_and_the_ones_nearest_to_expiry_go_first() {
        let (map, _) = map(Bounds { entries: 4, ..BOUNDS });
        for n in 0..1000_u64 {
            map.put(&n.to_string(), Bytes::new(), Duration::from_secs(1000 - n)).await.unwrap();
            map.put("long", Bytes::new(), Duration::from_hours(1)).await.unwrap();
        }
        assert!(sizes(&map).0 <= 4 * SHARDS);
        assert!(map.get("long").await.unwrap().is_some());
    }

    #[tokio::test]
    async fn bytes_stay_bounded_and_are_given_back() {
        let (map, clock) = map(Bounds { bytes: 1000, value: 400, ..BOUNDS });
        let ttl = Duration::from_mins(1);
        for n in 0..1000 {
            map.put(&n.to_string(), Bytes::from(vec![0; 400]), ttl).await.unwrap();
        }
        assert!(sizes(&map).1 <= 1000 * SHARDS);
        let refused = map.put("k", Bytes::from(vec![0; 401]), ttl).await.unwrap_err();
        assert!(matches!(refused, CoordinationError::TooLarge { length: 401, limit: 400 }));

        clock.advance(TimeDelta::minutes(2));
        for n in 0..1000 {
            map.put(&n.to_string(), Bytes::new(), ttl).await.unwrap();
            map.remove(&n.to_string()).await.unwrap();
        }
        assert_eq!(sizes(&map), (0, 0), "what had expired is gone too");
    }

    #[tokio::test]
    async fn an_endless_time_to_live_does_not_overflow() {
        let (map, _) = map(BOUNDS);
        map.put("k", Bytes::new(), Duration::MAX).await.unwrap();
        assert!(map.touch("k", Duration::MAX).await.unwrap());
    }
}
