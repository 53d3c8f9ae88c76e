use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use portico_ids::ServerId;
use portico_mcp_types::{Kind, Object, PROTOCOL_VERSION, Splice, code, method, result_answer};
use tracing::Instrument;

use super::open::candidates;
use super::{Leg, Pending, Setting, session_of, single};
use crate::access::{Liveness, StreamKind};
use crate::call::Call;
use crate::engine::Engine;
use crate::front::{Inbound, Served};
use crate::handles::{Bound, Handle, TaskIds, list_key};
use crate::refusal::{Reason, Refusal};
use crate::relay::{
    EventRelay, RelayParts, Reopen, accepted, cancelled_response, events_response, json_response,
    whole_response,
};
use crate::rewrite::Rewrite;
use crate::session::{Session, UpstreamSession};
use crate::upstream::{Answer, JsonBody, Outgoing, Reply, not_mcp, too_large};
use crate::virtual_server;

/// Longest id of a request, as JSON text, that other replicas are told.
const MAX_TOLD_ID: usize = 1024;

/// A message within a session.
pub(crate) async fn message(
    engine: &Arc<Engine>,
    inbound: &Inbound<'_>,
    session: &str,
    mut call: Call,
) -> Served {
    let version = inbound.header(&PROTOCOL_VERSION);
    let session = match session_of(engine, inbound.agent, session, version).await {
        Ok(session) => session,
        Err(refusal) => return Err((refusal, call)),
    };
    if let Err(refusal) = engine.recorder.audit.admit(may_change(inbound.envelope.method())) {
        return Err((refusal, call));
    }
    if inbound.envelope.method() == method::PING && inbound.envelope.kind == Kind::Request {
        call.done();
        return Ok(whole_response(StatusCode::OK, result_answer(inbound.envelope.id, "{}")));
    }
    if inbound.envelope.method() == method::CANCELLED
        && let Some(request) = inbound.params.get("requestId")
    {
        // Whatever the server makes of it: its answer is not waited for any more (2025-11-25, Cancellation).
        if !session.streams.cancel(request.get()) && request.get().len() <= MAX_TOLD_ID {
            engine.replicas.tell_cancelled(&session.id, request.get());
        }
    }
    match single(inbound.agent) {
        Some(member) => pass(engine, inbound, &session, member.server, call).await,
        None => virtual_server::message(engine, inbound, &session, call).await,
    }
}

/// Whether a method may change something behind the gateway.
pub(crate) fn may_change(name: &str) -> bool {
    !matches!(
        name,
        method::PING
            | method::TOOLS_LIST
            | method::PROMPTS_LIST
            | method::PROMPTS_GET
            | method::RESOURCES_LIST
            | method::RESOURCE_TEMPLATES_LIST
            | method::RESOURCES_READ
            | method::COMPLETE
            | method::DISCOVER
            | method::LISTEN
    ) && !name.starts_with("notifications/")
}

/// Passes a message on to the one server of an endpoint.
async fn pass(
    engine: &Arc<Engine>,
    inbound: &Inbound<'_>,
    session: &Arc<Session>,
    server: ServerId,
    mut call: Call,
) -> Served {
    let step = call.upstream_step();
    let mut splice = Splice::new(inbound.body);
    let body = match open_handles(engine, inbound, server, &mut splice) {
        Ok(_) => call.traced_body(spliced(splice, inbound.body)),
        Err(refusal) => return Err((refusal, call)),
    };
    let leg = Leg { engine, agent: inbound.agent, session, server, call: &call };
    if inbound.envelope.kind != Kind::Request {
        return match leg.exchange(body).instrument(step).await {
            Ok((answer, _)) => taken(engine, answer, call).await,
            Err(refusal) => Err((refusal, call)),
        };
    }
    let pending = Pending::begin(session, inbound.envelope.id);
    let (answer, open) = match pending.unless_cancelled(leg.exchange(body).instrument(step)).await {
        Some(Ok(answered)) => answered,
        Some(Err(refusal)) => return Err((refusal, call)),
        None => return Ok(cancelled_response(engine, call)),
    };
    let rewrite = Rewrite::of_answer(engine, inbound, server, false);
    deliver(Delivery { engine, inbound, session, pending, server, open: &open, rewrite }, answer, call).await
}

/// What a server says to a message that has no answer; one that it does not take has an error status (2025-11-25, Sending
/// Messages to the Server).
async fn taken(engine: &Arc<Engine>, answer: Answer, mut call: Call) -> Served {
    match answer {
        Answer::Json(reply) if reply.status.is_client_error() => {
            json_response(engine, reply, &Rewrite::Nothing, (call, None)).await
        }
        Answer::Read(status, message) if status.is_client_error() => {
            call.response_bytes = message.len();
            call.done();
            Ok(whole_response(status, message))
        }
        _ => {
            call.done();
            Ok(accepted())
        }
    }
}

/// How an answer within a session goes to its agent.
#[derive(Debug)]
pub(crate) struct Delivery<'a> {
    pub(crate) engine: &'a Arc<Engine>,
    pub(crate) inbound: &'a Inbound<'a>,
    pub(crate) session: &'a Arc<Session>,
    pub(crate) pending: Pending,
    pub(crate) server: ServerId,
    pub(crate) open: &'a UpstreamSession,
    pub(crate) rewrite: Rewrite,
}

/// Sends an answer on: JSON as JSON, events as events. What it agrees to is remembered.
pub(crate) async fn deliver(to: Delivery<'_>, answer: Answer, mut call: Call) -> Served {
    let agreed = match Setting::of(to.inbound, to.server) {
        Some(setting) => setting.agreed(to.engine, to.session, answer).await,
        None => Ok((answer, None)),
    };
    let (answer, setting) = match agreed {
        Ok(agreed) => agreed,
        Err(refusal) => return Err((refusal, call)),
    };
    match answer {
        Answer::Json(reply) => {
            json_response(to.engine, reply, &to.rewrite, (call, Some(to.pending.cancellation()))).await
        }
        Answer::Read(status, message) => match to.rewrite.apply(&message) {
            Ok(message) => {
                call.response_bytes = message.len();
                call.done();
                Ok(whole_response(status, message))
            }
            Err(refusal) => Err((refusal, call)),
        },
        Answer::Events(reply) => Ok(events_response(to.engine, relay(to, (reply, setting), call))),
        Answer::Accepted => Err((not_mcp(), call)),
        Answer::NotFound | Answer::MethodNotAllowed => Err((gone(), call)),
    }
}

fn relay(to: Delivery<'_>, (reply, setting): (Reply, Option<Setting>), call: Call) -> EventRelay {
    let Delivery { engine, inbound, pending, server, open, rewrite, .. } = to;
    let stream = pending.into_stream();
    let first = stream.priming().into_iter().collect();
    EventRelay::new(RelayParts {
        engine: Arc::clone(engine),
        upstream: reply.body,
        load: reply.load,
        request: Some(inbound.envelope.id.as_json().to_owned()),
        stream: Some(stream),
        setting,
        rewrite,
        call,
        liveness: Liveness::new(engine, inbound.agent, StreamKind::Call),
        reopen: Some(Reopen {
            server,
            instance: open.instance,
            session: open.id.clone(),
            revision: open.revision,
        }),
        first,
    })
}

/// Whether a method answers pages with cursors.
pub(crate) fn is_list(name: &str) -> bool {
    matches!(
        name,
        method::TOOLS_LIST
            | method::PROMPTS_LIST
            | method::RESOURCES_LIST
            | method::RESOURCE_TEMPLATES_LIST
            | method::TASKS_LIST
    )
}

/// Puts the server's own cursor and ids of tasks in the place of the sealed ones; gives the task that is meant.
pub(crate) fn open_handles(
    engine: &Engine,
    inbound: &Inbound<'_>,
    server: ServerId,
    splice: &mut Splice<'_>,
) -> Result<Option<String>, Refusal> {
    let name = inbound.envelope.method();
    if is_list(name)
        && let (Some(sealed), Some(raw)) = (inbound.params.cursor()?, inbound.params.get("cursor"))
    {
        splice.replace_text(raw, &open_cursor(engine, inbound, server, &sealed)?);
    }
    TaskIds { handles: &engine.handles, agent: inbound.agent, server }.open_in(inbound, splice)
}

/// The server's own cursor.
pub(crate) fn open_cursor(
    engine: &Engine,
    inbound: &Inbound<'_>,
    server: ServerId,
    sealed: &str,
) -> Result<String, Refusal> {
    let key = list_key(server, inbound.envelope.method());
    engine.handles.open(Handle::Cursor, &Bound::new(inbound.agent, &key), sealed)
}

/// The changed body, or the same one.
pub(crate) fn spliced(splice: Splice<'_>, body: &Bytes) -> Bytes {
    if splice.is_empty() { body.clone() } else { splice.apply() }
}

impl Leg<'_> {
    /// Sends a message within the session at the server; a session that the server has forgotten is opened anew
    /// once, without the agent noticing.
    pub(crate) async fn exchange(&self, body: Bytes) -> Result<(Answer, Arc<UpstreamSession>), Refusal> {
        let open = self.open(0).await?;
        if let Some(answered) = self.try_exchange(&open, body.clone()).await? {
            return Ok(answered);
        }
        let open = self.open(open.generation + 1).await?;
        self.try_exchange(&open, body).await?.ok_or_else(gone)
    }

    /// The answer and where it came from; `None` if the server no longer knows the session, or its instance is gone.
    async fn try_exchange(
        &self,
        open: &Arc<UpstreamSession>,
        body: Bytes,
    ) -> Result<Option<(Answer, Arc<UpstreamSession>)>, Refusal> {
        let Some((answer, open)) = self.send(open, Outgoing::post(body)).await? else { return Ok(None) };
        let answer = match answer {
            Answer::NotFound => None,
            Answer::Json(reply) if reply.status == StatusCode::BAD_REQUEST && open.id.is_some() => {
                self.read_bad_request(reply).await?
            }
            answer => Some(answer),
        };
        Ok(answer.map(|answer| (answer, open)))
    }

    /// Sends something within the session at the server; `None` if its instance is gone.
    ///
    /// A server that gave no session id has nothing to know a session by (2025-11-25, Session Management), so that any of its
    /// instances may answer. The one of the last call comes first: it may be waiting for an answer of the agent.
    pub(super) async fn send(
        &self,
        open: &Arc<UpstreamSession>,
        outgoing: Outgoing,
    ) -> Result<Option<(Answer, Arc<UpstreamSession>)>, Refusal> {
        let (engine, snapshot) = (self.engine, &self.agent.snapshot);
        let outgoing = outgoing
            .in_session(open.id.as_ref(), open.revision)
            .traced(&self.call.correlation, &self.call.trace);
        if open.id.is_none() {
            let mut candidates = candidates(engine, snapshot, (self.server, Some(open.instance)))?;
            let answer = engine.upstream.exchange_with_any(&mut candidates, outgoing, self.call).await?;
            let open = self.session.move_upstream(self.server, open, candidates.instance().id);
            return Ok(Some((answer, open)));
        }
        let Some(instance) = snapshot.instance(self.server, open.instance) else { return Ok(None) };
        let answer = engine.upstream.exchange(instance, outgoing).await?;
        Ok(Some((answer, Arc::clone(open))))
    }

    /// Some servers answer 400 for a session that they do not know, with an error that belongs to no request.
    pub(super) async fn read_bad_request(&self, reply: Reply) -> Result<Option<Answer>, Refusal> {
        let limit = self.engine.upstream.settings.inspect_bytes;
        let JsonBody::Whole(message) = self.engine.upstream.read_json(reply.body, limit).await? else {
            return Err(too_large());
        };
        let forgotten =
            Object::parse(std::str::from_utf8(&message).unwrap_or(""), "answer").is_ok_and(|answer| {
                let error = answer.get("error").and_then(|error| Object::parse(error.get(), "error").ok());
                let said = error.and_then(|error| error.get("code")).map_or("", |raw| raw.get());
                answer.get("id").is_none_or(|id| id.get() == "null") && said == code::SERVER_ERROR.to_string()
            });
        Ok((!forgotten).then_some(Answer::Read(reply.status, message)))
    }
}

/// The server answered as if there were nothing at its address.
pub(crate) fn gone() -> Refusal {
    Refusal::new(
        Reason::UpstreamFailed,
        "the server does not take this request at its registered address; its owner must check the address",
    )
}
