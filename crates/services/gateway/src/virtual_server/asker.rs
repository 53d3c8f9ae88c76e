use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::HeaderValue;
use portico_mcp_types::{
    CLIENT_CAPABILITIES, CLIENT_INFO, Envelope, MCP_METHOD, META_PROTOCOL_VERSION, Object, PROTOCOL_VERSION,
    Revision,
};

use super::listed::{Listed, Reading, What, next_cursor};
use super::lists::{LOOKED_UP, View};
use super::scope::Scope;
use super::warning::Warning;
use crate::access::Agent;
use crate::call::Call;
use crate::catalogue::{Member, Server};
use crate::engine::Engine;
use crate::front::Inbound;
use crate::refusal::{Reason, Refusal};
use crate::session::Session;
use crate::session_era::{Leg, close_upstreams, no_instance};
use crate::stateless;
use crate::upstream::{Answer, Outgoing, lost, not_mcp};

/// Id of the requests that Portico makes to read lists.
const OWN_ID: &str = "\"portico-list\"";
/// Most pages that are read of one list.
const MAX_PAGES: usize = 200;
/// Most bytes that are read of one list.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Most members that are asked at the same time for one answer.
const AT_ONCE: usize = 128;
/// Asks members on behalf of one caller.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    pub(super) engine: Arc<Engine>,
    pub(super) agent: Arc<Agent>,
    era: Era,
    /// Tells correlation and trace; leaves no record of its own.
    call: Arc<Call>,
    /// Worked out when it is first needed.
    shared: OnceLock<View>,
}

#[derive(Debug, Clone)]
enum Era {
    Session(Arc<Session>),
    /// With the capabilities that the request declares, as JSON text.
    Stateless(Arc<str>),
}

impl Asker {
    pub(super) fn in_session(
        engine: &Arc<Engine>,
        agent: &Arc<Agent>,
        session: &Arc<Session>,
        call: &Call,
    ) -> Self {
        Self::new(engine, agent, Era::Session(Arc::clone(session)), call)
    }

    pub(super) fn stateless(engine: &Arc<Engine>, inbound: &Inbound<'_>, call: &Call) -> Self {
        let capabilities = inbound.params.meta.get(CLIENT_CAPABILITIES).map_or("{}", |raw| raw.get());
        Self::new(engine, inbound.agent, Era::Stateless(Arc::from(capabilities)), call)
    }

    fn new(engine: &Arc<Engine>, agent: &Arc<Agent>, era: Era, call: &Call) -> Self {
        let mut own = call.sibling("");
        own.forget();
        Self {
            engine: Arc::clone(engine),
            agent: Arc::clone(agent),
            era,
            call: Arc::new(own),
            shared: OnceLock::new(),
        }
    }

    /// Whether answers need what only the stateless era has.
    pub(super) fn is_stateless(&self) -> bool {
        matches!(self.era, Era::Stateless(_))
    }

    /// Under which views something may be kept that this caller may see.
    pub(super) fn views(&self) -> Vec<View> {
        match &self.era {
            Era::Session(_) => vec![self.own_view(), self.shared_view()],
            Era::Stateless(_) => vec![self.shared_view()],
        }
    }

    pub(super) fn own_view(&self) -> View {
        match &self.era {
            Era::Session(session) => View::Session(session.id.clone()),
            Era::Stateless(_) => self.shared_view(),
        }
    }

    fn shared_view(&self) -> View {
        self.shared.get_or_init(|| self.digest()).clone()
    }

    fn digest(&self) -> View {
        let mut hasher = DefaultHasher::new();
        match &self.era {
            Era::Session(session) => {
                let record = session.record();
                record.revision.as_str().hash(&mut hasher);
                let params = Object::parse(&record.initialize, "initialize").ok();
                let capabilities = params.as_ref().and_then(|params| params.get("capabilities"));
                capabilities.map_or("{}", |raw| raw.get()).hash(&mut hasher);
            }
            Era::Stateless(capabilities) => {
                Revision::NEWEST.as_str().hash(&mut hasher);
                capabilities.hash(&mut hasher);
            }
        }
        View::Shared(hasher.finish())
    }

    /// The server behind a member.
    pub(super) fn server(&self, member: &Member) -> Result<&Arc<Server>, Refusal> {
        self.agent.snapshot.server(member.server).ok_or_else(|| no_instance(None))
    }

    /// What one member lists.
    async fn ask(&self, member: &Member, what: What, at_least: Duration) -> Result<Arc<Listed>, Refusal> {
        let server = self.server(member)?;
        self.engine.virtual_servers.lists.get(self, server, what, at_least).await
    }

    /// What all members list, asked at the same time, in the members' order; who does not answer becomes a warning.
    pub(super) async fn ask_all<'a>(&self, scope: &'a Scope, what: What) -> Gathered<'a> {
        self.gather(scope, what, Duration::ZERO).await
    }

    /// The same to find the owner of something: not again for everything that has none.
    pub(super) async fn look_up<'a>(&self, scope: &'a Scope, what: What) -> Gathered<'a> {
        self.gather(scope, what, LOOKED_UP).await
    }

    async fn gather<'a>(&self, scope: &'a Scope, what: What, at_least: Duration) -> Gathered<'a> {
        let mut answers = Vec::with_capacity(scope.members().len());
        for members in scope.members().chunks(AT_ONCE) {
            let mut asked = Vec::with_capacity(members.len());
            for member in members {
                asked.push(self.ask(member, what, at_least));
            }
            answers.extend(join_all(asked).await);
        }
        let mut gathered = Gathered { members: Vec::new(), warnings: Vec::new(), refusals: Vec::new() };
        for (member, answer) in scope.members().iter().zip(answers) {
            match answer {
                Ok(listed) => {
                    if listed.cut_short {
                        gathered.warnings.push(Warning::cut_short(member));
                    }
                    gathered.members.push((member, listed));
                }
                Err(refusal) => {
                    gathered.warnings.push(Warning::left_out(member, &refusal));
                    gathered.refusals.push((member, refusal));
                }
            }
        }
        gathered
    }

    /// Asks the server itself; says also who may see the same answer.
    pub(super) async fn fetch(&self, server: &Arc<Server>, what: What) -> Result<(Listed, View), Refusal> {
        match &self.era {
            Era::Session(session) => self.fetch_in_session(session, server, what).await,
            Era::Stateless(_) => {
                self.fetch_stateless(server, what).await.map(|listed| (listed, self.shared_view()))
            }
        }
    }

    async fn fetch_in_session(
        &self,
        session: &Arc<Session>,
        server: &Server,
        what: What,
    ) -> Result<(Listed, View), Refusal> {
        let leg =
            Leg { engine: &self.engine, agent: &self.agent, session, server: server.id, call: &self.call };
        let open = leg.open(0).await?;
        if session.ended.is_cancelled() {
            // The agent ended it while this was under way: nothing may stay open behind it.
            close_upstreams(&self.engine, session);
            return Err(lost());
        }
        if what == What::Capabilities {
            return Ok((Listed::of_result(open.initialized.clone()), self.shared_view()));
        }
        let instance = self.agent.snapshot.instance(server.id, open.instance);
        let keeps_state = open.id.is_some() && !instance.is_some_and(|instance| instance.stateless);
        let view = if keeps_state { self.own_view() } else { self.shared_view() };
        let mut reading = Reading::new(what);
        let mut cursor = None;
        for _ in 0..MAX_PAGES {
            let body = request(what, cursor.as_deref(), None);
            let (answer, _) = leg.exchange(body.clone()).await?;
            let id = Envelope::parse(&body)?.id;
            let (message, _) = self.engine.upstream.response_to(id, answer).await?;
            cursor = reading.add(&message)?;
            if cursor.is_none() || reading.bytes() > MAX_BYTES {
                break;
            }
        }
        Ok((reading.finish(cursor.is_some()), view))
    }

    async fn fetch_stateless(&self, server: &Arc<Server>, what: What) -> Result<Listed, Refusal> {
        let mut cursor = None;
        let mut pages = Vec::new();
        let mut size = 0;
        while pages.len() < MAX_PAGES && size < MAX_BYTES {
            let message = self.ask_stateless(server, what, cursor.as_deref()).await?;
            if what == What::Capabilities {
                let result = Envelope::parse(&message).map_err(|_| not_mcp())?.result.ok_or_else(not_mcp)?;
                return Ok(Listed::of_result(message.slice_ref(result.get().as_bytes())));
            }
            cursor = next_cursor(what, &message)?;
            size += message.len();
            pages.push(message);
            if cursor.is_none() {
                break;
            }
        }
        // Which tools are sound is known when all pages are there.
        if what == What::Tools {
            pages = self.engine.tool_headers.learn_all(server.id, &pages, cursor.is_none());
        }
        let mut reading = Reading::new(what);
        for page in &pages {
            reading.add(page)?;
        }
        Ok(reading.finish(cursor.is_some()))
    }

    async fn ask_stateless(
        &self,
        server: &Arc<Server>,
        what: What,
        cursor: Option<&str>,
    ) -> Result<Bytes, Refusal> {
        let Era::Stateless(capabilities) = &self.era else { return Err(not_mcp()) };
        let mut candidates = stateless::candidates(&self.engine, &self.agent.snapshot, server.id)?;
        let body = request(what, cursor, Some(capabilities));
        let mut outgoing = Outgoing::post(body.clone()).traced(&self.call.correlation, &self.call.trace);
        let version = HeaderValue::from_static(Revision::NEWEST.as_str());
        outgoing.headers.insert(PROTOCOL_VERSION, version);
        outgoing.headers.insert(MCP_METHOD, HeaderValue::from_static(what.method()));
        let answer = self.engine.upstream.exchange_with_any(&mut candidates, outgoing, &self.call).await?;
        if matches!(answer, Answer::NotFound | Answer::MethodNotAllowed) {
            return Err(stateless::refuse_bridging(server));
        }
        let id = Envelope::parse(&body)?.id;
        let (message, _) = self.engine.upstream.response_to(id, answer).await?;
        // A server of the other era answers that it knows no such session, under no id.
        if candidates.instance().eras.session && Envelope::parse(&message).is_ok_and(|answer| answer.id != id)
        {
            return Err(stateless::refuse_bridging(server));
        }
        Ok(message)
    }
}

/// What members answered, in their order, and what is missing.
#[derive(Debug)]
pub(super) struct Gathered<'a> {
    pub(super) members: Vec<(&'a Member, Arc<Listed>)>,
    pub(super) warnings: Vec<Warning>,
    /// Who is missing, and why.
    pub(super) refusals: Vec<(&'a Member, Refusal)>,
}

impl Gathered<'_> {
    /// Why there is nothing at all; what may pass comes before what will not.
    pub(super) fn why_empty(&self) -> Option<Refusal> {
        if !self.members.is_empty() {
            return None;
        }
        let mut refusals = self.refusals.iter().map(|(_, refusal)| refusal);
        let passing = refusals.clone().find(|refusal| refusal.reason != Reason::EraNotBridged);
        passing.or_else(|| refusals.next()).cloned()
    }
}

/// Portico's own request for a page; the stateless era needs the caller's capabilities.
fn request(what: What, cursor: Option<&str>, capabilities: Option<&str>) -> Bytes {
    let mut params = Vec::new();
    if let Some(cursor) = cursor {
        params.push(format!("\"cursor\":{}", serde_json::Value::from(cursor)));
    }
    if let Some(capabilities) = capabilities {
        params.push(format!(
            "\"_meta\":{{\"{META_PROTOCOL_VERSION}\":\"{}\",\"{CLIENT_INFO}\":{{\"name\":\"portico\",\
             \"version\":\"{}\"}},\"{CLIENT_CAPABILITIES}\":{capabilities}}}",
            Revision::NEWEST,
            env!("CARGO_PKG_VERSION"),
        ));
    }
    Bytes::from(format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":{OWN_ID},\"method\":\"{}\",\"params\":{{{}}}}}",
        what.method(),
        params.join(",")
    ))
}

#[cfg(test)]
mod tests {
    use portico_mcp_types::CallParams;

    use super::*;

    #[test]
    fn a_request_of_ours_is_sound_in_both_eras() {
        let session = request(What::Prompts, Some("c\"1"), None);
        let envelope = Envelope::parse(&session).unwrap();
        let params = CallParams::parse(envelope.params).unwrap();
        assert_eq!((envelope.method(), params.cursor().unwrap().as_deref()), ("prompts/list", Some("c\"1")));
        assert!(params.meta.is_empty());
        let stateless = request(What::Tools, None, Some(r#"{"elicitation":{}}"#));
        let params = CallParams::parse(Envelope::parse(&stateless).unwrap().params).unwrap();
        assert_eq!(params.meta.text(META_PROTOCOL_VERSION).as_deref(), Some("2026-07-28"));
        assert_eq!(params.meta.get(CLIENT_CAPABILITIES).unwrap().get(), r#"{"elicitation":{}}"#);
        assert!(params.cursor().unwrap().is_none());
    }
}
