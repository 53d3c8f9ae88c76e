use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use portico_mcp_types::{LAST_EVENT_ID, PROTOCOL_VERSION, Revision, SESSION_ID};

use super::{Leg, close_upstreams, no_instance, session_of, single};
use crate::access::{Agent, Liveness, StreamKind};
use crate::admission::require_accept;
use crate::call::Call;
use crate::classify::session_required;
use crate::engine::Engine;
use crate::front::{Served, text};
use crate::refusal::{Reason, Refusal};
use crate::relay::{
    EventRelay, RelayParts, SessionStream, events_response, lost_response, remote_response, resume_response,
};
use crate::replicas::{Handover, RemoteStream};
use crate::rewrite::Rewrite;
use crate::session::{EventId, LastEvent, Replay, Session};
use crate::upstream::{Answer, Outgoing, Reply};
use crate::virtual_server;

/// How often a server is asked again that still has the reader of before, and how long in between.
const PATIENCE: u32 = 20;
const CONFLICT_PAUSE: Duration = Duration::from_millis(50);
/// When an agent is to come back for a stream that cannot be brought just now.
const COME_BACK: Duration = Duration::from_secs(2);

/// Opens or resumes a stream of what servers send on their own account.
pub(crate) async fn get(engine: &Arc<Engine>, head: &Parts, agent: Arc<Agent>, mut call: Call) -> Served {
    let admitted = match session_for(engine, head, &agent).await {
        Ok(session) => require_accept(&head.headers, &["text/event-stream"]).map(|()| session),
        Err(refusal) => Err(refusal),
    };
    let admitted = admitted.and_then(|session| call.stay(&engine.load).map(|()| session));
    let session = match admitted {
        Ok(session) => session,
        Err(refusal) => return Err((refusal, call)),
    };
    let last = text(head, &LAST_EVENT_ID).and_then(|id| id.parse::<LastEvent>().ok());
    let found = match &last {
        Some(last) => find(engine, &session, last).await,
        None => Found::New(None),
    };
    let request = last.as_ref().and_then(|last| last.request.clone());
    let (stream, missed) = match found {
        Found::Call(at) => {
            let liveness = Liveness::new(engine, &agent, StreamKind::Call);
            return Ok(resume_response(engine, session, (at, request), (call, liveness)));
        }
        Found::Elsewhere(stream) => {
            let liveness = Liveness::new(engine, &agent, StreamKind::Call);
            return Ok(remote_response(engine, (stream, request), call, liveness));
        }
        Found::Unavailable => {
            let message =
                "the gateway that serves this call cannot be asked just now; come back after Retry-After";
            let refusal = Refusal::new(Reason::CoordinationUnavailable, message);
            return Err((refusal.with_retry_after(COME_BACK), call));
        }
        Found::Lost(request) => return Ok(lost_response(engine, &request, call)),
        Found::Standing(at, missed) => {
            session.streams.take_over(at.stream);
            (SessionStream::new(Arc::clone(&session), at.stream, at.number), Some(missed))
        }
        Found::New(missed) => {
            let number = session.streams.open(None);
            (SessionStream::new(Arc::clone(&session), number, 0), missed)
        }
    };
    // Whoever served the stream before may still be about to leave.
    let patience = if last.is_some() { PATIENCE } else { 0 };
    let mut first = missed.unwrap_or_default();
    if !stream.is_resumed() {
        first.extend(stream.priming());
    }
    let Some(member) = single(&agent) else {
        return virtual_server::get(engine, &agent, stream, first, call).await;
    };
    let leg = Leg { engine, agent: &agent, session: &session, server: member.server, call: &call };
    match leg.listen(patience).await {
        Ok(reply) => {
            let relay = EventRelay::new(RelayParts {
                engine: Arc::clone(engine),
                upstream: reply.body,
                load: reply.load,
                request: None,
                stream: Some(stream),
                setting: None,
                rewrite: Rewrite::of_stream(engine, &agent, member.server),
                call,
                liveness: Liveness::new(engine, &agent, StreamKind::Standing),
                reopen: None,
                first,
            });
            Ok(events_response(engine, relay))
        }
        Err(refusal) => Err((refusal, call)),
    }
}

/// What an agent finds that comes back for a stream.
enum Found {
    /// The answer to a call, on this replica.
    Call(EventId),
    /// The same on another replica.
    Elsewhere(RemoteStream),
    /// The same, and the other replica cannot be asked just now.
    Unavailable,
    /// Nobody knows the answer to this request any more.
    Lost(String),
    /// A GET stream of this replica: up to which event, and what was missed.
    Standing(EventId, Vec<Bytes>),
    /// A new stream, with what was missed of one of another replica.
    New(Option<Vec<Bytes>>),
}

/// Finds the stream where it is; one that nobody knows is gone with its owner, and a new one begins without replay.
async fn find(engine: &Arc<Engine>, session: &Session, last: &LastEvent) -> Found {
    let at = last.id;
    let gone = || last.request.clone().map_or(Found::New(None), Found::Lost);
    match last.owner.as_deref().filter(|owner| *owner != &*engine.replicas.id) {
        None => match session.streams.since(at) {
            Replay::Call { .. } => Found::Call(at),
            Replay::Standalone(missed, number) => Found::Standing(EventId { number, ..at }, missed),
            Replay::Unknown => gone(),
        },
        Some(owner) => match RemoteStream::ask(engine, owner, &session.id, at).await {
            Handover::Call(stream) => Found::Elsewhere(stream),
            Handover::Standing(missed) => Found::New((!missed.is_empty()).then(|| vec![missed])),
            Handover::Gone => gone(),
            Handover::Unavailable if last.request.is_some() => Found::Unavailable,
            Handover::Unavailable => Found::New(None),
        },
    }
}

/// Ends a session at every replica; the agent does not wait for servers to hear of it.
pub(crate) async fn delete(engine: &Arc<Engine>, head: &Parts, agent: Arc<Agent>, mut call: Call) -> Served {
    let ended = match session_for(engine, head, &agent).await {
        Ok(session) => engine.sessions.end(&session).await.map(|()| session),
        Err(refusal) => Err(refusal),
    };
    match ended {
        Ok(session) => {
            close_upstreams(engine, &session);
            engine.replicas.end_everywhere(&session.id).await;
            call.done();
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok(response)
        }
        Err(refusal) => Err((refusal, call)),
    }
}

async fn session_for(engine: &Engine, head: &Parts, agent: &Agent) -> Result<Arc<Session>, Refusal> {
    let version = text(head, &PROTOCOL_VERSION);
    match text(head, &SESSION_ID) {
        Some(id) => session_of(engine, agent, id, version).await,
        // No session era is meant (2026-07-28, Earlier Streamable HTTP Revisions).
        None if version.is_some_and(Revision::names_stateless_era) => {
            Err(Refusal::new(Reason::MethodNotAllowed, "revision 2026-07-28 and later have only POST"))
        }
        None => Err(session_required()),
    }
}

impl Leg<'_> {
    /// Opens the server's own stream; a forgotten session is opened anew once. A server that has another reader is asked
    /// again as often as `patience` says.
    pub(crate) async fn listen(&self, patience: u32) -> Result<Reply, Refusal> {
        let mut open = self.open(0).await?;
        let (mut conflicts, mut is_new) = (0, false);
        loop {
            let Some((answer, used)) = self.send(&open, Outgoing::get()).await? else {
                if std::mem::replace(&mut is_new, true) {
                    return Err(no_instance(self.agent.snapshot.server(self.server)));
                }
                open = self.open(open.generation + 1).await?;
                continue;
            };
            let is_forgotten = match answer {
                Answer::Events(reply) => return Ok(reply),
                Answer::Json(reply) if reply.status == StatusCode::CONFLICT && conflicts < patience => {
                    conflicts += 1;
                    tokio::time::sleep(CONFLICT_PAUSE).await;
                    continue;
                }
                Answer::Json(reply) if reply.status == StatusCode::BAD_REQUEST && used.id.is_some() => {
                    self.read_bad_request(reply).await?.is_none()
                }
                Answer::NotFound => used.id.is_some(),
                _ => false,
            };
            if !is_forgotten || std::mem::replace(&mut is_new, true) {
                break;
            }
            open = self.open(used.generation + 1).await?;
        }
        Err(Refusal::new(
            Reason::MethodNotAllowed,
            "the server behind this endpoint offers no stream of its own",
        ))
    }
}
