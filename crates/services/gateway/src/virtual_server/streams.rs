use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use portico_authn::Role;
use portico_ids::ServerId;
use portico_mcp_types::method;
use portico_mcp_types::sse::{Decoder, SseEvent, keep_alive};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::queue::{Receiver, Sender, queue};
use super::relabel::Relabel;
use super::scope::Scope;
use crate::access::{Agent, Liveness, StreamKind};
use crate::call::Call;
use crate::catalogue::Snapshot;
use crate::engine::Engine;
use crate::front::Served;
use crate::refusal::{Reason, Refusal};
use crate::relay::{SessionStream, events_response};
use crate::rewrite::Rewrite;
use crate::session::Session;
use crate::session_era::Leg;
use crate::upstream::{Reply, too_large};

/// Most members that one standing stream listens to.
pub(super) const MAX_MEMBERS: usize = 128;
const TICK: Duration = Duration::from_secs(1);
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long to wait before a member's stream is opened again: at first, and at most.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_AT_MOST: Duration = Duration::from_mins(1);

/// What a standing stream is made of.
pub(super) struct StandingParts {
    pub(super) engine: Arc<Engine>,
    pub(super) messages: Receiver,
    /// Where events are numbered and kept; `None` in the stateless era.
    pub(super) stream: Option<SessionStream>,
    /// JSON text of the id that a listen stream answers.
    pub(super) request: Option<String>,
    pub(super) liveness: Liveness,
    pub(super) call: Call,
    pub(super) agent: Arc<Agent>,
    /// The members that are listened to.
    pub(super) scope: Scope,
    /// What is said when there come to be others, before the stream ends for the agent to open it anew.
    pub(super) changed: Vec<Bytes>,
    /// Ends the members' tasks when the agent is gone.
    pub(super) _members: DropGuard,
    /// Events that go out first.
    pub(super) first: Vec<Bytes>,
}

/// The streams of several servers as one: it stays open although theirs end.
struct Standing {
    parts: StandingParts,
    queue: VecDeque<Bytes>,
    tick: Interval,
    sent: Instant,
    /// Cancelled with the session, and when the agent goes on with the stream elsewhere.
    cancelled: CancellationToken,
    /// The catalogue that `scope` was compared with, and the roles.
    snapshot: Arc<Snapshot>,
    roles: Arc<BTreeMap<String, Role>>,
    ended: bool,
}

/// Answers with a standing stream.
pub(super) fn standing_response(parts: StandingParts) -> Response {
    let engine = Arc::clone(&parts.engine);
    engine.recorder.metrics.streams.inc();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let queue = parts.first.iter().cloned().collect();
    let cancelled = parts.stream.as_ref().map(|stream| stream.cancelled.clone()).unwrap_or_default();
    let snapshot = Arc::clone(&parts.agent.snapshot);
    let roles = Arc::clone(parts.engine.verifier.trust().load().roles());
    let standing =
        Standing { parts, queue, tick, sent: Instant::now(), cancelled, snapshot, roles, ended: false };
    let events = stream::unfold(standing, |mut standing| async move {
        let bytes = standing.next().await?;
        Some((Ok::<_, Infallible>(bytes), standing))
    });
    events_response(&engine, Body::from_stream(events))
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.parts.engine.recorder.metrics.streams.dec();
    }
}

impl Standing {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.queue.pop_front() {
                self.sent = Instant::now();
                return Some(bytes);
            }
            if self.ended {
                return None;
            }
            tokio::select! {
                Some(message) = self.parts.messages.recv() => self.put(message),
                () = self.cancelled.cancelled() => {
                    self.parts.call.done();
                    self.ended = true;
                }
                _ = self.tick.tick() => self.on_tick(),
            }
        }
    }

    fn put(&mut self, message: Bytes) {
        self.parts.call.response_bytes += message.len();
        let mut event = SseEvent::message(message);
        event.event = Some(Bytes::from_static(b"message"));
        self.queue.push_back(match &mut self.parts.stream {
            Some(stream) => stream.put(event),
            None => event.encode(),
        });
    }

    fn on_tick(&mut self) {
        let draining = self.parts.engine.tasks.shutdown_token().is_cancelled();
        if draining || self.is_outdated() || !self.parts.liveness.may_go_on() {
            self.parts.call.done();
            if let Some(result) = self.parts.liveness.closing_message(self.parts.request.as_deref()) {
                self.put(result);
            }
            self.ended = true;
        } else if self.sent.elapsed() > KEEP_ALIVE {
            self.queue.push_back(keep_alive());
        }
    }

    /// Whether the endpoint has other members by now, or is no longer there for this caller.
    fn is_outdated(&mut self) -> bool {
        let snapshot = self.parts.engine.catalogue.snapshot();
        let roles = Arc::clone(self.parts.engine.verifier.trust().load().roles());
        if Arc::ptr_eq(&snapshot, &self.snapshot) && Arc::ptr_eq(&roles, &self.roles) {
            return false;
        }
        let now = Scope::now(&self.parts.engine, &self.parts.agent, &snapshot);
        (self.snapshot, self.roles) = (snapshot, roles);
        match now {
            Some(now) if now.is_same(&self.parts.scope) => false,
            Some(_) => {
                for message in std::mem::take(&mut self.parts.changed) {
                    self.put(message);
                }
                true
            }
            None => true,
        }
    }
}

/// Opens a session's own stream: what all its servers send on their own account.
pub(crate) async fn get(
    engine: &Arc<Engine>,
    agent: &Arc<Agent>,
    stream: SessionStream,
    first: Vec<Bytes>,
    call: Call,
) -> Served {
    let (sender, messages) = queue();
    let token = stream.session.ended.child_token();
    let scope = Scope::of(engine, agent);
    for member in scope.members().iter().take(MAX_MEMBERS) {
        let mut own = call.sibling("");
        own.forget();
        let listener = Listener {
            engine: Arc::clone(engine),
            agent: Agent::clone(agent),
            session: Arc::clone(&stream.session),
            server: member.server,
            relabel: Relabel::new(engine, agent, member.server, Rewrite::Nothing),
            call: own,
            sender: sender.clone(),
        };
        let token = token.clone();
        engine.tasks.spawn_short("gateway.member-stream", async move {
            token.run_until_cancelled(listener.run()).await;
        });
    }
    Ok(standing_response(StandingParts {
        engine: Arc::clone(engine),
        messages,
        stream: Some(stream),
        request: None,
        liveness: Liveness::new(engine, agent, StreamKind::Standing),
        call,
        agent: Arc::clone(agent),
        scope,
        changed: CHANGED.iter().map(|name| notification(name, "")).collect(),
        _members: token.drop_guard(),
        first,
    }))
}

/// What a server said of its lists may have been missed, here and on every other replica.
pub(super) fn all_lists_changed(engine: &Engine, server: ServerId) {
    engine.virtual_servers.lists.all_changed(server);
    for name in CHANGED {
        engine.replicas.tell_changed(server, name);
    }
}

/// What says that lists have changed.
pub(super) const CHANGED: [&str; 3] =
    [method::TOOLS_CHANGED, method::PROMPTS_CHANGED, method::RESOURCES_CHANGED];

/// A notification with params that are JSON text; empty text is none.
pub(super) fn notification(name: &str, params: &str) -> Bytes {
    let params = if params.is_empty() { String::new() } else { format!(",\"params\":{params}") };
    Bytes::from(format!("{{\"jsonrpc\":\"2.0\",\"method\":\"{name}\"{params}}}"))
}

/// Listens to the own stream of one server.
struct Listener {
    engine: Arc<Engine>,
    agent: Agent,
    session: Arc<Session>,
    server: ServerId,
    relabel: Relabel,
    call: Call,
    sender: Sender,
}

impl Listener {
    /// Goes on until the agent leaves, or the server says that it offers no such stream.
    async fn run(mut self) {
        let mut pause = Pause::default();
        let mut before = false;
        loop {
            // A server that was moved meanwhile is found where it is now.
            self.agent.snapshot = self.engine.catalogue.snapshot();
            let leg = Leg {
                engine: &self.engine,
                agent: &self.agent,
                session: &self.session,
                server: self.server,
                call: &self.call,
            };
            match leg.listen(0).await {
                Ok(reply) => {
                    pause.begin();
                    if std::mem::replace(&mut before, true) {
                        // Nobody knows what the server said meanwhile.
                        all_lists_changed(&self.engine, self.server);
                    }
                    self.pump(reply).await;
                }
                Err(refusal)
                    if matches!(refusal.reason, Reason::MethodNotAllowed | Reason::EraNotBridged) =>
                {
                    return;
                }
                Err(refusal) => {
                    tracing::debug!(server.id = %self.server, reason = refusal.reason.as_str(), "a server's stream cannot be opened");
                }
            }
            if self.sender.is_closed() {
                return;
            }
            pause.wait().await;
        }
    }

    async fn pump(&self, reply: Reply) {
        let mut events = Events::new(&self.engine, reply);
        while let Ok(Some(message)) = events.next().await {
            let Ok(message) = self.relabel.apply(&message) else { return };
            if self.sender.send(message).await.is_err() {
                return;
            }
        }
    }
}

/// The messages on a server's stream.
pub(super) struct Events {
    reply: Reply,
    decoder: Decoder,
}

impl Events {
    pub(super) fn new(engine: &Engine, reply: Reply) -> Self {
        Self { reply, decoder: Decoder::new(engine.upstream.settings.max_event_bytes) }
    }

    /// The next message, `None` at the end; a standing stream may be silent for as long as it likes.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        use http_body_util::BodyExt;
        loop {
            while let Some(event) = self.decoder.next_event().map_err(|_| too_large())? {
                if !event.data.is_empty() {
                    return Ok(Some(event.data));
                }
            }
            // What an instance says that is gone is not heard any more; its stream is opened where there is another one.
            let departed = self.reply.load.departed().clone();
            match departed.run_until_cancelled(self.reply.body.frame()).await.flatten() {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.decoder.push(&data);
                    }
                }
                Some(Err(_)) | None => return Ok(None),
            }
        }
    }
}

/// How long to wait before trying again: longer each time, from the start after a stream that lasted.
#[derive(Debug)]
pub(super) struct Pause {
    next: Duration,
    begun: Option<Instant>,
}

impl Default for Pause {
    fn default() -> Self {
        Self { next: AGAIN, begun: None }
    }
}

impl Pause {
    /// A stream stands now.
    pub(super) fn begin(&mut self) {
        self.begun = Some(Instant::now());
    }

    pub(super) async fn wait(&mut self) {
        if self.begun.take().is_some_and(|begun| begun.elapsed() > AGAIN_AT_MOST) {
            self.next = AGAIN;
        }
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(AGAIN_AT_MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_ends_its_stream_at_once_is_asked_less_and_less_often() {
        let mut pause = Pause::default();
        let start = Instant::now();
        for _ in 0..8 {
            pause.begin();
            pause.wait().await;
        }
        assert_eq!(start.elapsed().as_secs(), 1 + 2 + 4 + 8 + 16 + 32 + 60 + 60);
        pause.begin();
        tokio::time::advance(AGAIN_AT_MOST + AGAIN).await;
        let start = Instant::now();
        pause.wait().await;
        assert_eq!(start.elapsed(), AGAIN);
    }
}
