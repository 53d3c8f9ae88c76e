use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use portico_coordination::{CoordinationError, TtlMap};
use portico_ids::ServerId;
use portico_sealing::HandleSealer;
use serde::{Deserialize, Serialize};

/// Seconds of one bucket.
const WIDTH: i64 = 5;
/// Seconds by which clocks of replicas may differ.
const SKEW: i64 = 120;
/// Most replicas that write into the same bucket.
const MAX_LANES: u32 = 1_024;
/// Entries that may be missing in a row: whose write failed.
const MAX_HOLES: u32 = 8;
/// Most upstream sessions in one entry.
const PER_ENTRY: usize = 256;
/// How long a bucket waits for somebody to look at it once it is due: the longest time without any gateway.
const KEPT: Duration = Duration::from_hours(48);
/// What entries are sealed as.
const SEAL: &str = "session_wheel";
/// Where the next bucket to be looked at is written down.
const NEXT: &str = "x/next";

/// An upstream session, of which somebody has to look at a certain time whether it is still needed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Due {
    pub(crate) session: String,
    pub(crate) server: ServerId,
    pub(crate) generation: u32,
    /// How often closing it has failed.
    #[serde(default)]
    pub(crate) failed: u8,
}

/// A list of upstream sessions by when to look at them next, which outlives every replica.
///
/// The map cannot be listed, so names are counted: a bucket of some seconds has lanes, a replica takes the first free one
/// for itself and numbers its entries there. Whoever looks at a bucket counts until there is nothing more.
#[derive(Debug)]
pub(crate) struct Wheel {
    map: TtlMap,
    handles: HandleSealer,
    /// Tells lanes of different replicas apart for who debugs.
    replica: Arc<str>,
    lane: Mutex<Option<Lane>>,
}

/// Where this replica writes just now.
#[derive(Debug, Clone, Copy)]
struct Lane {
    bucket: i64,
    number: u32,
    next: u32,
}

/// What a bucket held.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    pub(crate) dues: Vec<Due>,
    /// Removed when all of it is done, the first of a lane last, so that a half-emptied lane is still found.
    keys: Vec<String>,
}

impl Wheel {
    pub(super) fn new(map: TtlMap, handles: HandleSealer, replica: Arc<str>) -> Self {
        Self { map, handles, replica, lane: Mutex::default() }
    }

    /// Has these looked at once `at` has come.
    pub(crate) async fn add(
        &self,
        dues: &[Due],
        at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<(), CoordinationError> {
        let bucket = self.open_bucket(at.timestamp().div_euclid(WIDTH), now).await?;
        let left = TimeDelta::seconds(bucket * WIDTH - now.timestamp()).to_std().unwrap_or_default();
        for part in dues.chunks(PER_ENTRY) {
            let (lane, number) = match self.slot(bucket) {
                Some(slot) => slot,
                None => (self.claim(bucket, left + KEPT).await?, 0),
            };
            let key = entry_key(bucket, lane, number);
            let written = self.map.put(&key, self.seal(&key, part), left + KEPT).await;
            if written.is_err() {
                // Later entries would come after a hole.
                *self.lane.lock().unwrap_or_else(PoisonError::into_inner) = None;
            }
            written?;
        }
        Ok(())
    }

    /// This bucket, or the first one that nobody is about to look at: whose clock is ahead looks at buckets early.
    async fn open_bucket(&self, bucket: i64, now: DateTime<Utc>) -> Result<i64, CoordinationError> {
        let current = now.timestamp().div_euclid(WIDTH);
        if bucket > current + SKEW / WIDTH {
            return Ok(bucket);
        }
        let next = self.next().await?.unwrap_or(current);
        Ok(bucket.max(current.max(next) + 2))
    }

    async fn next(&self) -> Result<Option<i64>, CoordinationError> {
        let written = self.map.get(NEXT).await?;
        Ok(written.and_then(|next| std::str::from_utf8(&next).ok()?.parse().ok()))
    }

    fn slot(&self, bucket: i64) -> Option<(u32, u32)> {
        let mut lane = self.lane.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = lane.as_mut().filter(|lane| lane.bucket == bucket)?;
        lane.next += 1;
        Some((lane.number, lane.next - 1))
    }

    /// Takes a lane, whose entry 0 is the caller's.
    async fn claim(&self, bucket: i64, ttl: Duration) -> Result<u32, CoordinationError> {
        for number in 0..MAX_LANES {
            let owner = Bytes::copy_from_slice(self.replica.as_bytes());
            if self.map.put_if_absent(&lane_key(bucket, number), owner, ttl).await? {
                let claimed = Lane { bucket, number, next: 1 };
                *self.lane.lock().unwrap_or_else(PoisonError::into_inner) = Some(claimed);
                return Ok(number);
            }
        }
        Err(CoordinationError::Full { what: "sessions to look at".to_owned(), capacity: MAX_LANES as usize })
    }

    /// The oldest bucket that nobody has looked at, if its time is over.
    pub(crate) async fn next_over(&self, now: DateTime<Utc>) -> Result<Option<i64>, CoordinationError> {
        let current = now.timestamp().div_euclid(WIDTH);
        let Some(next) = self.next().await? else {
            self.done(current - 1).await?;
            return Ok(None);
        };
        Ok((next < current).then_some(next))
    }

    /// Writes down that a bucket has been looked at.
    pub(crate) async fn done(&self, bucket: i64) -> Result<(), CoordinationError> {
        self.map.put(NEXT, Bytes::from((bucket + 1).to_string()), KEPT).await
    }

    /// Reads a bucket whose time is over.
    pub(crate) async fn read(&self, bucket: i64) -> Result<Bucket, CoordinationError> {
        let mut found = Bucket::default();
        for lane in 0..MAX_LANES {
            let key = lane_key(bucket, lane);
            if self.map.get(&key).await?.is_none() {
                break;
            }
            found.keys.push(key);
            let (mut number, mut holes) = (0, 0);
            while holes < MAX_HOLES {
                let key = entry_key(bucket, lane, number);
                number += 1;
                match self.map.get(&key).await? {
                    Some(value) => {
                        found.dues.extend(self.open(&key, &value).unwrap_or_default());
                        found.keys.push(key);
                        holes = 0;
                    }
                    None => holes += 1,
                }
            }
        }
        Ok(found)
    }

    /// Entries name sessions, which are nobody else's to know.
    fn seal(&self, key: &str, dues: &[Due]) -> Bytes {
        let dues = serde_json::to_vec(dues).unwrap_or_default();
        Bytes::from(self.handles.seal(SEAL, key.as_bytes(), &dues))
    }

    fn open(&self, key: &str, value: &[u8]) -> Option<Vec<Due>> {
        let dues = self.handles.open(SEAL, key.as_bytes(), std::str::from_utf8(value).ok()?)?;
        serde_json::from_slice(&dues).ok()
    }

    /// Removes a bucket that was read and whose content has been taken care of.
    pub(crate) async fn clear(&self, bucket: &Bucket) -> Result<(), CoordinationError> {
        for key in bucket.keys.iter().rev() {
            self.map.remove(key).await?;
        }
        Ok(())
    }
}

fn lane_key(bucket: i64, lane: u32) -> String {
    format!("x/{bucket}/{lane}")
}

fn entry_key(bucket: i64, lane: u32, number: u32) -> String {
    format!("x/{bucket}/{lane}/{number}")
}

#[cfg(test)]
mod tests {
    use portico_clock::{Clock, MockClock};
    use portico_coordination::Coordination;

    use super::*;
    use crate::catalogue::testing::server_id;

    fn handles() -> HandleSealer {
        let dir = tempfile::tempdir().unwrap();
        let rng: portico_ids::SharedRng = Arc::new(portico_ids::SeededRng::new(1));
        let keys = portico_sealing::KeyRing::generate_file(&dir.path().join("keys"), &*rng).unwrap();
        HandleSealer::new(&keys, rng)
    }

    fn due(session: &str) -> Due {
        Due { session: session.to_owned(), server: server_id(1), generation: 0, failed: 0 }
    }

    #[tokio::test]
    async fn what_several_replicas_wrote_is_found_when_its_time_is_over_and_then_gone() {
        let clock = MockClock::at(crate::testing::start());
        let map = Coordination::in_process(Arc::new(clock.clone())).ttl_map("t");
        let handles = handles();
        let one = Wheel::new(map.clone(), handles.clone(), "one".into());
        let two = Wheel::new(map.clone(), handles, "two".into());
        let now = clock.now();
        assert_eq!(one.next_over(now).await.unwrap(), None);
        let at = now + TimeDelta::minutes(1);
        one.add(&[due("a"), due("b")], at, now).await.unwrap();
        two.add(&[due("c")], at, now).await.unwrap();
        one.add(&[due("d")], at, now).await.unwrap();
        one.add(&[due("later")], at + TimeDelta::minutes(1), now).await.unwrap();
        clock.advance(TimeDelta::seconds(70));
        let mut found = Vec::new();
        while let Some(bucket) = two.next_over(clock.now()).await.unwrap() {
            let read = two.read(bucket).await.unwrap();
            found.extend(read.dues.iter().map(|due| due.session.clone()));
            two.clear(&read).await.unwrap();
            assert!(two.read(bucket).await.unwrap().dues.is_empty());
            two.done(bucket).await.unwrap();
        }
        found.sort_unstable();
        assert_eq!(found, ["a", "b", "c", "d"]);
        assert_eq!(one.next_over(clock.now()).await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_is_due_at_once_is_never_written_into_the_past() {
        let clock = MockClock::at(crate::testing::start());
        let map = Coordination::in_process(Arc::new(clock.clone())).ttl_map("t");
        let wheel = Wheel::new(map, handles(), "one".into());
        assert_eq!(wheel.next_over(clock.now()).await.unwrap(), None);
        wheel.add(&[due("a")], clock.now() - TimeDelta::hours(1), clock.now()).await.unwrap();
        clock.advance(TimeDelta::seconds(3 * WIDTH + 1));
        let mut found = 0;
        while let Some(bucket) = wheel.next_over(clock.now()).await.unwrap() {
            found += wheel.read(bucket).await.unwrap().dues.len();
            wheel.done(bucket).await.unwrap();
        }
        assert_eq!(found, 1);
    }
}
