use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use portico_ids::{InstanceId, ServerId};
use portico_mcp_types::{Envelope, Object, Revision, SESSION_ID, text_of};
use tokio::sync::oneshot;

use super::close::discard;
use super::{Leg, single};
use crate::call::Call;
use crate::catalogue::{Eras, Instance, Server, Snapshot};
use crate::engine::Engine;
use crate::front::{Inbound, Served};
use crate::refusal::{Reason, Refusal};
use crate::relay::whole_response;
use crate::session::{Published, Record, UpstreamSession, sensitive};
use crate::upstream::{Answer, Candidates, Outgoing, is_unknown_method, not_mcp, too_large};

/// Id of the `initialize` that Portico sends on its own.
const OWN_INITIALIZE: &str = "\"portico-initialize\"";

/// What ends it.
const OWN_INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// Largest result of `initialize`: other replicas have to get it too.
const MAX_INITIALIZED: usize = 128 * 1024;

/// Opens a session: the server negotiates, Portico names the session (2025-11-25, Session Management).
pub(crate) async fn initialize(engine: &Arc<Engine>, inbound: &Inbound<'_>, mut call: Call) -> Served {
    match open_session(engine, inbound, &call).await {
        Ok((message, session)) => {
            call.response_bytes = message.len();
            call.done();
            let mut response = whole_response(StatusCode::OK, message);
            if let Some(session) = session {
                response.headers_mut().insert(SESSION_ID, session);
            }
            Ok(response)
        }
        Err(refusal) => Err((refusal, call)),
    }
}

async fn open_session(
    engine: &Arc<Engine>,
    inbound: &Inbound<'_>,
    call: &Call,
) -> Result<(Bytes, Option<HeaderValue>), Refusal> {
    let params = inbound.params.raw.map_or("{}", |raw| raw.get());
    inbound.params.required("protocolVersion")?;
    if params.len() > engine.settings.sessions.max_initialize_bytes {
        return Err(Refusal::new(
            Reason::InvalidParams,
            format!(
                "the params of initialize are larger than {} bytes",
                engine.settings.sessions.max_initialize_bytes
            ),
        ));
    }
    let agent = inbound.agent;
    let Some(member) = single(agent) else {
        return crate::virtual_server::initialize(engine, inbound, call).await;
    };
    let mut candidates = candidates(engine, &agent.snapshot, (member.server, None))?;
    let outgoing = Outgoing::post(inbound.body.clone()).traced(&call.correlation, &call.trace);
    let answer = engine.upstream.exchange_with_any(&mut candidates, outgoing, call).await?;
    let instance = candidates.instance();
    let opened = Opened::by(engine, instance, &answer);
    let (message, upstream_id) = engine.upstream.response_to(inbound.envelope.id, answer).await?;
    let Some(negotiated) = Negotiated::read(&message)? else {
        // The server refused; there is no session.
        return match other_era(&agent.snapshot, member.server, instance, &message) {
            Some(refusal) => Err(refusal),
            None => Ok((message, None)),
        };
    };
    let record = Record {
        binding: agent.binding(),
        revision: negotiated.revision,
        initialize: params.to_owned(),
        log_level: None,
        subscriptions: Vec::new(),
    };
    let open = UpstreamSession {
        instance: instance.id,
        id: upstream_id.map(sensitive),
        revision: negotiated.revision,
        generation: 0,
        initialized: negotiated.result,
    };
    let session = engine.sessions.create(record).await?;
    if let Err(refusal) = engine.sessions.publish_upstream(&session, member.server, open).await {
        // Its agent never learns its name.
        engine.sessions.end(&session).await?;
        return Err(refusal);
    }
    opened.keep();
    let id = HeaderValue::try_from(session.id.as_str()).map_err(|_| not_mcp())?;
    Ok((message, Some(id)))
}

/// A session that a server opened and of which nobody else knows yet. Whatever comes between, be it that the agent leaves, it
/// is closed again: nobody else ever would.
#[derive(Debug)]
struct Opened<'a> {
    engine: &'a Arc<Engine>,
    server: ServerId,
    /// `None` once others know of it.
    open: Option<UpstreamSession>,
}

impl<'a> Opened<'a> {
    /// The session that the head of an answer to `initialize` names.
    fn by(engine: &'a Arc<Engine>, instance: &Instance, answer: &Answer) -> Self {
        let id = match answer {
            Answer::Json(reply) | Answer::Events(reply) => reply.session.clone(),
            _ => None,
        };
        let open = id.map(|id| UpstreamSession {
            instance: instance.id,
            id: Some(sensitive(id)),
            // What was negotiated is in the body; this one has no header that a server could refuse.
            revision: Revision::V2025_03_26,
            generation: 0,
            initialized: Bytes::new(),
        });
        Self { engine, server: instance.server, open }
    }

    fn keep(mut self) {
        self.open = None;
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        if let Some(open) = self.open.take() {
            discard(self.engine, self.server, open);
        }
    }
}

/// What a server's answer to `initialize` says.
struct Negotiated {
    revision: Revision,
    result: Bytes,
}

impl Negotiated {
    /// `None` if the server answered with an error.
    fn read(message: &Bytes) -> Result<Option<Self>, Refusal> {
        let envelope = Envelope::parse(message).map_err(|_| not_mcp())?;
        let Some(result) = envelope.result else { return Ok(None) };
        if result.get().len() > MAX_INITIALIZED {
            return Err(too_large());
        }
        let object = Object::parse(result.get(), "result").map_err(|_| not_mcp())?;
        let version = object.get("protocolVersion").and_then(text_of).ok_or_else(not_mcp)?;
        let revision = Revision::parse(&version).map_err(|_| not_mcp())?;
        if revision.is_stateless() {
            return Err(not_mcp());
        }
        Ok(Some(Self { revision, result: message.slice_ref(result.get().as_bytes()) }))
    }
}

/// The instances that speak the session era, with the one that took the last call first.
pub(super) fn candidates(
    engine: &Engine,
    snapshot: &Snapshot,
    (server, last): (ServerId, Option<InstanceId>),
) -> Result<Candidates, Refusal> {
    let server = snapshot.server(server).ok_or_else(|| no_instance(None))?;
    let (speaks, random) = (|eras: Eras| eras.session, engine.random());
    let candidates = match last {
        Some(last) => Candidates::near(last, server, speaks, random),
        None => Candidates::of(server, speaks, random),
    };
    match candidates {
        Some(candidates) => Ok(candidates),
        None if server.enabled && server.speaks(|eras| eras.stateless) => Err(not_bridged(server)),
        None => Err(no_instance(Some(server))),
    }
}

pub(crate) fn no_instance(server: Option<&Arc<Server>>) -> Refusal {
    let message = match server {
        Some(server) if !server.enabled => {
            format!("the server {} is disabled; its owner can enable it", server.name)
        }
        Some(server) => {
            format!("no instance of the server {} can be called just now; try again later", server.name)
        }
        None => "the server behind this endpoint no longer exists".to_owned(),
    };
    Refusal::new(Reason::NoInstance, message)
}

/// What it means that a server whose eras nobody has seen refused `initialize`: only the stateless era lacks it.
fn other_era(snapshot: &Snapshot, server: ServerId, instance: &Instance, message: &Bytes) -> Option<Refusal> {
    let lacks_it = Envelope::parse(message).is_ok_and(|envelope| is_unknown_method(&envelope));
    if !(lacks_it && instance.eras.stateless) {
        return None;
    }
    Some(snapshot.server(server).map_or_else(|| no_instance(None), |server| not_bridged(server)))
}

fn not_bridged(server: &Server) -> Refusal {
    Refusal::new(
        Reason::EraNotBridged,
        format!(
            "the server {} speaks only revision 2026-07-28 and later, and Portico does not bridge revisions yet; \
             use a client that speaks 2026-07-28",
            server.name
        ),
    )
    .with_data("supported", format!("[\"{}\"]", Revision::NEWEST))
}

impl Leg<'_> {
    /// The session at the server, opened if this is the first use or the server has forgotten it.
    pub(crate) async fn open(&self, generation: u32) -> Result<Arc<UpstreamSession>, Refusal> {
        let sessions = &self.engine.sessions;
        if let Some(open) = sessions.upstream(self.session, self.server, generation).await? {
            return Ok(open);
        }
        let mut candidates = candidates(self.engine, &self.agent.snapshot, (self.server, None))?;
        // What the agent told other replicas is told to the server too.
        sessions.refresh(self.session).await;
        let (own, opened) = self.initialize_at(&mut candidates, generation).await?;
        match sessions.publish_upstream(self.session, self.server, own).await? {
            Published::First(open) => {
                opened.keep();
                self.restore(candidates.instance(), &open).await;
                Ok(open)
            }
            Published::Lost(first) => Ok(first),
        }
    }

    async fn initialize_at(
        &self,
        candidates: &mut Candidates,
        generation: u32,
    ) -> Result<(UpstreamSession, Opened<'_>), Refusal> {
        let record = self.session.record();
        let body = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{OWN_INITIALIZE},\"method\":\"initialize\",\"params\":{}}}",
            record.initialize
        );
        let outgoing =
            Outgoing::post(Bytes::from(body.clone())).traced(&self.call.correlation, &self.call.trace);
        let answer = self.engine.upstream.housekeeping_with_any(candidates, outgoing, self.call).await?;
        let instance = candidates.instance();
        let opened = Opened::by(self.engine, instance, &answer);
        let own = Envelope::parse(body.as_bytes())?;
        let (message, id) = self.engine.upstream.response_to(own.id, answer).await?;
        let negotiated = Negotiated::read(&message)?.ok_or_else(|| {
            let other_era = other_era(&self.agent.snapshot, self.server, instance, &message);
            other_era.unwrap_or_else(|| {
                Refusal::new(
                    Reason::UpstreamFailed,
                    "the server refused to open a session; its owner can find out why",
                )
            })
        })?;
        let own = UpstreamSession {
            instance: instance.id,
            id: id.map(sensitive),
            revision: negotiated.revision,
            generation,
            initialized: negotiated.result,
        };
        // Before anybody else gets to use it: a server may refuse what comes first (2025-11-25, Lifecycle).
        tell_own(self.engine, instance, &own, OWN_INITIALIZED.to_owned()).await;
        Ok((own, opened))
    }

    /// Tells a server what the agent told its forgotten session. It is told all of it, also when the call that led to it ends
    /// on the way.
    async fn restore(&self, instance: &Arc<Instance>, open: &Arc<UpstreamSession>) {
        let messages = told_before(&self.session.record(), self.server, open);
        if messages.is_empty() {
            return;
        }
        let (engine, instance, open) = (Arc::clone(self.engine), Arc::clone(instance), Arc::clone(open));
        let (done, is_done) = oneshot::channel::<()>();
        self.engine.tasks.spawn_short("gateway.restore-session", async move {
            for message in messages {
                tell_own(&engine, &instance, &open, message).await;
            }
            drop(done);
        });
        // The task drops the other end.
        let _ = is_done.await;
    }
}

/// What an agent has set in its session, for a server that has to hear it again.
fn told_before(record: &Record, server: ServerId, open: &UpstreamSession) -> Vec<String> {
    let mut messages = Vec::new();
    if let Some(level) = &record.log_level {
        messages.push(format!(
            r#"{{"jsonrpc":"2.0","id":"portico-level","method":"logging/setLevel","params":{level}}}"#
        ));
    }
    if open.generation > 0 {
        let own = record.subscriptions.iter().filter(|subscription| subscription.server == server);
        messages.extend(own.map(|subscription| {
            let uri = serde_json::Value::from(subscription.uri.as_str());
            format!(
                r#"{{"jsonrpc":"2.0","id":"portico-subscribe","method":"resources/subscribe","params":{{"uri":{uri}}}}}"#
            )
        }));
    }
    messages
}

/// Sends a message of Portico's own; a failure is the server's loss, not the call's.
async fn tell_own(engine: &Engine, instance: &Instance, open: &UpstreamSession, message: String) {
    let outgoing = Outgoing::post(Bytes::from(message)).in_session(open.id.as_ref(), open.revision);
    if let Err(refusal) = engine.upstream.housekeeping(instance, outgoing).await {
        tracing::warn!(server.id = %instance.server, reason = refusal.reason.as_str(), "a session cannot be restored whole");
    }
}
