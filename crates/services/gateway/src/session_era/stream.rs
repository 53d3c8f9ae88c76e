use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use http::request::Parts;
use portico_mcp_types::{LAST_EVENT_ID, PROTOCOL_VERSION, Revision, SESSION_ID};

use super::open::close;
use super::request::priming;
use super::{Leg, session_of, single};
use crate::access::{Agent, Liveness, StreamKind};
use crate::admission::require_accept;
use crate::call::Call;
use crate::classify::session_required;
use crate::engine::Engine;
use crate::front::{Served, text};
use crate::refusal::{Reason, Refusal};
use crate::relay::{EventRelay, RelayParts, SessionStream, events_response, resume_response};
use crate::rewrite::Rewrite;
use crate::session::{EventId, Replay, Session};
use crate::upstream::{Answer, Outgoing, Reply};
use crate::virtual_server;

/// Opens or resumes a stream of what servers send on their own account.
pub(crate) async fn get(engine: &Arc<Engine>, head: &Parts, agent: Arc<Agent>, call: Call) -> Served {
    let session = match session_for(engine, head, &agent).await {
        Ok(session) => session,
        Err(refusal) => return Err((refusal, call)),
    };
    if let Err(refusal) = require_accept(&head.headers, &["text/event-stream"]) {
        return Err((refusal, call));
    }
    let resumed = text(head, &LAST_EVENT_ID).and_then(|id| id.parse::<EventId>().ok());
    let mut start = None;
    if let Some(after) = resumed {
        match session.streams.since(after) {
            Replay::Call { .. } => {
                let liveness = Liveness::new(engine, &agent, StreamKind::Call);
                return Ok(resume_response(session, after, call, (liveness, engine.tasks.shutdown_token())));
            }
            Replay::Standalone(missed, number) => start = Some((after.stream, number, missed)),
            // Its owner is gone: a new stream without replay.
            Replay::Unknown => {}
        }
    }
    let (stream, number, first) = start.unwrap_or_else(|| {
        let stream = session.streams.open(None);
        (stream, 0, priming(session.revision(), stream))
    });
    let stream = SessionStream::new(Arc::clone(&session), stream, number);
    let Some(member) = single(&agent) else {
        return virtual_server::get(engine, &agent, stream, first, call).await;
    };
    let leg = Leg { engine, agent: &agent, session: &session, server: member.server, call: &call };
    match leg.listen().await {
        Ok(reply) => Ok(events_response(EventRelay::new(RelayParts {
            engine: Arc::clone(engine),
            upstream: reply.body,
            load: reply.load,
            request: None,
            stream: Some(stream),
            rewrite: Rewrite::of_stream(engine, &agent, member.server),
            call,
            liveness: Liveness::new(engine, &agent, StreamKind::Standing),
            reopen: None,
            first,
        }))),
        Err(refusal) => Err((refusal, call)),
    }
}

/// Ends a session; the agent does not wait for servers to hear of it.
pub(crate) async fn delete(engine: &Arc<Engine>, head: &Parts, agent: Arc<Agent>, mut call: Call) -> Served {
    let ended = match session_for(engine, head, &agent).await {
        Ok(session) => engine.sessions.end(&session).await.map(|()| session),
        Err(refusal) => Err(refusal),
    };
    match ended {
        Ok(session) => {
            close_upstreams(engine, &session);
            call.done();
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok(response)
        }
        Err(refusal) => Err((refusal, call)),
    }
}

/// Closes what stands open behind a session that is over.
pub(crate) fn close_upstreams(engine: &Arc<Engine>, session: &Session) {
    let snapshot = engine.catalogue.snapshot();
    for (server, open) in session.upstreams() {
        if let Some(instance) = snapshot.instance(server, open.instance) {
            close(engine, instance, &open);
        }
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
    /// Opens the server's own stream; a forgotten session is opened anew once.
    pub(crate) async fn listen(&self) -> Result<Reply, Refusal> {
        let mut open = self.open(0).await?;
        for attempt in 0..2 {
            let Some(instance) = self.agent.snapshot.instance(self.server, open.instance) else {
                open = self.open(open.generation + 1).await?;
                continue;
            };
            let outgoing = Outgoing::get()
                .in_session(open.id.as_ref(), open.revision)
                .traced(&self.call.correlation, &self.call.trace);
            match self.engine.upstream.exchange(instance, outgoing).await? {
                Answer::Events(reply) => return Ok(reply),
                Answer::NotFound if attempt == 0 && open.id.is_some() => {
                    open = self.open(open.generation + 1).await?;
                }
                _ => break,
            }
        }
        Err(Refusal::new(
            Reason::MethodNotAllowed,
            "the server behind this endpoint offers no stream of its own",
        ))
    }
}
