//! The few values of an answer that must not reach the agent as the server wrote them.

use std::sync::Arc;

use bytes::Bytes;
use portico_ids::ServerId;
use portico_mcp_types::{CallParams, Envelope, Kind, Object, Splice, text_of};

use crate::access::Agent;
use crate::handles::{Bound, Handle, Handles, list_key, request_digest};
use crate::refusal::Refusal;
use crate::upstream::not_mcp;
use crate::virtual_server::Relabel;

/// What is rewritten in the messages of one answer.
#[derive(Debug)]
pub(crate) enum Rewrite {
    /// Every byte passes.
    Nothing,
    /// A handle in the result is sealed.
    Seal(Box<Seal>),
    /// The message comes from one of several servers.
    Member(Box<Relabel>),
}

/// How a handle in a result is sealed.
#[derive(Debug)]
pub(crate) struct Seal {
    pub(crate) handles: Handles,
    pub(crate) handle: Handle,
    pub(crate) agent: Arc<Agent>,
    pub(crate) server: ServerId,
    /// The request that is answered; what binds the handle is worked out only if there is one.
    pub(crate) request: Bytes,
}

impl Seal {
    fn field(&self) -> &'static str {
        match self.handle {
            Handle::Cursor => "nextCursor",
            Handle::RequestState => "requestState",
        }
    }

    fn seal(&self, value: &str) -> Result<String, Refusal> {
        let envelope = Envelope::parse(&self.request)?;
        let params = CallParams::parse(envelope.params)?;
        let request = match self.handle {
            Handle::Cursor => list_key(self.server, envelope.method()),
            Handle::RequestState => request_digest(self.server, envelope.method(), &params),
        };
        Ok(self.handles.seal(self.handle, &Bound::new(&self.agent, &request), value))
    }

    fn apply(&self, message: &Bytes) -> Result<Bytes, Refusal> {
        // Nearly no answer has the field; looking for its name is far cheaper than parsing.
        let has = |text: &[u8]| memchr::memmem::find(message, text).is_some();
        if !has(self.field().as_bytes()) && !has(b"\\u") {
            return Ok(message.clone());
        }
        let envelope = Envelope::parse(message).map_err(|_| not_mcp())?;
        let (Kind::Response, Some(result)) = (envelope.kind, envelope.result) else {
            return Ok(message.clone());
        };
        let result = Object::parse(result.get(), "result").map_err(|_| not_mcp())?;
        let Some(raw) = result.get(self.field()) else { return Ok(message.clone()) };
        let Some(value) = text_of(raw) else {
            return if raw.get() == "null" { Ok(message.clone()) } else { Err(not_mcp()) };
        };
        let mut splice = Splice::new(message);
        splice.replace_text(raw, &self.seal(&value)?);
        Ok(splice.apply())
    }
}

impl Rewrite {
    /// Whether answers must be whole before they can go on.
    pub(crate) fn needs_whole(&self) -> bool {
        match self {
            Self::Nothing => false,
            Self::Seal(seal) => seal.handle == Handle::Cursor,
            Self::Member(relabel) => relabel.needs_whole(),
        }
    }

    /// Rewrites one message.
    pub(crate) fn apply(&self, message: &Bytes) -> Result<Bytes, Refusal> {
        match self {
            Self::Nothing => Ok(message.clone()),
            Self::Seal(seal) => seal.apply(message),
            Self::Member(relabel) => relabel.apply(message),
        }
    }
}
