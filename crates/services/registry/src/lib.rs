//! Servers, instances, endpoints, secrets, capabilities and audit.
#![expect(
    missing_docs,
    reason = "a service's interface is its gRPC methods, documented in proto/portico/registry"
)]

mod convert;
mod domain;
mod errors;
mod json;
mod peers;
mod restored;
mod rpc;
mod service;
mod settings;
mod store;
mod upkeep;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use portico_authn::{CallerLayer, TrustHandle};
use portico_authz::Authorizer;
use portico_call_limits::{CallLimit, Denials};
use portico_clock::SharedClock;
use portico_coordination::Coordination;
use portico_db::outbox::{Outlet, Relay};
use portico_db::{Db, Duty, StoreError, revision};
use portico_ids::{EventId, SharedRng};
use portico_outbound::OutboundClient;
use portico_process::{Readiness, ReadinessCheck, Tasks};
use portico_sealing::{HandleSealer, KeyRing, Sealer};
use portico_telemetry::Metrics;
use portico_transport::{PeerGuard, PeerRefusals, RefusedPeers};
use tokio::sync::watch;
use tonic::service::Routes;
use url::Url;

use crate::rpc::Calls;
use crate::service::Service;
use crate::upkeep::Upkeep;

pub use restored::{RestoredError, after_restore};
pub use settings::{InvalidSettings, RegistrySettings};
pub use store::schema::schema;

/// How long after the death of a replica that publishes events another one goes on.
const OUTBOX_TURN: Duration = Duration::from_secs(5);

/// What the registry needs from the process that it runs in.
#[derive(Debug)]
pub struct Dependencies {
    /// The registry's own database, migrated.
    pub db: Db,
    pub clock: SharedClock,
    pub rng: SharedRng,
    /// Where its events go, and who of several replicas does what only one needs to do.
    pub coordination: Coordination,
    /// Seals secrets, page tokens and events.
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
    #[error("registry.{0}")]
    Settings(InvalidSettings),
}

/// The registry, built but not served.
#[derive(Debug)]
pub struct Registry {
    rpc: rpc::Registry,
    callers: CallerLayer,
    limit: CallLimit,
    peers: PeerGuard,
    refusals: PeerRefusals,
    settings: RegistrySettings,
    /// Taken by the first [`Registry::spawn_tasks`].
    own_work: Mutex<Option<OwnWork>>,
}

/// What it does without being asked.
#[derive(Debug)]
struct OwnWork {
    relay: Relay,
    upkeep: Duty,
    check: ReadinessCheck,
    refused: RefusedPeers,
}

impl Registry {
    /// Does everything that can fail; nothing is served yet.
    pub async fn build(settings: RegistrySettings, deps: Dependencies) -> Result<Self, BuildError> {
        settings.check().map_err(BuildError::Settings)?;
        let newest = revision::current(&deps.db).await.map_err(BuildError::Database)?;
        let owner = EventId::generate(&*deps.clock, &*deps.rng).to_string();
        let duty = |name, ttl| Duty::new(deps.coordination.leases(), name, &owner, ttl);
        let handles = HandleSealer::new(&deps.keys, Arc::clone(&deps.rng));
        let outlet = Outlet {
            stream: deps.coordination.events(),
            handles: handles.clone(),
            kind: portico_proto_events::SEALED_AS,
        };
        let relay = Relay::new(
            deps.db.clone(),
            outlet,
            Arc::clone(&deps.clock),
            duty("registry.outbox", OUTBOX_TURN),
        );
        let upkeep = duty("registry.upkeep", upkeep::TURN);
        let check = deps.readiness.check("registry.database");
        let limiter = deps.coordination.rate_limiter();
        let limit = CallLimit::new("registry.calls", &settings.limits, limiter, Arc::clone(&deps.clock))
            .registered(&deps.metrics, "portico_registry_calls_limited");
        let service = Service {
            db: deps.db,
            clock: deps.clock,
            sealer: Sealer::new(&deps.keys, Arc::clone(&deps.rng)),
            rng: deps.rng,
            handles,
            authorizer: Authorizer::new(deps.trust),
            outbound: deps.outbound,
            bell: relay.bell(),
            wake: watch::Sender::new(newest),
            public_origin: deps.public_origin,
            denials: Denials::new(&settings.limits),
        };
        let calls = Calls::registered(&deps.metrics);
        let rpc = rpc::Registry { service: Arc::new(service), tasks: deps.tasks, calls };
        let (refusals, refused) = PeerRefusals::new(&deps.metrics, "portico_registry_refused_peers");
        let peers = PeerGuard::new(peers::RULES, refusals.clone());
        let own_work = Mutex::new(Some(OwnWork { relay, upkeep, check, refused }));
        Ok(Self { rpc, callers: deps.callers, limit, peers, refusals, settings, own_work })
    }

    /// Every method of `portico.registry.v1`, none without a caller, for principals no more often than is set, and for
    /// services only what is listed for them.
    pub fn rpc(&self) -> Routes {
        self.peers.protect(self.callers.protect(self.limit.protect(rpc::routes(&self.rpc))))
    }

    /// Where the internal listener reports whom it refuses.
    pub fn refusals(&self) -> PeerRefusals {
        self.refusals.clone()
    }

    /// The registry has no HTTP routes of its own yet.
    pub fn http(&self) -> axum::Router {
        axum::Router::new()
    }

    /// Starts the outbox relay and the upkeep; a second call starts nothing.
    pub fn spawn_tasks(&self, tasks: &Tasks) {
        let taken = self.own_work.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(OwnWork { relay, upkeep, check, refused }) = taken else { return };
        tasks.spawn("registry.outbox", relay.run(tasks.shutdown_token()));
        let service = Arc::clone(&self.rpc.service);
        let poll = self.settings.catalogue_poll();
        tasks.spawn(
            "registry.catalogue",
            upkeep::follow_revision(Arc::clone(&service), poll, check, tasks.shutdown_token()),
        );
        let record = peers::record(Arc::clone(&service), refused, tasks.shutdown_token());
        tasks.spawn("registry.refused_peers", record);
        let denials = service.denials.clone();
        tasks.spawn("registry.denials", denials.run(Arc::clone(&service), tasks.shutdown_token()));
        let upkeep = Upkeep { service, duty: upkeep, audit_kept: self.settings.audit_kept() };
        tasks.spawn("registry.retention", upkeep.run(tasks.shutdown_token()));
    }
}
