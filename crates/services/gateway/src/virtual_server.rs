//! Endpoints of several servers, and `/mcp`: merged lists, names that find their server, streams of all members.
//!
//! An endpoint with one member, plain names and nothing chosen never comes here: its bytes pass through.
//!
//! - [`scope`]: which members a caller has, and under which prefix.
//! - [`names`]: what agents call a tool or prompt of a member, and back.
//! - [`lists`]: what members list, fetched together with a deadline each, kept within a byte budget.
//! - [`merge`]: one page out of all members' lists; definitions keep their bytes, only the name is spliced.
//! - [`route`]: which member a name or URI belongs to. What was not chosen does not exist (RS-35).
//! - [`capabilities`]: what `initialize` and `server/discover` say of the members that answered.
//! - [`session`], [`stateless`]: the two eras. [`streams`]: standing streams of all members as one.
//!
//! A member that is dead, slow or of the other era is left out, and `_meta` says so under `portico/warnings`.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;

use crate::access::Agent;
use crate::call::Call;
use crate::engine::Engine;
use crate::front::{Inbound, Served};
use crate::refusal::{Reason, Refusal};
use crate::relay::SessionStream;
use crate::session::Session;

/// Opens a session over all members that speak the session era.
pub(crate) async fn initialize(
    _engine: &Arc<Engine>,
    _inbound: &Inbound<'_>,
    _call: &Call,
) -> Result<(Bytes, Option<HeaderValue>), Refusal> {
    Err(unserved())
}

/// Serves a message within a session.
pub(crate) async fn message(
    _engine: &Arc<Engine>,
    _inbound: &Inbound<'_>,
    _session: &Arc<Session>,
    call: Call,
) -> Served {
    Err((unserved(), call))
}

/// Serves the GET stream of a session: what all members send on their own account.
pub(crate) async fn get(
    _engine: &Arc<Engine>,
    _agent: &Arc<Agent>,
    _stream: SessionStream,
    _first: Vec<Bytes>,
    call: Call,
) -> Served {
    Err((unserved(), call))
}

/// Serves a request of the stateless era.
pub(crate) async fn stateless(_engine: &Arc<Engine>, _inbound: &Inbound<'_>, call: Call) -> Served {
    Err((unserved(), call))
}

fn unserved() -> Refusal {
    Refusal::new(Reason::NoInstance, "endpoints of several servers are not served by this build")
}
