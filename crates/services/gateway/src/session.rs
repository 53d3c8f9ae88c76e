//! Sessions of agents up to revision 2025-11-25, on whichever replica their messages arrive.
//!
//! What is shared lives in the TTL map, and whatever of it may change is read from there when it matters:
//!
//! | key | what | changes |
//! |---|---|---|
//! | `s/{session}` | the sealed [`Record`]: binding, revision, `initialize` params; log level and subscriptions | the last two, with swap |
//! | `u/{session}/{server}/{generation}` | the sealed upstream session, written with put-if-absent | never |
//! | `c/{session}/{server}/{generation}` | who closes it just now | |
//! | `x/…` | [`wheel::Wheel`]: when to look whether it is to be closed, sealed | |
//!
//! `{session}` is the digest of its id. Where a session has ended stands a tomb for a while: nobody writes over it, so that
//! the end is final for those who are late.
//!
//! Of a session at hand a replica trusts what never changes. Log level and subscriptions are needed only when a server's
//! session is opened anew, and are read again then. That a session has ended elsewhere is told by letter, and noticed
//! without one when its time to live is renewed.
//!
//! What a call costs in round trips to the map: none, if its session is at hand; one `renew` every quarter of the idle
//! time, at most once a minute, on one of the calls. The first call of a session on a replica costs `get` and `renew`, and
//! one `get` for each server's session that another replica has opened.

mod at_hand;
mod event_id;
mod owned;
mod record;
mod store;
mod streams;
mod upstream;
mod wheel;

pub(crate) use event_id::{EventId, LastEvent, Origin};
pub(crate) use record::{Binding, Record};
pub(crate) use store::{SessionParts, Sessions};
pub(crate) use streams::Replay;
use streams::{Budget, Streams};
pub(crate) use upstream::{Claim, Published, UpstreamSession, sensitive};
pub(crate) use wheel::Due;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use portico_ids::{InstanceId, ServerId};
use portico_mcp_types::Revision;
use tokio_util::sync::CancellationToken;

/// One session: what was negotiated, what stands open behind it, and what can be replayed.
#[derive(Debug)]
pub(crate) struct Session {
    /// 256 random bits; grants nothing without a token of the same subject (RS-30).
    pub(crate) id: String,
    record: Mutex<Arc<Record>>,
    upstreams: Mutex<HashMap<ServerId, Arc<UpstreamSession>>>,
    pub(crate) streams: Streams,
    /// Cancelled when the session is over: what stands open for it ends.
    pub(crate) ended: CancellationToken,
    /// When the agent last used it here, in milliseconds.
    used: AtomicI64,
    /// When the shared map was last told that it is used, in milliseconds.
    told: AtomicI64,
    /// Until when it is believed that it exists, in milliseconds.
    trusted_until: AtomicI64,
    /// The filling of the shared map that was last seen to have it.
    epoch: AtomicU64,
    /// The map could not be asked or written lately, so it may lack what is known here.
    behind: AtomicBool,
    /// The record was changed here only.
    dirty: AtomicBool,
}

impl Session {
    fn new(id: String, record: Record, (replica, budget): (Arc<str>, Arc<Budget>), epoch: u64) -> Self {
        let ended = CancellationToken::new();
        Self {
            id,
            record: Mutex::new(Arc::new(record)),
            upstreams: Mutex::new(HashMap::new()),
            streams: Streams::new(ended.clone(), replica, budget),
            ended,
            used: AtomicI64::new(0),
            told: AtomicI64::new(0),
            trusted_until: AtomicI64::new(0),
            epoch: AtomicU64::new(epoch),
            behind: AtomicBool::new(false),
            dirty: AtomicBool::new(false),
        }
    }

    pub(crate) fn record(&self) -> Arc<Record> {
        Arc::clone(&self.record.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn revision(&self) -> Revision {
        self.record().revision
    }

    /// What this replica knows to be open at `server`.
    pub(crate) fn upstream(&self, server: ServerId) -> Option<Arc<UpstreamSession>> {
        self.upstreams.lock().unwrap_or_else(PoisonError::into_inner).get(&server).cloned()
    }

    /// All that this replica knows to be open.
    pub(crate) fn upstreams(&self) -> Vec<(ServerId, Arc<UpstreamSession>)> {
        let open = self.upstreams.lock().unwrap_or_else(PoisonError::into_inner);
        open.iter().map(|(server, upstream)| (*server, Arc::clone(upstream))).collect()
    }

    fn set_upstream(&self, server: ServerId, upstream: Arc<UpstreamSession>) {
        self.upstreams.lock().unwrap_or_else(PoisonError::into_inner).insert(server, upstream);
    }

    /// Notes which instance of a server that keeps no sessions took the last call.
    pub(crate) fn move_upstream(
        &self,
        server: ServerId,
        open: &Arc<UpstreamSession>,
        instance: InstanceId,
    ) -> Arc<UpstreamSession> {
        if open.instance == instance {
            return Arc::clone(open);
        }
        let moved = Arc::new(UpstreamSession { instance, ..UpstreamSession::clone(open) });
        self.set_upstream(server, Arc::clone(&moved));
        moved
    }

    fn set_record(&self, record: Record) {
        *self.record.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(record);
    }

    fn use_at(&self, now: DateTime<Utc>) {
        self.used.fetch_max(now.timestamp_millis(), Ordering::Relaxed);
    }

    /// How long it has not been used here.
    fn idle_for(&self, now: DateTime<Utc>) -> TimeDelta {
        TimeDelta::milliseconds(now.timestamp_millis().saturating_sub(self.used.load(Ordering::Relaxed)))
    }

    fn tell_at(&self, now: DateTime<Utc>) {
        self.told.store(now.timestamp_millis(), Ordering::Relaxed);
    }

    /// How long the shared map has not been told of its use.
    fn untold_for(&self, now: DateTime<Utc>) -> TimeDelta {
        TimeDelta::milliseconds(now.timestamp_millis().saturating_sub(self.told.load(Ordering::Relaxed)))
    }

    /// Whether this caller is the one that has to ask the shared map again; others go on meanwhile.
    fn is_to_be_confirmed(&self, now: DateTime<Utc>, turn: TimeDelta) -> bool {
        let (until, now) = (self.trusted_until.load(Ordering::Relaxed), now.timestamp_millis());
        let next = now.saturating_add(turn.num_milliseconds());
        until <= now
            && self.trusted_until.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn trust_until(&self, until: DateTime<Utc>) {
        self.trusted_until.store(until.timestamp_millis(), Ordering::Relaxed);
    }
}
