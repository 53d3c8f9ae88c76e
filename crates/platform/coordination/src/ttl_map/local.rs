//! The map inside this process.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use portico_clock::SharedClock;

use crate::{expires_at, lock};

const SHARDS: usize = 16;

/// Bounds of one shard.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    entries: usize,
    bytes: usize,
}

const BOUNDS: Bounds = Bounds { entries: 100_000 / SHARDS, bytes: (64 << 20) / SHARDS };

/// Bounded in entries and bytes: when there is no room, the entries nearest to their expiry make some.
#[derive(Clone, Debug)]
pub(super) struct LocalMap {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clock: SharedClock,
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
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

impl LocalMap {
    pub(super) fn new(clock: SharedClock) -> Self {
        Self::bounded(clock, BOUNDS)
    }

    fn bounded(clock: SharedClock, bounds: Bounds) -> Self {
        let shards = std::array::from_fn(|_| Mutex::new(Shard::new(bounds)));
        Self { shared: Arc::new(Shared { clock, hasher: RandomState::new(), shards }) }
    }

    pub(super) fn get(&self, key: &str) -> Option<Bytes> {
        let now = self.shared.clock.now();
        self.shard(key).live(key, now).map(|entry| entry.value.clone())
    }

    pub(super) fn put(&self, key: &str, value: Bytes, ttl: Duration) {
        let now = self.shared.clock.now();
        self.shard(key).put(key, value, ttl, now);
    }

    pub(super) fn put_if_absent(&self, key: &str, value: Bytes, ttl: Duration) -> bool {
        let now = self.shared.clock.now();
        let mut shard = self.shard(key);
        if shard.live(key, now).is_some() {
            return false;
        }
        shard.put(key, value, ttl, now);
        true
    }

    pub(super) fn take(&self, key: &str) -> Option<Bytes> {
        let now = self.shared.clock.now();
        let mut shard = self.shard(key);
        let live = shard.live(key, now).is_some();
        shard.remove(key).filter(|_| live)
    }

    pub(super) fn swap(&self, key: &str, expected: &Bytes, value: Bytes, ttl: Duration) -> bool {
        let now = self.shared.clock.now();
        let mut shard = self.shard(key);
        if shard.live(key, now).is_none_or(|entry| entry.value != *expected) {
            return false;
        }
        shard.put(key, value, ttl, now);
        true
    }

    pub(super) fn touch(&self, key: &str, ttl: Duration) -> bool {
        self.renew(key, ttl).is_some()
    }

    pub(super) fn renew(&self, key: &str, ttl: Duration) -> Option<Bytes> {
        let now = self.shared.clock.now();
        let mut shard = self.shard(key);
        let value = shard.live(key, now)?.value.clone();
        shard.put(key, value.clone(), ttl, now);
        Some(value)
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

    fn map(bounds: Bounds) -> (LocalMap, MockClock) {
        let clock = MockClock::at(DateTime::from_timestamp(1_800_000_000, 0).unwrap());
        (LocalMap::bounded(Arc::new(clock.clone()), bounds), clock)
    }

    fn sizes(map: &LocalMap) -> (usize, usize) {
        map.shared.shards.iter().map(|s| lock(s)).fold((0, 0), |(entries, bytes), shard| {
            assert_eq!(shard.entries.len(), shard.by_expiry.len());
            (entries + shard.entries.len(), bytes + shard.bytes)
        })
    }

    #[test]
    fn entries_stay_bounded_and_the_ones_nearest_to_expiry_go_first() {
        let (map, _) = map(Bounds { entries: 4, ..BOUNDS });
        for n in 0..1000_u64 {
            map.put(&n.to_string(), Bytes::new(), Duration::from_secs(1000 - n));
            map.put("long", Bytes::new(), Duration::from_hours(1));
        }
        assert!(sizes(&map).0 <= 4 * SHARDS);
        assert!(map.get("long").is_some());
    }

    #[test]
    fn bytes_stay_bounded_and_are_given_back() {
        let (map, clock) = map(Bounds { bytes: 1000, ..BOUNDS });
        let ttl = Duration::from_mins(1);
        for n in 0..1000 {
            map.put(&n.to_string(), Bytes::from(vec![0; 400]), ttl);
        }
        assert!(sizes(&map).1 <= 1000 * SHARDS);

        clock.advance(TimeDelta::minutes(2));
        for n in 0..1000 {
            map.put(&n.to_string(), Bytes::new(), ttl);
            map.take(&n.to_string());
        }
        assert_eq!(sizes(&map), (0, 0), "what had expired is gone too");
    }

    #[test]
    fn an_endless_time_to_live_does_not_overflow() {
        let (map, _) = map(BOUNDS);
        map.put("k", Bytes::new(), Duration::MAX);
        assert!(map.touch("k", Duration::MAX));
    }
}
