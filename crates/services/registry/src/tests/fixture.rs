//! A registry with everything real, and callers of every kind.

use std::sync::Arc;
use std::time::Duration;

use portico_authn::Role;
use portico_authn::testing::TestIssuer;
use portico_clock::MockClock;
use portico_coordination::{Coordination, Delivery, EventStream};
use portico_db::Db;
use portico_db::testing::{Guard, databases};
use portico_ids::{RoleId, SeededRng, SharedRng};
use portico_oauth_types::ScopeSet;
use portico_outbound::{OutboundClient, OutboundLimits, OutboundPolicy};
use portico_process::{Readiness, Tasks, install_crypto_provider};
use portico_proto_registry as proto;
use portico_proto_registry::audit_service_client::AuditServiceClient;
use portico_proto_registry::endpoint_service_client::EndpointServiceClient;
use portico_proto_registry::instance_service_client::InstanceServiceClient;
use portico_proto_registry::observation_service_client::ObservationServiceClient;
use portico_proto_registry::secret_resolver_service_client::SecretResolverServiceClient;
use portico_proto_registry::secret_service_client::SecretServiceClient;
use portico_proto_registry::server_service_client::ServerServiceClient;
use portico_sealing::{KeyRing, Sealer};
use portico_telemetry::Metrics;
use portico_transport::{PeerIdentity, reason_of};
use prost_types::FieldMask;
use serde_json::json;
use tonic::service::interceptor::InterceptedService;
use tonic::service::{Interceptor, Routes};
use tonic::{Code, Request, Status};

use crate::json::to_struct;
use crate::{Dependencies, Registry, RegistrySettings, schema};

pub(super) const READ: &str = "registry:read";
pub(super) const WRITE: &str = "registry:write";

/// A running registry on a database of its own.
pub(super) struct Fixture {
    pub(super) registry: Registry,
    pub(super) routes: Routes,
    pub(super) db: Db,
    pub(super) events: EventStream,
    pub(super) tasks: Tasks,
    pub(super) metrics: Metrics,
    pub(super) clock: MockClock,
    ground: Ground,
    roles: Vec<(String, String)>,
    guards: (Option<Guard>, tempfile::TempDir),
}

/// What the replicas of one registry share.
struct Ground {
    db: Db,
    clock: MockClock,
    rng: SharedRng,
    coordination: Coordination,
    keys: KeyRing,
    issuer: TestIssuer,
}

/// A process of its own, as far as the registry can tell.
pub(super) struct Replica {
    pub(super) registry: Registry,
    pub(super) routes: Routes,
    pub(super) tasks: Tasks,
    pub(super) metrics: Metrics,
    pub(super) readiness: Readiness,
}

impl Ground {
    async fn replica(&self, settings: RegistrySettings) -> Replica {
        self.replica_with(settings, &self.keys).await
    }

    async fn replica_with(&self, settings: RegistrySettings, keys: &KeyRing) -> Replica {
        let (tasks, metrics, readiness) = (Tasks::new(), Metrics::new(), Readiness::new());
        let deps = Dependencies {
            db: self.db.clone(),
            clock: Arc::new(self.clock.clone()),
            rng: Arc::clone(&self.rng),
            coordination: self.coordination.clone(),
            keys: keys.clone(),
            trust: self.issuer.trust(),
            callers: self.issuer.api_layer(),
            outbound: OutboundClient::new(OutboundPolicy::default(), &OutboundLimits::default()).unwrap(),
            public_origin: "https://portico.test".parse().unwrap(),
            metrics: metrics.clone(),
            readiness: readiness.clone(),
            tasks: tasks.clone(),
        };
        let registry = Registry::build(settings, deps).await.unwrap();
        Replica { routes: registry.rpc(), registry, tasks, metrics, readiness }
    }
}

impl Replica {
    pub(super) async fn stop(&self) {
        self.tasks.trigger_shutdown();
        let outcome = self.tasks.wait(Duration::from_secs(5)).await;
        assert!(outcome.is_clean(), "{outcome:?}");
    }
}

/// Puts credentials on a request as a listener or an in-process link would have.
#[derive(Clone)]
pub(super) enum As {
    Nobody,
    Token(String),
    Service(&'static str),
}

impl Interceptor for As {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        match self {
            Self::Nobody => {}
            Self::Token(token) => {
                request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
            }
            Self::Service(name) => {
                request.extensions_mut().insert(PeerIdentity::new(*name));
            }
        }
        Ok(request)
    }
}

type Channel = InterceptedService<Routes, As>;

/// Clients of one caller.
#[derive(Clone)]
pub(super) struct Clients {
    pub(super) servers: ServerServiceClient<Channel>,
    pub(super) instances: InstanceServiceClient<Channel>,
    pub(super) endpoints: EndpointServiceClient<Channel>,
    pub(super) secrets: SecretServiceClient<Channel>,
    pub(super) audit: AuditServiceClient<Channel>,
    pub(super) resolver: SecretResolverServiceClient<Channel>,
    pub(super) observations: ObservationServiceClient<Channel>,
}

impl Fixture {
    pub(super) async fn new() -> Self {
        let (_, db, guard) = databases(schema()).await.into_iter().next().unwrap();
        Self::on(db, Some(guard)).await
    }

    /// On a database that the test keeps itself.
    pub(super) async fn over(db: Db) -> Self {
        Self::on(db, None).await
    }

    /// One on every database that can be had, with its label.
    pub(super) async fn everywhere() -> Vec<(&'static str, Self)> {
        let mut all = Vec::new();
        for (label, db, guard) in databases(schema()).await {
            all.push((label, Self::on(db, Some(guard)).await));
        }
        all
    }

    async fn on(db: Db, guard: Option<Guard>) -> Self {
        install_crypto_provider();
        let clock = MockClock::at(chrono::DateTime::from_timestamp_micros(1_800_000_000_123_456).unwrap());
        let rng: SharedRng = Arc::new(SeededRng::new(7));
        let issuer = TestIssuer::new(Arc::new(clock.clone()));
        let dir = tempfile::tempdir().unwrap();
        let keys = KeyRing::generate_file(&dir.path().join("keys.json"), &*rng).unwrap();
        let coordination = Coordination::in_process(Arc::new(clock.clone()));
        let ground = Ground { db, clock, rng, coordination, keys, issuer };
        let Replica { registry, routes, tasks, metrics, .. } =
            ground.replica(RegistrySettings::default()).await;
        let (db, clock, events) = (ground.db.clone(), ground.clock.clone(), ground.coordination.events());
        let guards = (guard, dir);
        Self { registry, routes, db, events, tasks, metrics, clock, ground, roles: Vec::new(), guards }
    }

    /// One more registry on the same database and coordination.
    pub(super) async fn replica(&self) -> Replica {
        self.ground.replica(RegistrySettings::default()).await
    }

    /// One more, which reads the key ring as it is now and never again.
    pub(super) async fn late_replica(&self) -> Replica {
        let keys = KeyRing::load(&self.guards.1.path().join("keys.json")).unwrap();
        self.ground.replica_with(RegistrySettings::default(), &keys).await
    }

    /// Makes a token of somebody new who holds the named built-in roles.
    pub(super) fn person(&mut self, roles: &[&str], scopes: &str) -> As {
        let scopes: ScopeSet = scopes.parse().unwrap();
        let api = format!("{}/api", portico_authn::testing::ISSUER);
        let mut claims = self.ground.issuer.claims(&self.ground.issuer.user(), &api, scopes);
        claims.roles = roles.iter().map(|name| self.role(name)).collect();
        As::Token(self.ground.issuer.mint(&claims))
    }

    fn role(&mut self, name: &str) -> String {
        if let Some((_, id)) = self.roles.iter().find(|(known, _)| known == name) {
            return id.clone();
        }
        let id = RoleId::generate(&self.clock, &SeededRng::new(self.roles.len() as u64 + 100)).to_string();
        let (policies, permissions) = (String::new(), Vec::new());
        self.ground.issuer.put_role(Role { id: id.clone(), name: name.to_owned(), policies, permissions });
        self.roles.push((name.to_owned(), id.clone()));
        id
    }

    /// Rotates the key ring at once: there is no other process. Answers the key that seals now.
    pub(super) fn rotate_ring(&self) -> String {
        let path = self.guards.1.path().join("keys.json");
        let key = KeyRing::stage_file(&path, &SeededRng::new(31)).unwrap();
        KeyRing::promote_file(&path, &key, chrono::DateTime::UNIX_EPOCH).unwrap();
        assert!(self.ground.keys.reload().unwrap());
        key
    }

    pub(super) fn prune_ring(&self, key: &str) {
        KeyRing::prune_file(&self.guards.1.path().join("keys.json"), key).unwrap();
        assert!(self.ground.keys.reload().unwrap());
    }

    /// The ring of somebody else.
    pub(super) fn other_ring(&self) -> KeyRing {
        KeyRing::generate_file(&self.guards.1.path().join("other.json"), &SeededRng::new(32)).unwrap()
    }

    pub(super) fn sealer(&self) -> &Sealer {
        &self.registry.rpc.service.sealer
    }

    /// Opens an event as a reader of the stream does.
    pub(super) fn opened(&self, delivery: &Delivery) -> Vec<u8> {
        let sealed = std::str::from_utf8(&delivery.payload).unwrap();
        let handles = &self.registry.rpc.service.handles;
        handles.open(portico_proto_events::SEALED_AS, portico_proto_events::TOPIC.as_bytes(), sealed).unwrap()
    }

    pub(super) fn publisher(&mut self) -> Clients {
        let person = self.person(&["publisher"], WRITE);
        self.clients(person)
    }

    pub(super) fn admin(&mut self) -> Clients {
        let person = self.person(&["administrator"], "admin");
        self.clients(person)
    }

    pub(super) fn clients(&self, caller: As) -> Clients {
        Clients::of(&self.routes, caller)
    }

    pub(super) async fn stop(&self) {
        self.tasks.trigger_shutdown();
        self.tasks.wait(Duration::from_secs(5)).await;
    }
}

impl Clients {
    pub(super) fn of(routes: &Routes, caller: As) -> Self {
        let channel = InterceptedService::new(routes.clone(), caller);
        Self {
            servers: ServerServiceClient::new(channel.clone()),
            instances: InstanceServiceClient::new(channel.clone()),
            endpoints: EndpointServiceClient::new(channel.clone()),
            secrets: SecretServiceClient::new(channel.clone()),
            audit: AuditServiceClient::new(channel.clone()),
            resolver: SecretResolverServiceClient::new(channel.clone()),
            observations: ObservationServiceClient::new(channel),
        }
    }

    /// Registers a server at a public address.
    pub(super) async fn register(&mut self, name: &str) -> proto::RegisterServerResponse {
        self.servers.register_server(registration(name)).await.unwrap().into_inner()
    }

    pub(super) async fn capabilities(&mut self, server_id: &str, tools: &[&str]) {
        let capabilities = tools.iter().map(|name| tool(name)).collect();
        let request = proto::ReportCapabilitiesRequest { server_id: server_id.to_owned(), capabilities };
        self.observations.report_capabilities(request).await.unwrap();
    }
}

pub(super) fn tool(name: &str) -> proto::Capability {
    proto::Capability {
        kind: proto::CapabilityKind::Tool.into(),
        name: name.to_owned(),
        title: format!("The {name}"),
        definition_json: format!(r#"{{"name":"{name}","big":12345678901234567890123}}"#),
        ..proto::Capability::default()
    }
}

/// An address outside every special range, written as one so that no test asks a name server.
pub(super) const URL: &str = "https://198.41.0.4/mcp";

pub(super) fn url_spec() -> prost_types::Struct {
    to_struct(&json!({"type": "url", "endpoint": URL, "timeout": 30, "health_check": "/health"}))
}

pub(super) fn bearer_spec(reference: &str) -> prost_types::Struct {
    let token = format!("secret_ref:{reference}");
    to_struct(&json!({"type": "url", "endpoint": URL, "authentication": {"type": "bearer", "token": token}}))
}

pub(super) fn registration(name: &str) -> proto::RegisterServerRequest {
    proto::RegisterServerRequest { name: name.to_owned(), json_spec: Some(url_spec()), ..Default::default() }
}

pub(super) fn mask(paths: &[&str]) -> FieldMask {
    FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() }
}

/// Asserts how a call was refused.
#[track_caller]
pub(super) fn refused<T: std::fmt::Debug>(outcome: Result<T, Status>, code: Code, reason: &str) -> Status {
    let status = outcome.expect_err("the call has to be refused");
    assert_eq!((status.code(), reason_of(&status).as_deref()), (code, Some(reason)), "{status:?}");
    status
}
