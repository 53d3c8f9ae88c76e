//! Sessions of agents up to revision 2025-11-25.

mod owned;
mod record;
mod store;
mod streams;
mod upstream;

pub(crate) use record::{Binding, Record};
pub(crate) use store::{Published, Sessions};
pub(crate) use streams::{EventId, Replay, Streams};
pub(crate) use upstream::{UpstreamSession, sensitive};

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use portico_ids::ServerId;
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
}

impl Session {
    fn new(id: String, record: Record) -> Self {
        Self {
            id,
            record: Mutex::new(Arc::new(record)),
            upstreams: Mutex::new(HashMap::new()),
            streams: Streams::default(),
            ended: CancellationToken::new(),
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

    fn set_record(&self, record: Record) {
        *self.record.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(record);
    }
}
