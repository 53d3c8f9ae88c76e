use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use portico_coordination::{CoordinationError, TtlMap};
use portico_ids::{Rng, ServerId};
use portico_sealing::HandleSealer;

use super::super::record::Record;
use super::super::wheel::Due;
use super::super::{Session, UpstreamSession};

/// What records and upstream sessions are sealed as.
const RECORD: &str = "session_record";
const UPSTREAM: &str = "upstream_session";
/// Stands where a session stood that has ended, so that no replica that is late brings it back.
const TOMB: &[u8] = b"-";
const TOMB_TTL: Duration = Duration::from_mins(1);
/// How long a replica has for closing an upstream session.
const CLAIM_TTL: Duration = Duration::from_secs(30);
/// Names this filling of the map: another one means that the map was emptied.
const EPOCH: &str = "epoch";
const EPOCH_TTL: Duration = Duration::from_hours(24 * 30);
/// How often a record is read again because another replica has changed it meanwhile.
const TRIES: u32 = 64;

/// What stands in the place of a session's record.
#[derive(Debug)]
pub(super) enum Stored {
    Live(Record),
    /// It was ended, or what stands there was not written by a gateway of this deployment.
    Over,
    Nothing,
}

/// What all replicas know of sessions.
#[derive(Debug)]
pub(super) struct SealedMap {
    map: TtlMap,
    handles: HandleSealer,
    replica: Arc<str>,
    /// How long a session is kept without being asked for: the idle time, and for how long its use may stay untold.
    pub(super) ttl: Duration,
    /// Upstream sessions outlast the session, so that they can be closed.
    upstream_ttl: Duration,
    /// How long a replica believes without asking that a session exists.
    pub(super) trusted: TimeDelta,
    epoch: AtomicU64,
    /// When it was noticed here that the map was emptied, in milliseconds.
    emptied: AtomicI64,
}

impl SealedMap {
    pub(super) fn new(
        map: TtlMap,
        handles: HandleSealer,
        (idle, trusted): (TimeDelta, TimeDelta),
        replica: Arc<str>,
    ) -> Self {
        let std = |delta: TimeDelta| delta.to_std().unwrap_or_default();
        let (ttl, upstream_ttl) = (std(idle + trusted), std(idle * 2 + TimeDelta::hours(1)));
        Self {
            map,
            handles,
            replica,
            ttl,
            upstream_ttl,
            trusted,
            epoch: AtomicU64::new(0),
            emptied: AtomicI64::new(i64::MIN),
        }
    }

    pub(super) async fn record(&self, id: &str) -> Result<Stored, CoordinationError> {
        let key = key_of(id);
        Ok(self.open(&key, self.map.get(&key).await?.as_ref()))
    }

    pub(super) async fn put_record(&self, id: &str, record: &Record) -> Result<(), CoordinationError> {
        let key = key_of(id);
        self.map.put(&key, self.seal(&key, record), self.ttl).await
    }

    /// Renews the time to live, and says what of.
    pub(super) async fn renew(&self, id: &str) -> Result<Stored, CoordinationError> {
        let key = key_of(id);
        Ok(self.open(&key, self.map.renew(&key, self.ttl).await?.as_ref()))
    }

    /// Ends a session; whoever is about to write it sees that.
    pub(super) async fn end(&self, id: &str) -> Result<(), CoordinationError> {
        self.map.put(&key_of(id), Bytes::from_static(TOMB), TOMB_TTL).await
    }

    /// Tells whether a session is over; what has expired ends so.
    pub(super) async fn bury(&self, id: &str) -> Result<bool, CoordinationError> {
        let key = key_of(id);
        match self.map.get(&key).await? {
            Some(stored) => Ok(stored == TOMB),
            None => self.map.put_if_absent(&key, Bytes::from_static(TOMB), TOMB_TTL).await,
        }
    }

    /// Writes the record if nothing is there, or over the one that lacks what was set here; never over a tomb.
    pub(super) async fn write_back_record(
        &self,
        session: &Session,
        dirty: bool,
    ) -> Result<(), CoordinationError> {
        let (key, record) = (key_of(&session.id), session.record());
        let is_new = self.map.put_if_absent(&key, self.seal(&key, &record), self.ttl).await?;
        if dirty && !is_new {
            self.rewrite(&session.id, |stored| stored.clone_from(&record)).await?;
        }
        Ok(())
    }

    /// Changes a record; `None` if there is none any more. Two replicas that each write the whole do not undo each other,
    /// and neither undoes the end of the session: what has changed meanwhile is read again.
    pub(super) async fn rewrite(
        &self,
        id: &str,
        change: impl Fn(&mut Record),
    ) -> Result<Option<Record>, CoordinationError> {
        let key = key_of(id);
        for _ in 0..TRIES {
            let Some(before) = self.map.get(&key).await? else { return Ok(None) };
            let Stored::Live(mut record) = self.open(&key, Some(&before)) else { return Ok(None) };
            change(&mut record);
            if self.map.swap(&key, &before, self.seal(&key, &record), self.ttl).await? {
                return Ok(Some(record));
            }
        }
        Err(CoordinationError::Full { what: "changes of one session".to_owned(), capacity: TRIES as usize })
    }

    /// Only a gateway of this deployment writes or reads a record, and none that was moved to another session.
    fn seal(&self, key: &str, record: &Record) -> Bytes {
        Bytes::from(self.handles.seal(RECORD, key.as_bytes(), &record.to_bytes()))
    }

    fn open(&self, key: &str, stored: Option<&Bytes>) -> Stored {
        let Some(stored) = stored else { return Stored::Nothing };
        let record = std::str::from_utf8(stored)
            .ok()
            .and_then(|sealed| self.handles.open(RECORD, key.as_bytes(), sealed))
            .and_then(|record| serde_json::from_slice(&record).ok());
        record.map_or(Stored::Over, Stored::Live)
    }

    pub(super) async fn upstream(
        &self,
        session: &str,
        server: ServerId,
        generation: u32,
    ) -> Result<Option<UpstreamSession>, CoordinationError> {
        let key = upstream_key(session, server, generation);
        let found = self.map.get(&key).await?;
        Ok(found.and_then(|bytes| {
            let sealed = std::str::from_utf8(&bytes).ok()?;
            UpstreamSession::from_bytes(&self.handles.open(UPSTREAM, key.as_bytes(), sealed)?)
        }))
    }

    /// Tells whether it is the first.
    pub(super) async fn put_upstream(
        &self,
        session: &Session,
        server: ServerId,
        open: &UpstreamSession,
    ) -> Result<bool, CoordinationError> {
        let key = upstream_key(&session.id, server, open.generation);
        let sealed = Bytes::from(self.handles.seal(UPSTREAM, key.as_bytes(), &open.to_bytes()));
        self.map.put_if_absent(&key, sealed, self.upstream_ttl).await
    }

    pub(super) async fn touch_upstream(&self, due: &Due) -> Result<bool, CoordinationError> {
        self.map.touch(&upstream_key(&due.session, due.server, due.generation), self.upstream_ttl).await
    }

    /// Forgets an upstream session that was closed, and then who closed it.
    pub(super) async fn remove_upstream(&self, due: &Due) -> Result<(), CoordinationError> {
        self.map.remove(&upstream_key(&due.session, due.server, due.generation)).await?;
        self.map.remove(&claim_key(due)).await.map(drop)
    }

    pub(super) async fn claim(&self, due: &Due) -> Result<bool, CoordinationError> {
        self.map
            .put_if_absent(&claim_key(due), Bytes::copy_from_slice(self.replica.as_bytes()), CLAIM_TTL)
            .await
    }

    /// The filling of the map as it was last seen; 0 before that.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// Asks which filling of the map this is, and begins one if it is empty.
    pub(super) async fn read_epoch(
        &self,
        rng: &dyn Rng,
        now: DateTime<Utc>,
    ) -> Result<u64, CoordinationError> {
        let epoch = if let Some(epoch) = self.stored_epoch().await? {
            epoch
        } else {
            let mut random = [0; 8];
            rng.fill(&mut random);
            // Never 0, which is none.
            let new = Bytes::copy_from_slice(&(u64::from_be_bytes(random) | 1).to_be_bytes());
            self.map.put_if_absent(EPOCH, new, EPOCH_TTL).await?;
            self.stored_epoch().await?.unwrap_or(1)
        };
        let before = self.epoch.swap(epoch, Ordering::Relaxed);
        if before != 0 && before != epoch {
            self.emptied.store(now.timestamp_millis(), Ordering::Relaxed);
        }
        Ok(epoch)
    }

    /// How long ago it was noticed that the map was emptied.
    pub(super) fn emptied_since(&self, now: DateTime<Utc>) -> TimeDelta {
        let since = now.timestamp_millis().saturating_sub(self.emptied.load(Ordering::Relaxed));
        TimeDelta::try_milliseconds(since).unwrap_or(TimeDelta::MAX)
    }

    async fn stored_epoch(&self) -> Result<Option<u64>, CoordinationError> {
        // As long as somebody asks it does not expire, which would look like a loss.
        let stored = self.map.renew(EPOCH, EPOCH_TTL).await?;
        Ok(stored.and_then(|bytes| Some(u64::from_be_bytes(bytes.as_ref().try_into().ok()?))))
    }
}

/// Where a session's record is. Whoever can read the map learns no id from it.
pub(in crate::session) fn key_of(id: &str) -> String {
    format!("s/{}", hidden(id))
}

fn claim_key(due: &Due) -> String {
    format!("c/{}/{}/{}", hidden(&due.session), due.server, due.generation)
}

fn upstream_key(session: &str, server: ServerId, generation: u32) -> String {
    format!("u/{}/{server}/{generation}", hidden(session))
}

/// Ids are random, so their digests cannot be guessed back.
fn hidden(id: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, id.as_bytes()))
}
