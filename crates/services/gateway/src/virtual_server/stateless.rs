use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use portico_mcp_types::{CallParams, Envelope, Kind, MCP_NAME, encode_value, method, result_answer};
use tracing::Instrument;

use super::asker::Asker;
use super::listed::What;
use super::relabel::Relabel;
use super::scope::Scope;
use super::session::{renamed, renamed_reference};
use super::{capabilities, listen, merge, names, route};
use crate::call::Call;
use crate::catalogue::Member;
use crate::engine::Engine;
use crate::front::{Inbound, Served};
use crate::handles::{Bound, Handle, request_digest};
use crate::refusal::{Reason, Refusal};
use crate::relay::{accepted, whole_response};
use crate::rewrite::Rewrite;
use crate::stateless::{StatelessLeg, deliver};

/// Most members for which a request state is tried: each costs a digest of the arguments.
const MAX_STATE_OWNERS: usize = 16;

/// Serves a message of the stateless era.
pub(crate) async fn stateless(engine: &Arc<Engine>, inbound: &Inbound<'_>, mut call: Call) -> Served {
    if inbound.envelope.kind != Kind::Request {
        // The era has no notifications of clients that a server would need (2026-07-28, Streamable HTTP).
        call.done();
        return Ok(accepted());
    }
    let scope = Scope::of(engine, inbound.agent);
    let asker = Asker::stateless(engine, inbound, &call);
    let name = inbound.envelope.method();
    let result = match What::of(name) {
        Some(what) => Some(merge::list(&asker, &scope, inbound, what).await),
        None if name == method::DISCOVER => Some(capabilities::discovered(&asker, &scope).await),
        None => None,
    };
    match result {
        Some(Ok(result)) => {
            let message = result_answer(inbound.envelope.id, &result);
            call.response_bytes = message.len();
            call.done();
            return Ok(whole_response(StatusCode::OK, message));
        }
        Some(Err(refusal)) => return Err((refusal, call)),
        None => {}
    }
    if name == method::LISTEN {
        return listen::listen(&asker, &scope, inbound, call).await;
    }
    if let Err(refusal) = check_state(engine, &scope, inbound) {
        return Err((refusal, call));
    }
    match find(&asker, &scope, inbound).await {
        Ok(found) => forward(engine, inbound, found, call).await,
        Err(refusal) => Err((refusal, call)),
    }
}

/// Refuses a request state that no member can have given for this request, before any is asked what it has.
fn check_state(engine: &Engine, scope: &Scope, inbound: &Inbound<'_>) -> Result<(), Refusal> {
    let Some(sealed) = inbound.params.request_state()? else { return Ok(()) };
    let method = inbound.envelope.method();
    let owners: Vec<(&Member, Bytes)> = match method {
        method::TOOLS_CALL | method::PROMPTS_GET if scope.prefixed() => {
            let name = inbound.params.name()?;
            if names::may_be_shortened(&name) {
                // Only lists tell what it is called there.
                return Ok(());
            }
            let own = |member| names::own(member, &name).map(|own| (member, renamed(inbound, own)));
            scope.members().iter().filter_map(own).collect()
        }
        method::TOOLS_CALL | method::PROMPTS_GET | method::RESOURCES_READ => {
            scope.members().iter().map(|member| (member, inbound.body.clone())).collect()
        }
        _ => return Ok(()),
    };
    if owners.len() > MAX_STATE_OWNERS {
        return Ok(());
    }
    let mut known = Ok(());
    for (member, body) in &owners {
        let envelope = Envelope::parse(body)?;
        let digest = request_digest(member.server, method, &CallParams::parse(envelope.params)?);
        let bound = Bound::new(inbound.agent, &digest);
        known = engine.handles.open(Handle::RequestState, &bound, &sealed).map(drop);
        if known.is_ok() {
            break;
        }
    }
    known
}

/// A request as its server knows it.
struct Found<'a> {
    member: &'a Member,
    body: Bytes,
    /// What `Mcp-Name` says then.
    name: Option<String>,
}

async fn find<'a>(asker: &Asker, scope: &'a Scope, inbound: &Inbound<'_>) -> Result<Found<'a>, Refusal> {
    let params = inbound.params;
    match inbound.envelope.method() {
        name @ (method::TOOLS_CALL | method::PROMPTS_GET) => {
            let what = if name == method::TOOLS_CALL { What::Tools } else { What::Prompts };
            let target = route::by_name(asker, scope, what, &params.name()?).await?;
            Ok(Found { member: target.member, body: renamed(inbound, &target.name), name: Some(target.name) })
        }
        method::RESOURCES_READ => {
            let member = route::by_uri(asker, scope, &params.uri()?).await?;
            Ok(Found { member, body: inbound.body.clone(), name: None })
        }
        method::COMPLETE => {
            let target = route::by_reference(asker, scope, params).await?;
            Ok(Found { member: target.member, body: renamed_reference(inbound, &target.name), name: None })
        }
        name => Err(Refusal::new(Reason::MethodNotFound, format!("this endpoint does not serve {name}"))),
    }
}

async fn forward(engine: &Arc<Engine>, inbound: &Inbound<'_>, found: Found<'_>, mut call: Call) -> Served {
    let Found { member, body, name } = found;
    let mut head = inbound.head.clone();
    if let Some(name) = name
        && let Ok(value) = HeaderValue::try_from(encode_value(&name).as_ref())
    {
        head.headers.insert(MCP_NAME, value);
    }
    let envelope = match Envelope::parse(&body) {
        Ok(envelope) => envelope,
        Err(error) => return Err((error.into(), call)),
    };
    let params = match CallParams::parse(envelope.params) {
        Ok(params) => params,
        Err(error) => return Err((error.into(), call)),
    };
    let inbound =
        Inbound { head: &head, agent: inbound.agent, body: &body, envelope: &envelope, params: &params };
    let step = call.upstream_step();
    let leg = StatelessLeg { engine, inbound: &inbound, server: member.server, call: &call };
    match leg.exchange().instrument(step).await {
        Ok((answer, rewrite)) => {
            let relabel = Relabel::new(engine, inbound.agent, member.server, rewrite);
            deliver(engine, &inbound, answer, Rewrite::Member(Box::new(relabel)), call).await
        }
        Err(refusal) => Err((refusal, call)),
    }
}
