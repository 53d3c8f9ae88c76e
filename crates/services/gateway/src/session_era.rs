//! Agents up to revision 2025-11-25: sessions, streams that can be resumed, requests of servers.

mod batch;
mod close;
pub(crate) mod departed;
pub(crate) mod expiry;
mod open;
mod pending;
mod request;
mod setting;
mod stream;

pub(crate) use batch::batch;
pub(crate) use close::close_upstreams;
pub(crate) use open::{initialize, no_instance};
pub(crate) use pending::Pending;
pub(crate) use request::{
    Delivery, deliver, gone, is_list, may_change, message, open_cursor, open_handles, spliced,
};
pub(crate) use setting::Setting;
pub(crate) use stream::{delete, get};

use std::sync::Arc;

use portico_ids::ServerId;

use crate::access::{Agent, Place};
use crate::call::Call;
use crate::catalogue::Member;
use crate::engine::Engine;
use crate::refusal::{Reason, Refusal};
use crate::session::Session;

/// The caller's session, checked against the version header (2025-06-18, Protocol Version Header).
async fn session_of(
    engine: &Engine,
    agent: &Agent,
    id: &str,
    version: Option<&str>,
) -> Result<Arc<Session>, Refusal> {
    let session = engine.sessions.find(id, |binding| agent.owns(binding)).await?;
    let negotiated = session.revision().as_str();
    match version {
        Some(version) if version != negotiated => Err(Refusal::new(
            Reason::VersionMismatch,
            format!(
                "this session speaks {negotiated}: send MCP-Protocol-Version: {negotiated}, or no such header"
            ),
        )),
        _ => Ok(session),
    }
}

/// The one server behind a place, if its bytes pass through.
fn single(agent: &Agent) -> Option<&Member> {
    match &agent.place {
        Place::Endpoint(endpoint) => endpoint.single(),
        Place::Root { .. } => None,
    }
}

/// One session at one server, for one call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leg<'a> {
    pub(crate) engine: &'a Arc<Engine>,
    pub(crate) agent: &'a Agent,
    pub(crate) session: &'a Arc<Session>,
    pub(crate) server: ServerId,
    pub(crate) call: &'a Call,
}
