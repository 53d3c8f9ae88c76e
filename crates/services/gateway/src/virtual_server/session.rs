use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderValue, StatusCode};
use portico_ids::ServerId;
use portico_mcp_types::{Kind, Object, Revision, Splice, method, result_answer};
use tracing::Instrument;

use super::asker::Asker;
use super::listed::What;
use super::relabel::{Relabel, split_id};
use super::scope::Scope;
use super::{capabilities, merge, route};
use crate::call::Call;
use crate::engine::Engine;
use crate::front::{Inbound, Served};
use crate::refusal::{Reason, Refusal};
use crate::relay::{accepted, cancelled_response, whole_response};
use crate::rewrite::Rewrite;
use crate::session::{Record, Session, UpstreamSession};
use crate::session_era::{Delivery, Leg, Pending, close_upstreams, deliver};
use crate::upstream::{Outgoing, not_mcp};

/// The levels of RFC 5424 §6.2.1, as MCP spells them.
const LEVELS: &[&str] = &["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

/// Opens a session of several servers; theirs are opened when they are first needed.
pub(crate) async fn initialize(
    engine: &Arc<Engine>,
    inbound: &Inbound<'_>,
    call: &Call,
) -> Result<(Bytes, Option<HeaderValue>), Refusal> {
    let wanted = inbound.params.required("protocolVersion")?;
    let revision = match Revision::parse(&wanted) {
        Ok(revision) if !revision.is_stateless() => revision,
        _ => Revision::NEWEST_SESSION,
    };
    let record = Record {
        binding: inbound.agent.binding(),
        revision,
        initialize: inbound.params.raw.map_or("{}", |raw| raw.get()).to_owned(),
        log_level: None,
        subscriptions: Vec::new(),
    };
    let session = engine.sessions.create(record).await?;
    let scope = Scope::of(engine, inbound.agent);
    let asker = Asker::in_session(engine, inbound.agent, &session, call);
    let id = HeaderValue::try_from(session.id.as_str()).map_err(|_| not_mcp())?;
    match capabilities::initialized(&asker, &scope, revision).await {
        Ok(result) => Ok((result_answer(inbound.envelope.id, &result), Some(id))),
        Err(refusal) => {
            engine.sessions.end(&session).await?;
            close_upstreams(engine, &session);
            Err(refusal)
        }
    }
}

/// Serves a message within a session.
pub(crate) async fn message(
    engine: &Arc<Engine>,
    inbound: &Inbound<'_>,
    session: &Arc<Session>,
    call: Call,
) -> Served {
    let scope = Scope::of(engine, inbound.agent);
    let asker = Asker::in_session(engine, inbound.agent, session, &call);
    let virtual_session = VirtualSession { engine, inbound, session, scope: &scope, asker: &asker };
    match inbound.envelope.kind {
        Kind::Request => virtual_session.request(call).await,
        Kind::Notification => Ok(virtual_session.notification(call)),
        Kind::Response => virtual_session.response(call).await,
    }
}

/// One message within a session of several servers.
#[derive(Clone, Copy)]
struct VirtualSession<'a> {
    engine: &'a Arc<Engine>,
    inbound: &'a Inbound<'a>,
    session: &'a Arc<Session>,
    scope: &'a Scope,
    asker: &'a Asker,
}

impl VirtualSession<'_> {
    async fn request(self, call: Call) -> Served {
        let name = self.inbound.envelope.method();
        if let Some(what) = What::of(name) {
            return match merge::list(self.asker, self.scope, self.inbound, what).await {
                Ok(result) => Ok(self.answer(&result, call)),
                Err(refusal) => Err((refusal, call)),
            };
        }
        if name == method::SET_LEVEL {
            return match self.set_level().await {
                Ok(true) => Ok(self.answer("{}", call)),
                Ok(false) => Ok(self.not_served(call)),
                Err(refusal) => Err((refusal, call)),
            };
        }
        let pending = Pending::begin(self.session, self.inbound.envelope.id);
        match pending.unless_cancelled(self.find()).await {
            Some(Ok(Some((server, body)))) => self.forward(server, body, (call, pending)).await,
            Some(Ok(None)) => Ok(self.not_served(call)),
            Some(Err(refusal)) => Err((refusal, call)),
            None => Ok(cancelled_response(self.engine, call)),
        }
    }

    /// The server that a request is for and the request as that server knows it; `None` if no server may get it.
    async fn find(self) -> Result<Option<(ServerId, Bytes)>, Refusal> {
        let Inbound { params, body, envelope, .. } = *self.inbound;
        let (asker, scope) = (self.asker, self.scope);
        match envelope.method() {
            name @ (method::TOOLS_CALL | method::PROMPTS_GET) => {
                let what = if name == method::TOOLS_CALL { What::Tools } else { What::Prompts };
                let target = route::by_name(asker, scope, what, &params.name()?).await?;
                Ok(Some((target.member.server, renamed(self.inbound, &target.name))))
            }
            method::RESOURCES_READ | method::RESOURCES_SUBSCRIBE => {
                let member = route::by_uri(asker, scope, &params.uri()?).await?;
                Ok(Some((member.server, body.clone())))
            }
            method::RESOURCES_UNSUBSCRIBE => {
                let uri = params.uri()?;
                // It may have subscribed on another replica.
                self.engine.sessions.refresh(self.session).await;
                let record = self.session.record();
                let known = record.subscriptions.iter().find(|subscription| subscription.uri == uri);
                let server = match known.filter(|known| scope.find(known.server).is_some()) {
                    Some(known) => known.server,
                    None => route::by_uri(asker, scope, &uri).await?.server,
                };
                Ok(Some((server, body.clone())))
            }
            method::COMPLETE => {
                let target = route::by_reference(asker, scope, params).await?;
                Ok(Some((target.member.server, renamed_reference(self.inbound, &target.name))))
            }
            _ => Ok(None),
        }
    }

    async fn forward(self, server: ServerId, body: Bytes, (mut call, pending): (Call, Pending)) -> Served {
        let Self { engine, inbound, session, .. } = self;
        let step = call.upstream_step();
        let leg = Leg { engine, agent: inbound.agent, session, server, call: &call };
        let exchange = leg.exchange(call.traced_body(body)).instrument(step);
        let (answer, open) = match pending.unless_cancelled(exchange).await {
            Some(Ok(answered)) => answered,
            Some(Err(refusal)) => return Err((refusal, call)),
            None => return Ok(cancelled_response(engine, call)),
        };
        let rewrite =
            Rewrite::Member(Box::new(Relabel::new(engine, inbound.agent, server, Rewrite::Nothing)));
        deliver(Delivery { engine, inbound, session, pending, server, open: &open, rewrite }, answer, call)
            .await
    }

    /// Tells all open servers; those that are opened later hear of it then. `false` if no server logs.
    async fn set_level(self) -> Result<bool, Refusal> {
        if !capabilities::offered(self.asker, self.scope, "logging").await? {
            return Ok(false);
        }
        let level = self.inbound.params.required("level")?;
        if !LEVELS.contains(&level.as_ref()) {
            let message = format!("level must be one of {}", LEVELS.join(", "));
            return Err(Refusal::new(Reason::InvalidParams, message));
        }
        let params = self.inbound.params.raw.map_or("{}", |raw| raw.get());
        self.engine.sessions.remember_log_level(self.session, params).await?;
        let open = open_upstreams(self.engine, self.session, self.scope).await;
        let mut told = Vec::with_capacity(open.len());
        for (server, open) in &open {
            told.push(tell(self.engine, *server, open, self.inbound.body.clone()));
        }
        let deadline = Duration::from_millis(self.engine.upstream.settings.list_timeout_ms);
        if tokio::time::timeout(deadline, join_all(told)).await.is_err() {
            tracing::warn!("a server does not take a log level in time");
        }
        Ok(true)
    }

    /// Passes a notification on to every open server; the agent does not wait for them.
    fn notification(self, mut call: Call) -> axum::response::Response {
        let name = self.inbound.envelope.method();
        // Each server's session was made ready when it was opened.
        if name != method::INITIALIZED {
            let (engine, session) = (Arc::clone(self.engine), Arc::clone(self.session));
            let (scope, body) = (self.scope.clone(), self.inbound.body.clone());
            let is_cancellation = name == method::CANCELLED;
            self.engine.tasks.spawn_short("gateway.notify", async move {
                let mut open = open_upstreams(&engine, &session, &scope).await;
                // Without a session, ids of requests are not this agent's alone.
                open.retain(|(_, open)| !is_cancellation || open.id.is_some());
                let told = open.iter().map(|(server, open)| tell(&engine, *server, open, body.clone()));
                join_all(told).await;
            });
        }
        call.done();
        accepted()
    }

    /// Brings an answer to the server that asked.
    async fn response(self, mut call: Call) -> Served {
        let Self { engine, inbound, session, scope, .. } = self;
        let asked = split_id(inbound.envelope.id).filter(|(server, _)| scope.find(*server).is_some());
        let Some((server, id)) = asked else { return Err((never_asked(), call)) };
        match engine.sessions.upstream(session, server, 0).await {
            Ok(Some(_)) => {}
            Ok(None) => return Err((never_asked(), call)),
            Err(refusal) => return Err((refusal, call)),
        }
        let mut splice = Splice::new(inbound.body);
        if let portico_mcp_types::Id::Present(raw) = inbound.envelope.id {
            splice.replace(raw, id);
        }
        let leg = Leg { engine, agent: inbound.agent, session, server, call: &call };
        match leg.exchange(splice.apply()).await {
            Ok(_) => {
                call.done();
                Ok(accepted())
            }
            Err(refusal) => Err((refusal, call)),
        }
    }

    /// 404 would say that the session is gone (2025-11-25, Session Management).
    fn not_served(self, mut call: Call) -> axum::response::Response {
        let name = self.inbound.envelope.method();
        let refusal = Refusal::new(Reason::MethodNotFound, format!("this endpoint does not serve {name}"));
        call.refused(&refusal);
        let body = refusal.body(self.inbound.envelope.id, call.correlation.as_str());
        whole_response(StatusCode::OK, body)
    }

    fn answer(self, result: &str, mut call: Call) -> axum::response::Response {
        let message = result_answer(self.inbound.envelope.id, result);
        call.response_bytes = message.len();
        call.done();
        whole_response(StatusCode::OK, message)
    }
}

/// The sessions that are open at the members, whichever replica opened them.
async fn open_upstreams(
    engine: &Engine,
    session: &Session,
    scope: &Scope,
) -> Vec<(ServerId, Arc<UpstreamSession>)> {
    let known = scope.members().iter().map(|member| async move {
        let open = engine.sessions.upstream(session, member.server, 0).await.ok().flatten();
        open.map(|open| (member.server, open))
    });
    join_all(known).await.into_iter().flatten().collect()
}

/// Sends a message that no answer matters of.
async fn tell(engine: &Arc<Engine>, server: ServerId, open: &UpstreamSession, body: Bytes) {
    let snapshot = engine.catalogue.snapshot();
    let Some(instance) = snapshot.instance(server, open.instance) else { return };
    let outgoing = Outgoing::post(body).in_session(open.id.as_ref(), open.revision);
    if let Err(refusal) = engine.upstream.housekeeping(instance, outgoing).await {
        tracing::debug!(server.id = %server, reason = refusal.reason.as_str(), "a server was not told");
    }
}

/// The body with the member's own name in the place of the one that agents use.
pub(super) fn renamed(inbound: &Inbound<'_>, name: &str) -> Bytes {
    let mut splice = Splice::new(inbound.body);
    if let Some(raw) = inbound.params.get("name")
        && inbound.params.name().is_ok_and(|written| written != name)
    {
        splice.replace_text(raw, name);
    }
    if splice.is_empty() { inbound.body.clone() } else { splice.apply() }
}

/// The same for the prompt that completions are asked for.
pub(super) fn renamed_reference(inbound: &Inbound<'_>, name: &str) -> Bytes {
    let reference = inbound.params.get("ref").and_then(|raw| Object::parse(raw.get(), "ref").ok());
    match reference.and_then(|reference| reference.get("name")) {
        Some(raw) => {
            let mut splice = Splice::new(inbound.body);
            splice.replace_text(raw, name);
            splice.apply()
        }
        None => inbound.body.clone(),
    }
}

fn never_asked() -> Refusal {
    Refusal::new(Reason::InvalidMessage, "no server of this endpoint asked anything under this id")
}
