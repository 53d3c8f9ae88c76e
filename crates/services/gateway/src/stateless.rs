//! The stateless era (2026-07-28): every request stands for itself, and a disconnect is its cancellation.

mod checks;
mod mirror;
mod tool_headers;

pub(crate) use tool_headers::ToolHeaders;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use portico_ids::ServerId;
use portico_mcp_types::{
    Kind, MCP_METHOD, MCP_NAME, MCP_PARAM_PREFIX, Object, PROTOCOL_VERSION, Revision, Splice, code,
    encode_value, method,
};
use tracing::Instrument;

use crate::access::{Agent, Liveness, Place, StreamKind};
use crate::call::Call;
use crate::catalogue::{Instance, Server, Snapshot};
use crate::engine::Engine;
use crate::front::{Inbound, Served};
use crate::handles::{Bound, Handle, request_digest};
use crate::refusal::{Reason, Refusal};
use crate::relay::{EventRelay, RelayParts, accepted, events_response, json_response, whole_response};
use crate::rewrite::Rewrite;
use crate::session_era::{gone, may_change, no_instance, open_cursor, open_handles, spliced};
use crate::upstream::{Answer, Candidates, JsonBody, Outgoing, Reply, not_mcp, too_large};
use crate::virtual_server;

/// Serves one message.
pub(crate) async fn serve(engine: &Arc<Engine>, inbound: &Inbound<'_>, mut call: Call) -> Served {
    let name = inbound.envelope.method();
    let stay = |call: &mut Call| if name == method::LISTEN { call.stay(&engine.load) } else { Ok(()) };
    let checked = checks::check(inbound)
        .and_then(|()| engine.recorder.audit.admit(may_change(name)))
        .and_then(|()| stay(&mut call));
    if let Err(refusal) = checked {
        return Err((refusal, call));
    }
    let member = match &inbound.agent.place {
        Place::Endpoint(endpoint) => endpoint.single(),
        Place::Root { .. } => None,
    };
    match member {
        Some(member) => pass(engine, inbound, member.server, call).await,
        None => virtual_server::stateless(engine, inbound, call).await,
    }
}

async fn pass(engine: &Arc<Engine>, inbound: &Inbound<'_>, server: ServerId, mut call: Call) -> Served {
    let step = call.upstream_step();
    let leg = StatelessLeg { engine, inbound, server, call: &call };
    let (answer, rewrite) = match leg.exchange().instrument(step).await {
        Ok(answered) => answered,
        Err(refusal) => return Err((refusal, call)),
    };
    if inbound.envelope.kind != Kind::Request {
        call.done();
        return Ok(accepted());
    }
    deliver(engine, inbound, answer, rewrite, call).await
}

/// Sends an answer on.
pub(crate) async fn deliver(
    engine: &Arc<Engine>,
    inbound: &Inbound<'_>,
    answer: Answer,
    rewrite: Rewrite,
    mut call: Call,
) -> Served {
    match answer {
        Answer::Json(reply) => json_response(engine, reply, &rewrite, (call, None)).await,
        Answer::Read(status, message) => match rewrite.apply(&message) {
            Ok(message) => {
                call.response_bytes = message.len();
                call.done();
                Ok(whole_response(status, message))
            }
            Err(refusal) => Err((refusal, call)),
        },
        Answer::Events(reply) => Ok(events_response(engine, relay(engine, inbound, reply, rewrite, call))),
        Answer::Accepted => Err((not_mcp(), call)),
        Answer::NotFound | Answer::MethodNotAllowed => Err((gone(), call)),
    }
}

fn relay(
    engine: &Arc<Engine>,
    inbound: &Inbound<'_>,
    reply: Reply,
    rewrite: Rewrite,
    call: Call,
) -> EventRelay {
    let kind =
        if inbound.envelope.method() == method::LISTEN { StreamKind::Listen } else { StreamKind::Call };
    EventRelay::new(RelayParts {
        engine: Arc::clone(engine),
        upstream: reply.body,
        load: reply.load,
        request: Some(inbound.envelope.id.as_json().to_owned()),
        stream: None,
        setting: None,
        rewrite,
        call,
        liveness: Liveness::new(engine, inbound.agent, kind),
        reopen: None,
        first: Vec::new(),
    })
}

/// One exchange with one server, in the stateless era.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StatelessLeg<'a> {
    pub(crate) engine: &'a Arc<Engine>,
    pub(crate) inbound: &'a Inbound<'a>,
    pub(crate) server: ServerId,
    pub(crate) call: &'a Call,
}

impl StatelessLeg<'_> {
    /// The judged answer, and what changes in it.
    pub(crate) async fn exchange(&self) -> Result<(Answer, Rewrite), Refusal> {
        // Handles come first: what brings a foreign one touches no server.
        let outgoing = self.outgoing()?;
        let mut candidates = candidates(self.engine, &self.inbound.agent.snapshot, self.server)?;
        self.check_mirrored(&mut candidates).await?;
        let answer = self.engine.upstream.exchange_with_any(&mut candidates, outgoing, self.call).await?;
        let rewrite = Rewrite::of_answer(self.engine, self.inbound, self.server, true);
        let answer = match answer {
            Answer::Json(reply) if reply.status.is_client_error() => {
                self.judge_error(candidates.instance(), reply).await?
            }
            Answer::NotFound => return Err(gone()),
            Answer::MethodNotAllowed => return Err(not_bridged(self.inbound.agent, self.server)),
            answer if self.inbound.envelope.method() == method::TOOLS_LIST => self.learn(answer).await?,
            answer => answer,
        };
        Ok((answer, rewrite))
    }

    /// The call as the server gets it.
    fn outgoing(&self) -> Result<Outgoing, Refusal> {
        let (body, task) = self.open()?;
        let mut outgoing = Outgoing::post(body).traced(&self.call.correlation, &self.call.trace);
        outgoing.headers.extend(mirrored_headers(&self.inbound.head.headers));
        if let Some(task) = task {
            // The name of a task is its id: the header says what the body says now.
            let name = HeaderValue::try_from(encode_value(&task).as_ref()).map_err(|_| not_mcp())?;
            outgoing.headers.insert(MCP_NAME, name);
        }
        Ok(outgoing)
    }

    /// The body with the server's own handles in the place of the sealed ones, and the task that is meant.
    fn open(&self) -> Result<(Bytes, Option<String>), Refusal> {
        let Inbound { envelope, params, agent, body, .. } = *self.inbound;
        let mut splice = Splice::new(body);
        let task = open_handles(self.engine, self.inbound, self.server, &mut splice)?;
        if let (Some(sealed), Some(raw)) = (params.request_state()?, params.get("requestState")) {
            let digest = request_digest(self.server, envelope.method(), params);
            let bound = Bound::new(agent, &digest);
            splice.replace_text(raw, &self.engine.handles.open(Handle::RequestState, &bound, &sealed)?);
        }
        Ok((self.call.traced_body(spliced(splice, body)), task))
    }

    /// Notes which parameters of tools are mirrored, and leaves out tools whose annotations are invalid.
    async fn learn(&self, answer: Answer) -> Result<Answer, Refusal> {
        let (status, message) = match answer {
            Answer::Json(reply) => {
                let status = reply.status;
                let limit = self.engine.upstream.settings.max_event_bytes;
                let JsonBody::Whole(message) = self.engine.upstream.read_json(reply.body, limit).await?
                else {
                    return Err(too_large());
                };
                (status, message)
            }
            Answer::Events(reply) => {
                let answer = Answer::Events(reply);
                (StatusCode::OK, self.engine.upstream.response_to(self.inbound.envelope.id, answer).await?.0)
            }
            answer => return Ok(answer),
        };
        let cursor = match self.inbound.params.cursor()? {
            Some(sealed) => Some(open_cursor(self.engine, self.inbound, self.server, &sealed)?),
            None => None,
        };
        let sound = self.engine.tool_headers.learn(self.server, &message, cursor.as_deref());
        Ok(Answer::Read(status, sound))
    }

    /// An error of a server that does not know this era means something else than what it says.
    async fn judge_error(&self, instance: &Instance, reply: Reply) -> Result<Answer, Refusal> {
        let status = reply.status;
        let limit = self.engine.upstream.settings.inspect_bytes;
        let JsonBody::Whole(message) = self.engine.upstream.read_json(reply.body, limit).await? else {
            return Err(too_large());
        };
        let error = std::str::from_utf8(&message).ok().and_then(|text| Object::parse(text, "answer").ok());
        let own_id = error.as_ref().and_then(|e| e.get("id")).map(serde_json::value::RawValue::get);
        let said =
            error.as_ref().and_then(|e| e.get("error")).and_then(|e| Object::parse(e.get(), "error").ok());
        let said = said.and_then(|error| error.get("code")).and_then(|raw| raw.get().parse::<i32>().ok());
        if said == Some(code::HEADER_MISMATCH) {
            // The tool may have changed: the next call lists its parameters anew.
            self.engine.tool_headers.forget(self.server);
        }
        let foreign = own_id != Some(self.inbound.envelope.id.as_json());
        if foreign
            && matches!(said, None | Some(code::SERVER_ERROR | code::INVALID_REQUEST))
            && instance.eras.session
        {
            return Err(not_bridged(self.inbound.agent, self.server));
        }
        Ok(Answer::Read(status, message))
    }
}

/// The headers that mirror the body: those with a counterpart in it were compared with it (RS-33), others pass on
/// (2026-07-28, Custom Headers from Tool Parameters).
pub(crate) fn mirrored_headers(from: &HeaderMap) -> HeaderMap {
    let mirrors = |name: &HeaderName| {
        name == PROTOCOL_VERSION
            || name == MCP_METHOD
            || name == MCP_NAME
            || name.as_str().starts_with(MCP_PARAM_PREFIX)
    };
    from.iter().filter(|(name, _)| mirrors(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The instances that speak the stateless era.
pub(crate) fn candidates(
    engine: &Engine,
    snapshot: &Snapshot,
    server: ServerId,
) -> Result<Candidates, Refusal> {
    let found = snapshot.server(server).ok_or_else(|| no_instance(None))?;
    match Candidates::of(found, |eras| eras.stateless, engine.random()) {
        Some(candidates) => Ok(candidates),
        None if found.enabled && found.speaks(|eras| eras.session) => Err(refuse_bridging(found)),
        None => Err(no_instance(Some(found))),
    }
}

fn not_bridged(agent: &Agent, server: ServerId) -> Refusal {
    agent.snapshot.server(server).map_or_else(|| no_instance(None), |server| refuse_bridging(server))
}

/// Says which revisions to use instead, in the form that clients of both eras fall back by (2026-07-28, Versioning).
pub(crate) fn refuse_bridging(server: &Server) -> Refusal {
    let supported: Vec<&str> = Revision::ALL
        .iter()
        .rev()
        .filter(|r| !r.is_stateless() && **r > Revision::V2024_11_05)
        .map(|r| r.as_str())
        .collect();
    Refusal::new(
        Reason::EraNotBridged,
        format!(
            "the server {} speaks only revisions up to 2025-11-25, and Portico does not bridge revisions yet; send \
             initialize and open a session",
            server.name
        ),
    )
    .with_data("supported", serde_json::Value::from(supported).to_string())
    .with_data("requested", format!("\"{}\"", Revision::NEWEST))
}
