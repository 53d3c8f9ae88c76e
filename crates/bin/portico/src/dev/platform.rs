//! All services of Portico, put together in one process.
//!
//! This is the only place that knows that they share one: each gets links, and cannot tell what is behind them.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use axum::Router;
use portico_auth_server::{AdministratorSeed, AuthServer, SeedTools};
use portico_authn::{CallerLayer, DEFAULT_MAX_STALENESS, TrustFeed, TrustHandle, Verifier};
use portico_clock::SharedClock;
use portico_coordination::Coordination;
use portico_db::{Db, Schema};
use portico_demo_server::DemoServer;
use portico_feed::DiskCopy;
use portico_gateway::Gateway;
use portico_ids::SharedRng;
use portico_oauth_types::ResourceUri;
use portico_outbound::{OutboundClient, OutboundLimits, OutboundPolicy};
use portico_process::{Readiness, Tasks};
use portico_registry::Registry;
use portico_sealing::{HandleSealer, KeyRing, Sealer};
use portico_telemetry::{CorrelationId, Metrics};
use portico_transport::{Exchange, PeerIdentity, grpc_routes, merge_routes, one_port};
use portico_worker::Worker;
use url::Url;

use super::DevSettings;
use super::state::{DataDir, DevState};

const AUTH_SERVER: &str = "auth-server";
const REGISTRY: &str = "registry";
const GATEWAY: &str = "gateway";
const WORKER: &str = "worker";
/// The service account of the command line, and its role.
const COMMAND_LINE: (&str, &str) = ("portico-dev", "administrator");

/// What every service stands on.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) origin: Url,
    /// Addresses of this process that no registered server may name.
    pub(super) own_addresses: Vec<SocketAddr>,
    /// Where the demo server listens, if there is one: the one address of this process that may be registered.
    pub(super) demo_address: Option<SocketAddr>,
    pub(super) keys: KeyRing,
    pub(super) clock: SharedClock,
    pub(super) rng: SharedRng,
    pub(super) metrics: Metrics,
    pub(super) readiness: Readiness,
    pub(super) tasks: Tasks,
}

/// The services, built but not served.
#[derive(Debug)]
pub(super) struct Platform {
    auth_server: AuthServer,
    registry: Registry,
    gateway: Gateway,
    worker: Worker,
    demo: DemoServer,
    exchange: Exchange,
    trust: TrustHandle,
    trust_feed: TrustFeed,
    readiness: Readiness,
}

impl Platform {
    /// Migrates and seeds the databases and builds every service.
    pub(super) async fn build(
        settings: &DevSettings,
        data_dir: &DataDir,
        state: &mut DevState,
        ground: &Ground,
    ) -> Result<Self> {
        let exchange = Exchange::new();
        let shared = Shared::new(data_dir, ground, &exchange)?;
        let auth_server = shared.auth_server(settings, data_dir, state, ground).await?;
        let registry = shared.registry(settings, data_dir, ground).await?;
        let gateway = shared.gateway(settings, data_dir, ground)?;
        let worker = shared.worker(settings, ground)?;
        let demo = DemoServer::build(ground.clock.clone(), ground.rng.clone());
        let Shared { trust, trust_feed, .. } = shared;
        let readiness = ground.readiness.clone();
        Ok(Self { auth_server, registry, gateway, worker, demo, exchange, trust, trust_feed, readiness })
    }

    /// Lets the services find one another and starts what they do by themselves.
    pub(super) fn spawn_tasks(&self, tasks: &Tasks) {
        self.exchange.serve(AUTH_SERVER, self.auth_server.rpc());
        self.exchange.serve(REGISTRY, self.registry.rpc());
        self.trust.follow(self.trust_feed.clone(), tasks, &self.readiness);
        self.auth_server.spawn_tasks(tasks);
        self.registry.spawn_tasks(tasks);
        self.gateway.spawn_tasks(tasks);
        self.worker.spawn_tasks(tasks);
        self.demo.spawn_tasks(tasks);
    }

    /// Everything that is reached from outside, on one port.
    pub(super) fn front(&self, ground: &Ground) -> Result<Router> {
        let services = merge_routes([self.auth_server.rpc(), self.registry.rpc()]);
        let descriptors =
            [portico_proto_auth::FILE_DESCRIPTOR_SET, portico_proto_registry::FILE_DESCRIPTOR_SET];
        let grpc = grpc_routes(&descriptors, services, ground.readiness.clone())?;
        let http = self.auth_server.http().merge(self.registry.http()).merge(self.gateway.http());
        let (clock, rng) = (ground.clock.clone(), ground.rng.clone());
        Ok(one_port(http, grpc, move |headers| CorrelationId::from_headers(headers, &*clock, &*rng)))
    }

    pub(super) fn demo(&self) -> Router {
        self.demo.http()
    }
}

/// What the services of one process have in common.
struct Shared {
    exchange: Exchange,
    coordination: Coordination,
    sealer: Sealer,
    handles: HandleSealer,
    outbound: OutboundClient,
    trust: TrustHandle,
    trust_feed: TrustFeed,
    callers: CallerLayer,
}

impl Shared {
    fn new(data_dir: &DataDir, ground: &Ground, exchange: &Exchange) -> Result<Self> {
        let trust = TrustHandle::new();
        trust.measure(&ground.metrics);
        let verifier = Verifier::new(trust.clone(), ground.clock.clone(), DEFAULT_MAX_STALENESS);
        let api = ResourceUri::parse(&format!("{}api", ground.origin))?;
        let policy = OutboundPolicy {
            deny_addrs: ground.own_addresses.clone(),
            exempt_addrs: ground.demo_address.into_iter().collect(),
            ..OutboundPolicy::dev()
        };
        let sealer = Sealer::new(&ground.keys, ground.rng.clone());
        let trust_feed = TrustFeed {
            link: exchange.link(AUTH_SERVER, PeerIdentity::new(GATEWAY)),
            disk: Some(DiskCopy::Sealed(data_dir.service(GATEWAY).join("trust.feed"), sealer.clone())),
            clock: ground.clock.clone(),
        };
        Ok(Self {
            exchange: exchange.clone(),
            coordination: Coordination::in_process(ground.clock.clone()),
            sealer,
            handles: HandleSealer::new(&ground.keys, ground.rng.clone()),
            outbound: OutboundClient::new(policy, &OutboundLimits::default())?,
            trust,
            trust_feed,
            callers: CallerLayer::new(verifier, api),
        })
    }

    async fn auth_server(
        &self,
        settings: &DevSettings,
        data_dir: &DataDir,
        state: &mut DevState,
        ground: &Ground,
    ) -> Result<AuthServer> {
        let db = database(data_dir, portico_auth_server::schema()).await?;
        seed(&db, state, ground).await?;
        let mut own = settings.auth_server.clone();
        own.public_origin = ground.origin.origin().ascii_serialization();
        let dependencies = portico_auth_server::Dependencies {
            clock: ground.clock.clone(),
            rng: ground.rng.clone(),
            db,
            coordination: self.coordination.clone(),
            sealer: self.sealer.clone(),
            handles: self.handles.clone(),
            registry: self.exchange.link(REGISTRY, PeerIdentity::new(AUTH_SERVER)),
            outbound: self.outbound.clone(),
            metrics: ground.metrics.clone(),
            readiness: ground.readiness.clone(),
            tasks: ground.tasks.clone(),
        };
        AuthServer::build(own, dependencies).await.context("the auth-server cannot start")
    }

    async fn registry(
        &self,
        settings: &DevSettings,
        data_dir: &DataDir,
        ground: &Ground,
    ) -> Result<Registry> {
        let dependencies = portico_registry::Dependencies {
            db: database(data_dir, portico_registry::schema()).await?,
            clock: ground.clock.clone(),
            rng: ground.rng.clone(),
            coordination: self.coordination.clone(),
            keys: ground.keys.clone(),
            trust: self.trust.clone(),
            callers: self.callers.clone(),
            outbound: self.outbound.clone(),
            public_origin: ground.origin.clone(),
            metrics: ground.metrics.clone(),
            readiness: ground.readiness.clone(),
            tasks: ground.tasks.clone(),
        };
        Registry::build(settings.registry.clone(), dependencies).await.context("the registry cannot start")
    }

    fn gateway(&self, settings: &DevSettings, data_dir: &DataDir, ground: &Ground) -> Result<Gateway> {
        let mut own = settings.gateway.clone();
        own.public_origin = ground.origin.clone();
        own.data_dir = data_dir.service(GATEWAY);
        own.allow_loopback_origins = true;
        let dependencies = portico_gateway::Dependencies {
            clock: ground.clock.clone(),
            rng: ground.rng.clone(),
            coordination: self.coordination.clone(),
            registry: self.exchange.link(REGISTRY, PeerIdentity::new(GATEWAY)),
            trust: self.trust.clone(),
            handles: self.handles.clone(),
            sealer: self.sealer.clone(),
            outbound: self.outbound.clone(),
            metrics: ground.metrics.clone(),
            readiness: ground.readiness.clone(),
            tasks: ground.tasks.clone(),
        };
        Gateway::build(own, dependencies).context("the gateway cannot start")
    }

    fn worker(&self, settings: &DevSettings, ground: &Ground) -> Result<Worker> {
        let dependencies = portico_worker::Dependencies {
            clock: ground.clock.clone(),
            rng: ground.rng.clone(),
            coordination: self.coordination.clone(),
            handles: self.handles.clone(),
            registry: self.exchange.link(REGISTRY, PeerIdentity::new(WORKER)),
            outbound: self.outbound.clone(),
            metrics: ground.metrics.clone(),
            readiness: ground.readiness.clone(),
        };
        Worker::build(settings.worker.clone(), dependencies).context("the worker cannot start")
    }
}

async fn database(data_dir: &DataDir, schema: &Schema) -> Result<Db> {
    let db = Db::sqlite_file(&data_dir.database(schema.name)).await?;
    let migrated = portico_db::migrate(&db, schema).await;
    migrated.with_context(|| format!("the database of {} cannot be brought up to date", schema.name))?;
    Ok(db)
}

/// Makes the administrator and the command line's service account on the first start.
async fn seed(db: &Db, state: &mut DevState, ground: &Ground) -> Result<()> {
    let tools = SeedTools { clock: ground.clock.clone(), rng: ground.rng.clone() };
    let administrator = AdministratorSeed {
        username: state.admin_username.clone(),
        password: Some(state.admin_password.clone()),
    };
    portico_auth_server::seed(db, &tools, administrator).await?;
    if state.client_id.is_empty() {
        let made = portico_auth_server::ensure_service_account(db, &tools, COMMAND_LINE).await?;
        state.client_id = made.client_id;
        state.client_secret = made.client_secret;
    }
    Ok(())
}
