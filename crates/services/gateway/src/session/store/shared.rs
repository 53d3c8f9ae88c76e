use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use chrono::TimeDelta;
use portico_coordination::{CoordinationError, Leases, TtlMap};
use portico_ids::{Rng, ServerId};
use portico_sealing::HandleSealer;

use super::super::record::Record;
use super::super::wheel::Due;
use super::super::{Session, UpstreamSession};

/// What upstream sessions are sealed as.
const SEAL: &str = "upstream_session";
/// Stands where an expired session stood while its upstream sessions are closed, so that no replica brings it back.
const TOMB: &[u8] = b"-";
const TOMB_TTL: Duration = Duration::from_secs(1);
/// How long a replica has for closing an upstream session.
const CLAIM_TTL: Duration = Duration::from_secs(30);
/// Names this filling of the map: another one means that the map was emptied.
const EPOCH: &str = "epoch";
const EPOCH_TTL: Duration = Duration::from_hours(24 * 30);
/// How long a replica may change a record, and how often others try meanwhile.
const LEASE_TTL: Duration = Duration::from_secs(2);
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(25);

/// What all replicas know of sessions.
#[derive(Debug)]
pub(super) struct Shared {
    map: TtlMap,
    leases: Leases,
    handles: HandleSealer,
    replica: Arc<str>,
    /// How long a session is kept without being asked for: the idle time, and for how long its use may stay untold.
    ttl: Duration,
    /// Upstream sessions outlast the session, so that they can be closed.
    upstream_ttl: Duration,
    /// How long a replica believes without asking that a session exists.
    pub(super) trusted: TimeDelta,
    epoch: AtomicU64,
}

impl Shared {
    pub(super) fn new(
        map: TtlMap,
        leases: Leases,
        handles: HandleSealer,
        (idle, trusted): (TimeDelta, TimeDelta),
        replica: Arc<str>,
    ) -> Self {
        let std = |delta: TimeDelta| delta.to_std().unwrap_or_default();
        let (ttl, upstream_ttl) = (std(idle + trusted), std(idle * 2 + TimeDelta::hours(1)));
        Self { map, leases, handles, replica, ttl, upstream_ttl, trusted, epoch: AtomicU64::new(0) }
    }

    pub(super) async fn record(&self, id: &str) -> Result<Option<Record>, CoordinationError> {
        let bytes = self.map.get(&key(id)).await?;
        // What cannot be read is a tomb, or of another version of Portico: as good as none.
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    pub(super) async fn put_record(&self, id: &str, bytes: Bytes) -> Result<(), CoordinationError> {
        self.map.put(&key(id), bytes, self.ttl).await
    }

    pub(super) async fn touch(&self, id: &str) -> Result<bool, CoordinationError> {
        self.map.touch(&key(id), self.ttl).await
    }

    pub(super) async fn remove(&self, id: &str) -> Result<bool, CoordinationError> {
        self.map.remove(&key(id)).await
    }

    /// Puts a tomb where nothing is any more.
    pub(super) async fn bury(&self, id: &str) -> Result<bool, CoordinationError> {
        self.map.put_if_absent(&key(id), Bytes::from_static(TOMB), TOMB_TTL).await
    }

    /// Writes the record if there is none, or over the one that lacks what was set here.
    pub(super) async fn write_back_record(
        &self,
        session: &Session,
        dirty: bool,
    ) -> Result<(), CoordinationError> {
        let bytes = session.record().to_bytes();
        if dirty {
            return self.put_record(&session.id, bytes).await;
        }
        self.map.put_if_absent(&key(&session.id), bytes, self.ttl).await.map(drop)
    }

    /// Changes a record under a lease, because two replicas that each write the whole would undo each other.
    pub(super) async fn rewrite(
        &self,
        id: &str,
        change: impl Fn(&mut Record),
    ) -> Result<Option<Record>, CoordinationError> {
        let name = format!("gateway/session/{id}");
        let mut lease = None;
        for _ in 0..TRIES {
            lease = self.leases.acquire(&name, &self.replica, LEASE_TTL).await?;
            if lease.is_some() {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        let changed = match self.record(id).await? {
            Some(mut record) => {
                change(&mut record);
                self.put_record(id, record.to_bytes()).await?;
                Some(record)
            }
            None => None,
        };
        if let Some(lease) = lease {
            self.leases.release(&lease).await?;
        }
        Ok(changed)
    }

    pub(super) async fn upstream(
        &self,
        session: &str,
        server: ServerId,
        generation: u32,
    ) -> Result<Option<UpstreamSession>, CoordinationError> {
        let found = self.map.get(&upstream_key(session, server, generation)).await?;
        Ok(found.and_then(|bytes| {
            let sealed = std::str::from_utf8(&bytes).ok()?;
            UpstreamSession::from_bytes(&self.handles.open(SEAL, session.as_bytes(), sealed)?)
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
        let sealed = Bytes::from(self.handles.seal(SEAL, session.id.as_bytes(), &open.to_bytes()));
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
    pub(super) async fn read_epoch(&self, rng: &dyn Rng) -> Result<u64, CoordinationError> {
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
        self.epoch.store(epoch, Ordering::Relaxed);
        Ok(epoch)
    }

    async fn stored_epoch(&self) -> Result<Option<u64>, CoordinationError> {
        let stored = self.map.get(EPOCH).await?;
        Ok(stored.and_then(|bytes| Some(u64::from_be_bytes(bytes.as_ref().try_into().ok()?))))
    }
}

fn key(id: &str) -> String {
    format!("s/{id}")
}

fn claim_key(due: &Due) -> String {
    format!("c/{}/{}/{}", due.session, due.server, due.generation)
}

fn upstream_key(session: &str, server: ServerId, generation: u32) -> String {
    format!("u/{session}/{server}/{generation}")
}
