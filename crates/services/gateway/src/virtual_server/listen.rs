use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use portico_ids::ServerId;
use portico_mcp_types::{Envelope, Kind, Object, ParseError, SUBSCRIPTION_ID, Splice, method, sse::SseEvent};
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::asker::Asker;
use super::queue::{Closed, Sender, queue};
use super::relabel::Relabel;
use super::route;
use super::scope::Scope;
use super::streams::{
    CHANGED, Events, MAX_MEMBERS, Pause, StandingParts, all_lists_changed, notification, standing_response,
};
use super::warning::{Warning, meta_member};
use crate::access::{Agent, Liveness, StreamKind};
use crate::call::Call;
use crate::catalogue::Member;
use crate::engine::Engine;
use crate::front::{Inbound, Served};
use crate::refusal::{Reason, Refusal};
use crate::rewrite::Rewrite;
use crate::stateless::{candidates, mirrored_headers};
use crate::upstream::{Answer, Outgoing, Reply, lost, not_mcp};

/// Most resources that one stream follows.
const MAX_RESOURCES: usize = 1_000;
/// The notifications that are asked for by a flag.
const FLAGS: [&str; 3] = ["toolsListChanged", "promptsListChanged", "resourcesListChanged"];

/// Which notifications are asked for, or agreed to (2026-07-28, Subscriptions).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Filter {
    flags: [bool; 3],
    resources: Vec<String>,
}

impl Filter {
    fn parse(raw: &RawValue) -> Result<Self, ParseError> {
        let object = Object::parse(raw.get(), "notifications")?;
        let flags = FLAGS.map(|flag| object.get(flag).is_some_and(|raw| raw.get() == "true"));
        let resources = match object.get("resourceSubscriptions") {
            Some(raw) => serde_json::from_str(raw.get()).map_err(|_| {
                ParseError::Param("notifications.resourceSubscriptions", "an array of strings")
            })?,
            None => Vec::new(),
        };
        Ok(Self { flags, resources })
    }

    fn to_json(&self) -> String {
        let mut object = serde_json::Map::new();
        for (flag, on) in FLAGS.iter().zip(self.flags) {
            if on {
                object.insert((*flag).to_owned(), true.into());
            }
        }
        if !self.resources.is_empty() {
            object.insert("resourceSubscriptions".to_owned(), self.resources.clone().into());
        }
        serde_json::Value::Object(object).to_string()
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The notifications of all that is asked for, for the subscription with this id.
    fn everything_changed(&self, id: &str) -> Vec<Bytes> {
        let meta = format!("\"_meta\":{{\"{SUBSCRIPTION_ID}\":{id}}}");
        let flagged = CHANGED.iter().zip(self.flags).filter(|(_, wanted)| *wanted);
        let lists = flagged.map(|(name, _)| notification(name, &format!("{{{meta}}}")));
        let updated = |uri: &String| {
            let uri = serde_json::Value::from(uri.as_str());
            notification(method::RESOURCE_UPDATED, &format!("{{\"uri\":{uri},{meta}}}"))
        };
        lists.chain(self.resources.iter().map(updated)).collect()
    }

    /// What of this was asked for, whatever a server says.
    fn within(mut self, asked: &Self) -> Self {
        for (own, asked) in self.flags.iter_mut().zip(asked.flags) {
            *own &= asked;
        }
        self.resources.retain(|uri| asked.resources.contains(uri));
        self
    }

    fn add(&mut self, other: Self) {
        for (own, other) in self.flags.iter_mut().zip(other.flags) {
            *own |= other;
        }
        self.resources.extend(other.resources);
    }
}

/// Opens one stream over those of all members: acknowledged once, when each has answered or had its time.
pub(super) async fn listen(asker: &Asker, scope: &Scope, inbound: &Inbound<'_>, call: Call) -> Served {
    let wanted = match wanted(inbound) {
        Ok(wanted) => wanted,
        Err(refusal) => return Err((refusal, call)),
    };
    let id = inbound.envelope.id.as_json();
    let changed = wanted.everything_changed(id);
    let filters = split(asker, scope, wanted).await;
    let engine = &asker.engine;
    let (sender, messages) = queue();
    let token = CancellationToken::new();
    let mut pending = Vec::new();
    for member in scope.members().iter().take(MAX_MEMBERS) {
        let Some(filter) = filters.get(&member.server) else { continue };
        let (acknowledge, acknowledged) = oneshot::channel();
        let listener = Listener::new(asker, inbound, member, filter, (&call, sender.clone()));
        let token = token.clone();
        engine.tasks.spawn_short("gateway.member-stream", async move {
            token.run_until_cancelled(listener.run(acknowledge)).await;
        });
        pending.push((member, acknowledged));
    }
    let within = Duration::from_millis(engine.upstream.settings.list_timeout_ms);
    let first = SseEvent {
        event: Some(Bytes::from_static(b"message")),
        ..SseEvent::message(acknowledgement(inbound, pending, within).await)
    };
    Ok(standing_response(StandingParts {
        engine: Arc::clone(engine),
        messages,
        stream: None,
        request: Some(id.to_owned()),
        liveness: Liveness::new(engine, inbound.agent, StreamKind::Listen),
        call,
        agent: Arc::clone(inbound.agent),
        scope: scope.clone(),
        changed,
        _members: token.drop_guard(),
        first: vec![first.encode()],
    }))
}

fn wanted(inbound: &Inbound<'_>) -> Result<Filter, Refusal> {
    let raw = inbound.params.get("notifications").ok_or(ParseError::Param("notifications", "an object"))?;
    let wanted = Filter::parse(raw)?;
    if wanted.resources.len() > MAX_RESOURCES {
        let message = format!("one stream follows at most {MAX_RESOURCES} resources");
        return Err(Refusal::new(Reason::InvalidParams, message));
    }
    Ok(wanted)
}

/// What each member is asked for: lists of everyone, resources of their owner.
async fn split(asker: &Asker, scope: &Scope, wanted: Filter) -> BTreeMap<ServerId, Filter> {
    let mut filters = BTreeMap::new();
    for member in scope.members() {
        filters.insert(member.server, Filter { flags: wanted.flags, resources: Vec::new() });
    }
    let within = Duration::from_millis(asker.engine.upstream.settings.list_timeout_ms);
    let until = tokio::time::Instant::now() + within;
    for uri in wanted.resources {
        // What nobody owns, or nobody is known in time to own, is left out of the acknowledgement.
        if let Ok(Ok(member)) = tokio::time::timeout_at(until, route::by_uri(asker, scope, &uri)).await
            && let Some(filter) = filters.get_mut(&member.server)
        {
            filter.resources.push(uri);
        }
    }
    filters.retain(|_, filter| !filter.is_empty());
    filters
}

type Acknowledged = Result<Filter, Refusal>;

async fn acknowledgement(
    inbound: &Inbound<'_>,
    pending: Vec<(&Member, oneshot::Receiver<Acknowledged>)>,
    within: Duration,
) -> Bytes {
    let deadline = tokio::time::Instant::now() + within;
    let mut agreed = Filter::default();
    let mut warnings = Vec::new();
    for (member, acknowledged) in pending {
        let answer = match tokio::time::timeout_at(deadline, acknowledged).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(lost())),
            Err(_) => Err(Refusal::new(Reason::UpstreamTimeout, "the server did not acknowledge in time")),
        };
        match answer {
            Ok(filter) => agreed.add(filter),
            Err(refusal) => warnings.push(Warning::left_out(member, &refusal)),
        }
    }
    let mut meta = format!("\"{SUBSCRIPTION_ID}\":{}", inbound.envelope.id.as_json());
    if let Some(warnings) = meta_member(&warnings) {
        meta.push(',');
        meta.push_str(&warnings);
    }
    Bytes::from(format!(
        "{{\"jsonrpc\":\"2.0\",\"method\":\"{}\",\"params\":{{\"_meta\":{{{meta}}},\"notifications\":{}}}}}",
        method::LISTEN_ACKNOWLEDGED,
        agreed.to_json()
    ))
}

/// Listens to one member under the id of the agent's own request, so that its messages name the right subscription.
struct Listener {
    engine: Arc<Engine>,
    agent: Agent,
    server: ServerId,
    filter: Filter,
    /// The agent's request's, as JSON text.
    id: String,
    headers: HeaderMap,
    body: Bytes,
    relabel: Relabel,
    call: Call,
    sender: Sender,
}

impl Listener {
    fn new(
        asker: &Asker,
        inbound: &Inbound<'_>,
        member: &Member,
        filter: &Filter,
        (call, sender): (&Call, Sender),
    ) -> Self {
        let mut splice = Splice::new(inbound.body);
        if let Some(raw) = inbound.params.get("notifications") {
            splice.replace(raw, filter.to_json());
        }
        let mut own = call.sibling("");
        own.forget();
        Self {
            engine: Arc::clone(&asker.engine),
            agent: Agent::clone(inbound.agent),
            server: member.server,
            filter: filter.clone(),
            id: inbound.envelope.id.as_json().to_owned(),
            headers: mirrored_headers(&inbound.head.headers),
            body: splice.apply(),
            relabel: Relabel::new(&asker.engine, inbound.agent, member.server, Rewrite::Nothing),
            call: own,
            sender,
        }
    }

    async fn run(mut self, acknowledge: oneshot::Sender<Acknowledged>) {
        let mut acknowledge = Some(acknowledge);
        let mut pause = Pause::default();
        loop {
            self.agent.snapshot = self.engine.catalogue.snapshot();
            match self.open().await {
                Ok(reply) => {
                    pause.begin();
                    if acknowledge.is_none() && self.make_up().await.is_err() {
                        return;
                    }
                    self.pump(reply, &mut acknowledge).await;
                }
                Err(refusal) => {
                    let final_ = matches!(refusal.reason, Reason::EraNotBridged | Reason::UpstreamNotMcp);
                    if let Some(acknowledge) = acknowledge.take() {
                        let _ = acknowledge.send(Err(refusal));
                    }
                    if final_ {
                        return;
                    }
                }
            }
            if self.sender.is_closed() {
                return;
            }
            pause.wait().await;
        }
    }

    /// Tells that everything may have changed: nobody knows what the server said while its stream was away.
    async fn make_up(&self) -> Result<(), Closed> {
        all_lists_changed(&self.engine, self.server);
        for message in self.filter.everything_changed(&self.id) {
            self.sender.send(message).await?;
        }
        Ok(())
    }

    async fn open(&self) -> Result<Reply, Refusal> {
        let mut candidates = candidates(&self.engine, &self.agent.snapshot, self.server)?;
        let mut outgoing = Outgoing::post(self.body.clone()).traced(&self.call.correlation, &self.call.trace);
        outgoing.headers.extend(self.headers.clone());
        match self.engine.upstream.exchange_with_any(&mut candidates, outgoing, &self.call).await? {
            Answer::Events(reply) => Ok(reply),
            // A server that has nothing to tell refuses with an error; asking again would change nothing.
            _ => Err(not_mcp()),
        }
    }

    async fn pump(&self, reply: Reply, acknowledge: &mut Option<oneshot::Sender<Acknowledged>>) {
        let mut events = Events::new(&self.engine, reply);
        while let Ok(Some(message)) = events.next().await {
            let Ok(envelope) = Envelope::parse(&message) else { return };
            match envelope.kind {
                Kind::Notification if envelope.method() == method::LISTEN_ACKNOWLEDGED => {
                    if let Some(acknowledge) = acknowledge.take() {
                        let _ = acknowledge.send(Ok(agreed(&envelope).within(&self.filter)));
                    }
                }
                Kind::Notification => {
                    let Ok(message) = self.relabel.apply(&message) else { return };
                    if self.sender.send(message).await.is_err() {
                        return;
                    }
                }
                // The server ends its part; the agent's stream goes on.
                Kind::Response => return,
                Kind::Request => {}
            }
        }
    }
}

fn agreed(envelope: &Envelope<'_>) -> Filter {
    let params = envelope.params.and_then(|params| Object::parse(params.get(), "params").ok());
    params.and_then(|params| Filter::parse(params.get("notifications")?).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(json: &str) -> Result<Filter, ParseError> {
        Filter::parse(&serde_json::from_str::<Box<RawValue>>(json).unwrap())
    }

    #[test]
    fn filters_add_up_and_say_only_what_is_on() {
        let mut agreed = filter(r#"{"toolsListChanged":true,"promptsListChanged":false}"#).unwrap();
        agreed.add(filter(r#"{"resourceSubscriptions":["a:1"],"future":1}"#).unwrap());
        let told: serde_json::Value = serde_json::from_str(&agreed.to_json()).unwrap();
        assert_eq!(told, serde_json::json!({"resourceSubscriptions": ["a:1"], "toolsListChanged": true}));
        let asked = filter(r#"{"toolsListChanged":true,"resourceSubscriptions":["a:2"]}"#).unwrap();
        assert_eq!(agreed.within(&asked).to_json(), r#"{"toolsListChanged":true}"#);
        assert!(filter("{}").unwrap().is_empty());
        assert!(filter(r#"{"resourceSubscriptions":[1]}"#).is_err());
        assert!(filter("[]").is_err());
    }
}
