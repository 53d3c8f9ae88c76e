//! The few values of an answer that must not reach the agent as the server wrote them.

use std::sync::Arc;

use bytes::Bytes;
use portico_ids::ServerId;
use portico_mcp_types::{CallParams, Envelope, Kind, Object, Splice, method, text_of};

use crate::access::Agent;
use crate::engine::Engine;
use crate::front::Inbound;
use crate::handles::{Bound, Handle, Handles, TaskIds, is_about_tasks, list_key, request_digest};
use crate::refusal::Refusal;
use crate::session_era::{is_list, spliced};
use crate::upstream::not_mcp;
use crate::virtual_server::Relabel;

/// What is rewritten in the messages of one answer.
#[derive(Debug)]
pub(crate) enum Rewrite {
    /// Every byte passes.
    Nothing,
    /// Handles are sealed.
    Seal(Box<Seal>),
    /// The message comes from one of several servers.
    Member(Box<Relabel>),
}

/// How the handles in a server's messages are sealed.
#[derive(Debug)]
pub(crate) struct Seal {
    handles: Handles,
    agent: Arc<Agent>,
    server: ServerId,
    /// The request that is answered, and its method; both are empty for a stream of the server's own.
    request: Bytes,
    method: String,
    /// What a result may hold besides the ids of tasks.
    handle: Option<Handle>,
    whole: bool,
}

impl Seal {
    fn seal(&self, handle: Handle, value: &str) -> Result<String, Refusal> {
        // What binds a handle is worked out only when there is one.
        let envelope = Envelope::parse(&self.request)?;
        let params = CallParams::parse(envelope.params)?;
        let request = match handle {
            Handle::Cursor | Handle::Task => list_key(self.server, envelope.method()),
            Handle::RequestState => request_digest(self.server, envelope.method(), &params),
        };
        Ok(self.handles.seal(handle, &Bound::new(&self.agent, &request), value))
    }

    fn apply(&self, message: &Bytes) -> Result<Bytes, Refusal> {
        // Nearly no message has any; looking for their names is far cheaper than parsing.
        let has = |text: &[u8]| memchr::memmem::find(message, text).is_some();
        let has_task = has(b"taskId");
        let handle = self.handle.filter(|handle| has(field(*handle).as_bytes()) || has(b"\\u"));
        if !has_task && handle.is_none() {
            return Ok(message.clone());
        }
        let envelope = Envelope::parse(message).map_err(|_| not_mcp())?;
        let mut splice = Splice::new(message);
        if has_task {
            let ids = TaskIds { handles: &self.handles, agent: &self.agent, server: self.server };
            ids.seal_in(&envelope, &self.method, &mut splice)?;
        }
        if let (Some(handle), Kind::Response, Some(result)) = (handle, envelope.kind, envelope.result) {
            let result = Object::parse(result.get(), "result").map_err(|_| not_mcp())?;
            if let Some(raw) = result.get(field(handle)).filter(|raw| raw.get() != "null") {
                let value = text_of(raw).ok_or_else(not_mcp)?;
                splice.replace_text(raw, &self.seal(handle, &value)?);
            }
        }
        Ok(spliced(splice, message))
    }
}

/// Where a result holds a handle.
fn field(handle: Handle) -> &'static str {
    match handle {
        Handle::Cursor => "nextCursor",
        Handle::RequestState => "requestState",
        Handle::Task => "taskId",
    }
}

impl Rewrite {
    /// What changes in the answer to a request, and in what comes with it.
    pub(crate) fn of_answer(
        engine: &Engine,
        inbound: &Inbound<'_>,
        server: ServerId,
        stateless: bool,
    ) -> Self {
        let name = inbound.envelope.method();
        let handle = match name {
            method::TOOLS_CALL | method::PROMPTS_GET | method::RESOURCES_READ if stateless => {
                Some(Handle::RequestState)
            }
            name => is_list(name).then_some(Handle::Cursor),
        };
        // An answer that is passed on before it has come whole must not be one that names a task.
        let whole = is_list(name) || is_about_tasks(name) || inbound.params.get("task").is_some();
        Self::Seal(Box::new(Seal {
            handles: engine.handles.clone(),
            agent: Arc::clone(inbound.agent),
            server,
            request: if handle.is_some() { inbound.body.clone() } else { Bytes::new() },
            method: name.to_owned(),
            handle,
            whole,
        }))
    }

    /// What changes in what a server sends on its own account.
    pub(crate) fn of_stream(engine: &Engine, agent: &Arc<Agent>, server: ServerId) -> Self {
        Self::Seal(Box::new(Seal {
            handles: engine.handles.clone(),
            agent: Arc::clone(agent),
            server,
            request: Bytes::new(),
            method: String::new(),
            handle: None,
            whole: false,
        }))
    }

    /// Whether answers must be whole before they can go on.
    pub(crate) fn needs_whole(&self) -> bool {
        match self {
            Self::Nothing => false,
            Self::Seal(seal) => seal.whole,
            Self::Member(relabel) => relabel.needs_whole(),
        }
    }

    /// Whether an answer that begins so must be whole all the same: it asks for input, and what is large in it comes
    /// after one of these keys (2026-07-28, MRTR). Quotes in strings are escaped, so no text can look like a key.
    pub(crate) fn needs_whole_after(&self, beginning: &[u8]) -> bool {
        match self {
            Self::Nothing => false,
            Self::Seal(seal) => {
                let has = |key: &[u8]| memchr::memmem::find(beginning, key).is_some();
                seal.handle == Some(Handle::RequestState)
                    && (has(b"\"inputRequests\"") || has(b"\"requestState\""))
            }
            Self::Member(relabel) => relabel.needs_whole_after(beginning),
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
