//! What the registry does: decide, change, tell. Each change is one transaction with its events and audit rows.

pub(crate) mod access;
pub(crate) mod audit;
pub(crate) mod capabilities;
pub(crate) mod change;
pub(crate) mod endpoints;
pub(crate) mod events;
pub(crate) mod feed;
pub(crate) mod instances;
pub(crate) mod observations;
pub(crate) mod paging;
pub(crate) mod registering;
pub(crate) mod sealing;
pub(crate) mod secrets;
pub(crate) mod servers;

use portico_authz::Authorizer;
use portico_call_limits::Denials;
use portico_clock::SharedClock;
use portico_db::Db;
use portico_db::outbox::Bell;
use portico_ids::SharedRng;
use portico_outbound::OutboundClient;
use portico_sealing::{HandleSealer, Sealer};
use tokio::sync::watch;
use url::Url;

use crate::domain::audit::AuditRecord;
use crate::errors::RegistryError;
use crate::store::Session;

/// Everything that the registry's functions work with; the database and all else are parameters (S4-17).
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) db: Db,
    pub(crate) clock: SharedClock,
    pub(crate) rng: SharedRng,
    pub(crate) sealer: Sealer,
    pub(crate) handles: HandleSealer,
    pub(crate) authorizer: Authorizer,
    /// Refuses addresses; the registry itself dials nothing.
    pub(crate) outbound: OutboundClient,
    /// Wakes the outbox relay after a commit.
    pub(crate) bell: Bell,
    /// The newest revision; wakes the catalogue's followers.
    pub(crate) wake: watch::Sender<i64>,
    pub(crate) public_origin: Url,
    /// Which denials become records of their own.
    pub(crate) denials: Denials<AuditRecord>,
}

impl Service {
    pub(crate) async fn session(&self) -> Result<Session, RegistryError> {
        Ok(Session::open(&self.db).await?)
    }
}
