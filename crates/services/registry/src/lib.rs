//! Servers, instances, endpoints, secrets, capabilities and audit.
#![expect(
    missing_docs,
    reason = "a service's interface is its gRPC methods, documented in proto/portico/registry"
)]

mod convert;
mod domain;
mod errors;
mod json;
mod rpc;
mod service;
mod settings;
mod store;
mod upkeep;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use portico_authn::{CallerLayer, TrustHandle};
use portico_authz::Authorizer;
use portico_clock::SharedClock;
use portico_coordination::EventStream;
use portico_db::outbox::Relay;
use portico_db::{Db, StoreError, revision};
use portico_ids::SharedRng;
use portico_outbound::OutboundClient;
use portico_process::{Readiness, ReadinessCheck, Tasks};
use portico_sealing::{HandleSealer, KeyRing, Sealer};
use portico_telemetry::Metrics;
use tokio::sync::watch;
use tonic::service::Routes;
use url::Url;

use crate::rpc::Calls;
use crate::service::Service;

pub use settings::RegistrySettings;
pub use store::schema::schema;

/// What the registry needs from the process that it runs in.
#[derive(Debug)]
pub struct Dependencies {
    /// The registry's own database, migrated.
    pub db: Db,
    pub clock: SharedClock,
    pub rng: SharedRng,
    /// Where its events go.
    pub events: EventStream,
    /// Seals secrets and page tokens.
    pub keys: KeyRing,
    /// Roles, for decisions.
    pub trust: TrustHandle,
    /// Lets nobody in without a caller.
    pub callers: CallerLayer,
    /// Refuses addresses that nobody may register.
    pub outbound: OutboundClient,
    /// What endpoint URLs begin with.
    pub public_origin: Url,
    pub metrics: Metrics,
    pub readiness: Readiness,
    pub tasks: Tasks,
}

/// Why a registry cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    #[error("the registry's database cannot be read; has it been migrated?")]
    Database(#[source] StoreError),
    #[error("registry.catalogue_poll_ms is {0}; it must be between 50 and 10000")]
    PollInterval(u64),
}

/// The registry, built but not served.
#[derive(Debug)]
pub struct Registry {
    rpc: rpc::Registry,
    callers: CallerLayer,
    settings: RegistrySettings,
    /// Taken by the first [`Registry::spawn_tasks`].
    relay: Mutex<Option<(Relay, ReadinessCheck)>>,
}

impl Registry {
    /// Does everything that can fail; nothing is served yet.
    pub async fn build(settings: RegistrySettings, deps: Dependencies) -> Result<Self, BuildError> {
        if !(50..=10_000).contains(&settings.catalogue_poll_ms) {
            return Err(BuildError::PollInterval(settings.catalogue_poll_ms));
        }
        let newest = revision::current(&deps.db).await.map_err(BuildError::Database)?;
        let relay = Relay::new(deps.db.clone(), deps.events, Arc::clone(&deps.clock));
        let check = deps.readiness.check("registry.database");
        let service = Service {
            db: deps.db,
            clock: deps.clock,
            rng: Arc::clone(&deps.rng),
            sealer: Sealer::new(&deps.keys, Arc::clone(&deps.rng)),
            handles: HandleSealer::new(&deps.keys, deps.rng),
            authorizer: Authorizer::new(deps.trust),
            outbound: deps.outbound,
            bell: relay.bell(),
            wake: watch::Sender::new(newest),
            public_origin: deps.public_origin,
        };
        let calls = Calls::registered(&deps.metrics);
        let rpc = rpc::Registry { service: Arc::new(service), tasks: deps.tasks, calls };
        Ok(Self { rpc, callers: deps.callers, settings, relay: Mutex::new(Some((relay, check))) })
    }

    /// Every method of `portico.registry.v1`, none without a caller.
    pub fn rpc(&self) -> Routes {
        self.callers.protect(rpc::routes(&self.rpc))
    }

    /// The registry has no HTTP routes of its own yet.
    pub fn http(&self) -> axum::Router {
        axum::Router::new()
    }

    /// Starts the outbox relay and the upkeep; a second call starts nothing.
    pub fn spawn_tasks(&self, tasks: &Tasks) {
        let taken = self.relay.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((relay, check)) = taken else { return };
        tasks.spawn("registry.outbox", relay.run(tasks.shutdown_token()));
        let service = Arc::clone(&self.rpc.service);
        let poll = self.settings.catalogue_poll();
        tasks.spawn(
            "registry.catalogue",
            upkeep::follow_revision(Arc::clone(&service), poll, check, tasks.shutdown_token()),
        );
        tasks.spawn("registry.retention", upkeep::forget(service, tasks.shutdown_token()));
    }
}
