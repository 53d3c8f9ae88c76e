use bytes::Bytes;
use http::HeaderValue;
use hyper::body::Incoming;
use portico_ids::{InstanceId, ServerId};
use portico_mcp_types::{LAST_EVENT_ID, Revision};

use crate::engine::Engine;
use crate::refusal::Refusal;
use crate::upstream::{Answer, Load, Outgoing, lost};

/// How to go on with a stream that a server suspended: always GET with `Last-Event-ID` (2025-11-25, Resumability).
#[derive(Debug, Clone)]
pub(crate) struct Reopen {
    pub(crate) server: ServerId,
    pub(crate) instance: InstanceId,
    pub(crate) session: Option<HeaderValue>,
    pub(crate) revision: Revision,
}

impl Reopen {
    pub(crate) async fn open(&self, engine: &Engine, last: &Bytes) -> Result<(Incoming, Load), Refusal> {
        let snapshot = engine.catalogue.snapshot();
        let instance = snapshot.instance(self.server, self.instance).ok_or_else(lost)?;
        let mut outgoing = Outgoing::get().in_session(self.session.as_ref(), self.revision);
        let last = HeaderValue::from_bytes(last).map_err(|_| lost())?;
        outgoing.headers.insert(LAST_EVENT_ID, last);
        match engine.upstream.exchange(instance, outgoing).await? {
            Answer::Events(reply) => Ok((reply.body, reply.load)),
            Answer::Json(_)
            | Answer::Read(..)
            | Answer::Accepted
            | Answer::NotFound
            | Answer::MethodNotAllowed => Err(lost()),
        }
    }
}
