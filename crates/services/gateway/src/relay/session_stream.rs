use std::sync::Arc;

use bytes::Bytes;
use portico_mcp_types::Revision;
use portico_mcp_types::sse::SseEvent;
use tokio_util::sync::CancellationToken;

use crate::session::{EventId, Origin, Session};

/// Where the events of a session's stream are numbered and kept.
#[derive(Debug)]
pub(crate) struct SessionStream {
    pub(crate) session: Arc<Session>,
    pub(crate) stream: u32,
    /// The last event that went out.
    number: u32,
    origin: Origin,
    /// Cancelled with the call, with the session, and when the agent goes on with the stream elsewhere.
    pub(crate) cancelled: CancellationToken,
}

impl SessionStream {
    pub(crate) fn new(session: Arc<Session>, stream: u32, number: u32) -> Self {
        let (cancelled, origin) = (session.streams.cancellation(stream), session.streams.origin(stream));
        Self { session, stream, number, origin, cancelled }
    }

    /// Whether events have gone out on it before.
    pub(crate) fn is_resumed(&self) -> bool {
        self.number > 0
    }

    fn last(&self) -> EventId {
        EventId { stream: self.stream, number: self.number }
    }

    /// Numbers an event and keeps it for those who may miss it.
    pub(crate) fn put(&mut self, mut event: SseEvent) -> Bytes {
        self.number += 1;
        event.id = Some(self.origin.text(self.last()));
        let bytes = event.encode();
        self.session.streams.keep(self.last(), bytes.clone());
        bytes
    }

    /// Tells the agent how long to wait before it comes back for what follows the last event.
    pub(crate) fn retry(&self, retry: u64) -> Bytes {
        let id = self.origin.text(self.last());
        SseEvent { id: Some(id), retry: Some(retry), ..SseEvent::default() }.encode()
    }

    /// The event that lets an agent resume a stream on which nothing has come yet (2025-11-25, Sending Messages).
    pub(crate) fn priming(&self) -> Option<Bytes> {
        if self.session.revision() < Revision::V2025_11_25 {
            return None;
        }
        let id = self.origin.text(EventId { stream: self.stream, number: 0 });
        Some(SseEvent { id: Some(id), ..SseEvent::default() }.encode())
    }
}
