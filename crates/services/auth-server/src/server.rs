//! Putting the auth-server together: `build()` does all that can fail, nothing is served before it returns.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use portico_authn::{CallerLayer, DEFAULT_MAX_STALENESS, TrustHandle, Verifier};
use portico_authz::Authorizer;
use portico_call_limits::{CallLimit, Denials};
use portico_clock::SharedClock;
use portico_coordination::Coordination;
use portico_db::{Db, Duty, StoreError};
use portico_feed::{Batch, DiskCopy, Follower};
use portico_ids::{EventId, SharedRng};
use portico_oauth_types::{InvalidResource, ResourceUri};
use portico_outbound::OutboundClient;
use portico_process::{Readiness, Tasks};
use portico_proto_registry as registry;
use portico_proto_registry::catalogue_service_client::CatalogueServiceClient;
use portico_sealing::{HandleSealer, Sealer};
use portico_settings::{Secret, SettingsError};
use portico_telemetry::Metrics;
use portico_transport::{Link, PeerGuard, PeerRefusals, RefusedPeers};
use tonic::service::Routes;

use crate::actor::{Actor, Deed};
use crate::app::{App, Shared};
use crate::catalogue::Catalogue;
use crate::client_documents::ClientDocuments;
use crate::counters::Counters;
use crate::departed;
use crate::domain::resource::{Resources, Target};
use crate::limits::Limits;
use crate::passwords::{PasswordError, Passwords};
use crate::settings::{AuthServerSettings, InvalidSettings};
use crate::signing_keys::{KeyError, KeyTools, SigningKeys};
use crate::store::Stores;
use crate::trust::{TrustBoard, issuer_item};
use crate::upkeep::{self, Upkeep};
use crate::{http, peers, rpc};

portico_feed::frame_codec! {
    /// Frames of WatchCatalogue.
    struct CatalogueFrames {
        message: registry::WatchCatalogueResponse,
        frame: registry::watch_catalogue_response::Frame,
        begin: registry::CatalogueBegin,
        put: registry::CataloguePut,
        end: registry::CatalogueEnd,
        heartbeat: registry::CatalogueHeartbeat,
        item: registry::CatalogueItem,
    }
}

/// What the auth-server is built from.
#[derive(Debug, Clone)]
pub struct Dependencies {
    pub clock: SharedClock,
    pub rng: SharedRng,
    /// Migrated and seeded.
    pub db: Db,
    pub coordination: Coordination,
    pub sealer: Sealer,
    pub handles: HandleSealer,
    /// To the registry, as `auth-server`.
    pub registry: Link,
    /// Reads the metadata of clients whose id is its address.
    pub outbound: OutboundClient,
    pub metrics: Metrics,
    pub readiness: Readiness,
    /// Serves the watchers of the trust feed.
    pub tasks: Tasks,
}

/// Why the auth-server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    Settings(#[from] InvalidSettings),
    #[error("registration.initial_access_token cannot be read")]
    InitialAccessToken(#[source] SettingsError),
    #[error("the auth-server's database cannot be used")]
    Store(#[from] StoreError),
    #[error("the signing keys cannot be used: {0}")]
    Keys(String),
    #[error("passwords cannot be hashed")]
    Passwords,
    #[error("client metadata cannot be read from other hosts")]
    Outbound(#[from] portico_outbound::BuildError),
    #[error("public_origin cannot be used as an audience")]
    Audience(#[from] InvalidResource),
}

impl From<KeyError> for BuildError {
    fn from(error: KeyError) -> Self {
        Self::Keys(error.to_string())
    }
}

impl From<PasswordError> for BuildError {
    fn from(_: PasswordError) -> Self {
        Self::Passwords
    }
}

/// A built auth-server.
#[derive(Debug)]
pub struct AuthServer {
    app: Shared,
    callers: CallerLayer,
    limit: CallLimit,
    peers: PeerGuard,
    refusals: PeerRefusals,
    /// Taken by the first [`AuthServer::spawn_tasks`], as is the next.
    refused: Mutex<Option<RefusedPeers>>,
    upkeep: Mutex<Option<Upkeep>>,
    registry: Link,
    metrics: Metrics,
    readiness: Readiness,
    tasks: Tasks,
}

impl AuthServer {
    /// Checks settings, opens the signing keys (making the first one) and publishes what verifiers need.
    pub async fn build(settings: AuthServerSettings, deps: Dependencies) -> Result<Self, BuildError> {
        settings.check()?;
        let initial_access_token = settings
            .registration
            .initial_access_token
            .as_ref()
            .map(Secret::load)
            .transpose()
            .map_err(BuildError::InitialAccessToken)?;
        let stores = Stores::new(&deps.db);
        let replica = EventId::generate(&*deps.clock, &*deps.rng).to_string();
        let duty = Duty::new(deps.coordination.leases(), "auth-server.upkeep", &replica, upkeep::TURN);
        let resources = Resources::new(&settings.public_origin);
        let handle = TrustHandle::new();
        let verifier = Verifier::new(handle.clone(), Arc::clone(&deps.clock), DEFAULT_MAX_STALENESS);
        let callers = CallerLayer::new(verifier.clone(), ResourceUri::parse(&resources.uri(&Target::Api))?);
        let tools = KeyTools {
            sealer: deps.sealer.clone(),
            clock: Arc::clone(&deps.clock),
            rng: Arc::clone(&deps.rng),
            token_lifetime: settings.token_lifetime(),
        };
        let limiter = deps.coordination.rate_limiter();
        let limit = CallLimit::new("auth.calls", &settings.limits, limiter.clone(), Arc::clone(&deps.clock))
            .registered(&deps.metrics, "portico_auth_calls_limited");
        let hashes = usize::try_from(settings.password_hashes_at_once).unwrap_or(1);
        let app = Arc::new(App {
            keys: SigningKeys::new(stores.keys.clone(), tools),
            trust: TrustBoard::new(stores.trust.clone(), handle.clone(), Arc::clone(&deps.clock)),
            authorizer: Authorizer::new(handle),
            verifier,
            catalogue: Catalogue::default(),
            passwords: Passwords::new(Arc::clone(&deps.rng), hashes)?,
            limits: Limits::new(limiter, Arc::clone(&deps.clock), settings.sign_ins_per_minute),
            denials: Denials::new(&settings.limits),
            assertions: deps.coordination.ttl_map("auth.assertions"),
            documents: ClientDocuments::new(
                &settings.client_documents,
                deps.outbound,
                deps.coordination.ttl_map("auth.client_documents"),
            )?,
            pushed: deps.coordination.ttl_map("auth.pushed"),
            counters: Counters::register(&deps.metrics),
            clock: deps.clock,
            rng: deps.rng,
            sealer: deps.sealer,
            handles: deps.handles,
            initial_access_token,
            resources,
            settings,
            stores,
        });
        let upkeep = Upkeep { app: Arc::clone(&app), duty };
        app.keys.reload().await?;
        app.keys.rotate_if_due().await?;
        publish_issuer(&app).await?;
        app.trust.refresh().await?;
        let (refusals, refused) = PeerRefusals::new(&deps.metrics, "portico_auth_refused_peers");
        Ok(Self {
            app,
            callers,
            limit,
            peers: PeerGuard::new(peers::RULES, refusals.clone()),
            refusals,
            refused: Mutex::new(Some(refused)),
            upkeep: Mutex::new(Some(upkeep)),
            registry: deps.registry,
            metrics: deps.metrics,
            readiness: deps.readiness,
            tasks: deps.tasks,
        })
    }

    /// The gRPC services, none without a caller, for principals no more often than is set, and for services only what is
    /// listed for them.
    #[must_use]
    pub fn rpc(&self) -> Routes {
        self.peers.protect(self.callers.protect(self.limit.protect(rpc::routes(&self.app, &self.tasks))))
    }

    /// Where the internal listener reports whom it refuses.
    #[must_use]
    pub fn refusals(&self) -> PeerRefusals {
        self.refusals.clone()
    }

    /// The OAuth endpoints, the well-known documents and the pages.
    pub fn http(&self) -> Router {
        http::router(Arc::clone(&self.app))
    }

    /// Follows the catalogue, looks for what other replicas did, removes what has expired.
    pub fn spawn_tasks(&self, tasks: &Tasks) {
        let shutdown = tasks.shutdown_token();
        let check = self.readiness.check("auth-server.database");
        let look = upkeep::look(Arc::clone(&self.app), check, shutdown.clone());
        tasks.spawn::<_, Infallible>("auth-server.look", look);
        let upkeep = self.upkeep.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(upkeep) = upkeep {
            tasks.spawn::<_, Infallible>("auth-server.upkeep", upkeep.run(shutdown));
        }
        self.follow_catalogue(tasks);
        let departed = departed::end_grants(Arc::clone(&self.app), tasks.shutdown_token());
        tasks.spawn::<_, Infallible>("auth-server.departed", departed);
        let denials = self.app.denials.clone();
        tasks.spawn("auth-server.denials", denials.run(Arc::clone(&self.app), tasks.shutdown_token()));
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(refused) = refused {
            let record = peers::record(Arc::clone(&self.app), refused, tasks.shutdown_token());
            tasks.spawn("auth-server.refused_peers", record);
        }
    }

    fn follow_catalogue(&self, tasks: &Tasks) {
        let check = self.readiness.check("auth-server.catalogue");
        check.not_ready("the registry has not been heard of yet: see that it runs and can be reached");
        let catalogue = self.app.catalogue.clone();
        let apply = move |batch: Batch<registry::CatalogueItem>| {
            let items = batch.items.into_iter().map(|(_, item)| item).collect();
            catalogue.apply(batch.snapshot, items, &batch.removed);
            check.ready();
        };
        let disk = self.app.settings.catalogue_file.clone().map(DiskCopy::Plain);
        let clock = Arc::clone(&self.app.clock);
        let follower = Follower::<CatalogueFrames>::new("auth-server.catalogue", disk, apply, clock);
        follower.status().measure("auth-server.catalogue", &self.metrics);
        let link = self.registry.clone();
        let open = move |since_revision| {
            let mut client = CatalogueServiceClient::new(link.clone());
            async move {
                let request = registry::WatchCatalogueRequest { since_revision };
                Ok(client.watch_catalogue(request).await?.into_inner())
            }
        };
        tasks.spawn::<_, Infallible>("auth-server.catalogue", follower.run(open, tasks.shutdown_token()));
    }

    #[cfg(test)]
    pub(crate) fn app(&self) -> &Shared {
        &self.app
    }
}

/// Tells verifiers who issues, if that is new.
async fn publish_issuer(app: &App) -> Result<(), StoreError> {
    let issuer = app.resources.origin();
    let item = issuer_item(issuer);
    let known = app.stores.trust.get(item.key()).await?;
    if known.is_some_and(|row| item.says(&row.value)) {
        return Ok(());
    }
    let change = app.change(&Actor::service(), Deed::done("issuer.set", issuer, "")).publish([item]);
    app.stores.trust.publish(&change).await
}
