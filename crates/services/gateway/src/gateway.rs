use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::routing::{any, get};
use chrono::TimeDelta;
use portico_authn::{DEFAULT_MAX_STALENESS, TrustHandle, Verifier};
use portico_authz::Authorizer;
use portico_clock::SharedClock;
use portico_coordination::{Coordination, Limit, LimitKey};
use portico_feed::DiskCopy;
use portico_ids::SharedRng;
use portico_outbound::OutboundClient;
use portico_process::{Readiness, Tasks};
use portico_sealing::{HandleSealer, Sealer};
use portico_telemetry::Metrics;
use portico_transport::Link;
use tokio::sync::mpsc;

use crate::access::{Access, OpenCalls};
use crate::admission::OriginGuard;
use crate::audit::{AuditLog, Spool};
use crate::call::{DoorLimit, Recorder};
use crate::catalogue::{Catalogue, CopyAge, FeedSource, Resolver};
use crate::engine::Engine;
use crate::front;
use crate::handles::Handles;
use crate::hop::Hop;
use crate::load::Load;
use crate::metadata;
use crate::metrics::GatewayMetrics;
use crate::relay::Readers;
use crate::replicas::{self, ReplicaParts, Replicas};
use crate::session::{Session, SessionParts, Sessions};
use crate::session_era::{departed, expiry};
use crate::settings::GatewaySettings;
use crate::stateless::ToolHeaders;
use crate::upstream::Upstream;
use crate::virtual_server::VirtualServers;

/// Longest that a session may be idle, whatever the settings say.
const LONGEST_IDLE: TimeDelta = TimeDelta::days(30);

/// What a gateway is built with.
#[derive(Debug, Clone)]
pub struct Dependencies {
    pub clock: SharedClock,
    pub rng: SharedRng,
    pub coordination: Coordination,
    /// The registry's internal listener.
    pub registry: Link,
    /// The trust that the process follows.
    pub trust: TrustHandle,
    pub handles: HandleSealer,
    pub sealer: Sealer,
    pub outbound: OutboundClient,
    pub metrics: Metrics,
    pub readiness: Readiness,
    pub tasks: Tasks,
}

/// Why a gateway cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The data directory cannot be used.
    #[error("the audit spool in {path} cannot be opened; see that the directory exists and can be written")]
    Spool {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The public origin is no origin.
    #[error(
        "gateway.public_origin is {0}; it must be scheme, host and port only, such as https://mcp.example.org"
    )]
    PublicOrigin(url::Url),
}

/// The gateway.
#[derive(Debug)]
pub struct Gateway {
    engine: Arc<Engine>,
    registry: Link,
    sealer: Sealer,
    metrics: Metrics,
    readiness: Readiness,
    /// Expired sessions; taken by the task that closes them upstream.
    expired: Mutex<Option<mpsc::Receiver<Arc<Session>>>>,
}

impl Gateway {
    /// Checks the settings and opens the spool; nothing is served yet.
    pub fn build(settings: GatewaySettings, dependencies: Dependencies) -> Result<Self, BuildError> {
        let origin = &settings.public_origin;
        if !matches!(origin.scheme(), "http" | "https") || origin.path() != "/" || origin.query().is_some() {
            return Err(BuildError::PublicOrigin(origin.clone()));
        }
        let d = dependencies;
        let path = settings.data_dir.join("audit");
        let spool = Spool::open(&path, settings.audit.spool_bytes)
            .map_err(|source| BuildError::Spool { path, source })?;
        let metrics = GatewayMetrics::new(&d.metrics);
        let guard = OriginGuard::new(&settings);
        let verifier = Arc::new(Verifier::new(d.trust.clone(), d.clock.clone(), DEFAULT_MAX_STALENESS));
        let limits = &settings.limits;
        let access = access(&settings, &d, (&guard, &verifier), &metrics);
        let records = Limit {
            per_minute: limits.anonymous_records_per_minute,
            burst: limits.anonymous_records_per_minute,
        };
        let replicas = Replicas::new(ReplicaParts {
            coordination: &d.coordination,
            sealer: d.handles.clone(),
            clock: d.clock.clone(),
            rng: d.rng.clone(),
            metrics: metrics.clone(),
        });
        let news = replicas.news();
        let hop = Hop::new(d.handles.clone());
        let parts = (metrics.clone(), d.rng.clone());
        let upstream = Upstream::new(d.outbound, hop, settings.upstream.clone(), parts);
        let load = Load::new(limits, metrics.clone());
        let readers = Readers::new(Duration::from_secs(limits.slow_reader_seconds), metrics.clone());
        let recorder = Recorder {
            audit: AuditLog::new(Arc::new(spool), settings.audit.on_full, metrics.clone()),
            metrics,
            clock: d.clock.clone(),
            rng: d.rng.clone(),
            door: DoorLimit { limiter: d.coordination.rate_limiter(), limit: records },
        };
        let idle = i64::try_from(settings.sessions.idle_seconds).ok().and_then(TimeDelta::try_seconds);
        let (sessions, expired) = Sessions::new(SessionParts {
            map: d.coordination.ttl_map("gateway"),
            handles: d.handles.clone(),
            rng: d.rng.clone(),
            clock: d.clock.clone(),
            replica: Arc::clone(&replicas.id),
            idle: idle.unwrap_or(LONGEST_IDLE).min(LONGEST_IDLE),
            per_principal: settings.sessions.per_principal as usize,
        });
        let engine = Engine {
            catalogue: Arc::new(Catalogue::new(guard.origin())),
            guard,
            verifier,
            access,
            upstream,
            sessions,
            replicas,
            leases: d.coordination.leases(),
            load,
            readers,
            handles: Handles::new(d.handles, d.clock.clone(), news),
            tool_headers: ToolHeaders::default(),
            virtual_servers: VirtualServers::new(settings.upstream.list_cache_bytes),
            recorder: Arc::new(recorder),
            rng: d.rng,
            tasks: d.tasks,
            settings,
        };
        Ok(Self {
            engine: Arc::new(engine),
            registry: d.registry,
            sealer: d.sealer,
            metrics: d.metrics,
            readiness: d.readiness,
            expired: Mutex::new(Some(expired)),
        })
    }

    /// The MCP routes and the metadata of protected resources.
    pub fn http(&self) -> Router {
        let documents = get(front::resource_metadata).options(async || metadata::preflight());
        Router::new()
            .route("/mcp", any(front::serve))
            .route("/mcp/", any(front::serve))
            .route("/{name}/mcp", any(front::serve))
            .route("/{name}/mcp/", any(front::serve))
            .route(metadata::WELL_KNOWN, documents.clone())
            .route(&format!("{}/{{*resource}}", metadata::WELL_KNOWN), documents)
            .with_state(Arc::clone(&self.engine))
    }

    #[cfg(test)]
    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// No gRPC is served: the gateway only calls.
    pub fn rpc(&self) -> tonic::service::Routes {
        tonic::service::Routes::default()
    }

    /// Follows the catalogue, resolves credentials, ends expired sessions, and keeps in touch with other gateways.
    pub fn spawn_tasks(&self, tasks: &Tasks) {
        let engine = &self.engine;
        let link = self.registry.clone();
        let data = &engine.settings.data_dir;
        let copy = data.join("catalogue.feed");
        let age = engine.recorder.metrics.catalogue_copy_age.clone();
        CopyAge { path: copy.clone(), age, clock: engine.recorder.clock.clone() }.spawn(tasks);
        let disk = DiskCopy::Sealed(copy, self.sealer.clone());
        let ready = self.readiness.check("catalogue");
        let source = FeedSource {
            link: link.clone(),
            disk,
            clock: engine.recorder.clock.clone(),
            metrics: self.metrics.clone(),
        };
        engine.catalogue.follow(source, tasks, ready);
        let resolver = Resolver {
            catalogue: Arc::clone(&engine.catalogue),
            link: link.clone(),
            sealer: self.sealer.clone(),
            path: data.join("credentials.sealed"),
            failures: engine.recorder.metrics.disk_failures.clone(),
        };
        resolver.spawn(tasks);
        engine.recorder.audit.ship(link, tasks);
        let expired = self.expired.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(expired) = expired {
            expiry::spawn(engine, tasks, expired);
        }
        departed::spawn(engine, tasks);
        replicas::spawn(engine, tasks, self.readiness.check("replicas"));
    }
}

/// Who decides about requests.
fn access(
    settings: &GatewaySettings,
    d: &Dependencies,
    (guard, verifier): (&OriginGuard, &Arc<Verifier>),
    metrics: &GatewayMetrics,
) -> Access {
    let limits = &settings.limits;
    Access {
        origin: guard.origin().to_owned(),
        verifier: Arc::clone(verifier),
        authorizer: Authorizer::new(d.trust.clone()),
        limiter: d.coordination.rate_limiter(),
        per_principal: Limit { per_minute: limits.principal_per_minute, burst: limits.principal_burst },
        global: Limit { per_minute: limits.global_per_minute, burst: limits.global_burst },
        all: LimitKey::new("gateway", ""),
        open: OpenCalls::new(limits.principal_open),
        clock: d.clock.clone(),
        metrics: metrics.clone(),
    }
}
