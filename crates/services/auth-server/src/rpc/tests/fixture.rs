//! An auth-server with everything real, and callers of every kind.

use std::sync::Arc;
use std::time::Duration;

use portico_clock::{MockClock, SharedClock};
use portico_coordination::Coordination;
use portico_db::Db;
use portico_db::testing::{Guard, databases};
use portico_ids::{PrincipalId, SeededRng, SharedRng};
use portico_oauth_types::ScopeSet;
use portico_outbound::{OutboundClient, OutboundLimits, OutboundPolicy};
use portico_process::{Readiness, Tasks, install_crypto_provider};
use portico_proto_auth as proto;
use portico_proto_auth::audit_service_client::AuditServiceClient;
use portico_proto_auth::client_service_client::ClientServiceClient;
use portico_proto_auth::grant_service_client::GrantServiceClient;
use portico_proto_auth::role_service_client::RoleServiceClient;
use portico_proto_auth::service_account_service_client::ServiceAccountServiceClient;
use portico_proto_auth::signing_key_service_client::SigningKeyServiceClient;
use portico_proto_auth::trust_service_client::TrustServiceClient;
use portico_proto_auth::user_service_client::UserServiceClient;
use portico_proto_registry as registry;
use portico_sealing::{HandleSealer, KeyRing, Sealer};
use portico_telemetry::Metrics;
use portico_transport::{Exchange, PeerIdentity, reason_of};
use secrecy::{ExposeSecret as _, SecretString};
use tonic::service::interceptor::InterceptedService;
use tonic::service::{Interceptor, Routes};
use tonic::{Code, Request, Status};

use crate::app::Shared;
use crate::domain::resource::Target;
use crate::store::audit::{AuditFilter, AuditRow};
use crate::tokens::Claimant;
use crate::{AdministratorSeed, AuthServer, AuthServerSettings, Dependencies, SeedTools, schema, seed};

pub(super) const ORIGIN: &str = "https://portico.test";
pub(super) const ROOT: &str = "root";

/// A built auth-server on a database of its own, with one administrator and the endpoint `time`.
pub(super) struct Fixture {
    pub(super) label: &'static str,
    pub(super) app: Shared,
    pub(super) routes: Routes,
    pub(super) clock: MockClock,
    pub(super) tasks: Tasks,
    pub(super) root: PrincipalId,
    pub(super) server: AuthServer,
    pub(super) ground: Ground,
    guards: (Option<Guard>, tempfile::TempDir),
}

/// What the replicas of one auth-server share.
pub(super) struct Ground {
    pub(super) db: Db,
    pub(super) clock: MockClock,
    pub(super) rng: SharedRng,
    pub(super) coordination: Coordination,
    pub(super) keys: KeyRing,
}

/// A process of its own, as far as the auth-server can tell.
pub(super) struct Replica {
    pub(super) server: AuthServer,
    pub(super) routes: Routes,
    pub(super) tasks: Tasks,
    pub(super) readiness: Readiness,
}

impl Ground {
    pub(super) async fn replica(&self) -> Replica {
        self.replica_with(&self.keys).await
    }

    async fn replica_with(&self, keys: &KeyRing) -> Replica {
        let (tasks, readiness) = (Tasks::new(), Readiness::new());
        let deps = Dependencies {
            clock: Arc::new(self.clock.clone()),
            rng: Arc::clone(&self.rng),
            db: self.db.clone(),
            coordination: self.coordination.clone(),
            sealer: Sealer::new(keys, Arc::clone(&self.rng)),
            handles: HandleSealer::new(keys, Arc::clone(&self.rng)),
            registry: Exchange::new().link("registry", PeerIdentity::new("auth-server")),
            outbound: OutboundClient::new(OutboundPolicy::dev(), &OutboundLimits::default()).unwrap(),
            metrics: Metrics::new(),
            readiness: readiness.clone(),
            tasks: tasks.clone(),
        };
        let settings =
            AuthServerSettings { public_origin: ORIGIN.to_owned(), ..AuthServerSettings::default() };
        let server = AuthServer::build(settings, deps).await.unwrap();
        server.app().catalogue.apply(true, vec![endpoint("time", 1)], &[]);
        Replica { routes: server.rpc(), server, tasks, readiness }
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
    pub(super) users: UserServiceClient<Channel>,
    pub(super) roles: RoleServiceClient<Channel>,
    pub(super) grants: GrantServiceClient<Channel>,
    pub(super) accounts: ServiceAccountServiceClient<Channel>,
    pub(super) apps: ClientServiceClient<Channel>,
    pub(super) keys: SigningKeyServiceClient<Channel>,
    pub(super) audit: AuditServiceClient<Channel>,
    pub(super) trust: TrustServiceClient<Channel>,
}

impl Fixture {
    /// On SQLite only: for what does not depend on the database.
    pub(super) async fn new() -> Self {
        let (label, db, guard) = databases(schema()).await.into_iter().next().unwrap();
        Self::on(label, &db, Some(guard)).await
    }

    /// One for each database that can be had.
    pub(super) async fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for (label, db, guard) in databases(schema()).await {
            all.push(Self::on(label, &db, Some(guard)).await);
        }
        all
    }

    /// On a database that the test keeps itself.
    pub(super) async fn over(db: &Db) -> Self {
        Self::on("own", db, None).await
    }

    async fn on(label: &'static str, db: &Db, guard: Option<Guard>) -> Self {
        install_crypto_provider();
        let clock = MockClock::at(chrono::DateTime::from_timestamp_micros(1_800_000_000_123_456).unwrap());
        let shared: SharedClock = Arc::new(clock.clone());
        let rng: SharedRng = Arc::new(SeededRng::new(7));
        let dir = tempfile::tempdir().unwrap();
        let keys = KeyRing::generate_file(&dir.path().join("keys.json"), &*rng).unwrap();
        let tools = SeedTools { clock: Arc::clone(&shared), rng: Arc::clone(&rng) };
        let password = Some(SecretString::from("root's own password"));
        seed(db, &tools, AdministratorSeed { username: ROOT.to_owned(), password }).await.unwrap();
        let coordination = Coordination::in_process(shared);
        let ground = Ground { db: db.clone(), clock: clock.clone(), rng, coordination, keys };
        let Replica { server, routes, tasks, .. } = ground.replica().await;
        let app = Arc::clone(server.app());
        let root = PrincipalId::User(app.stores.users.find(ROOT).await.unwrap().unwrap().id);
        Self { label, app, server, routes, clock, tasks, root, ground, guards: (guard, dir) }
    }

    /// One more auth-server on the same database and coordination.
    pub(super) async fn replica(&self) -> Replica {
        self.ground.replica().await
    }

    /// One more, which reads the key ring as it is now and never again.
    pub(super) async fn late_replica(&self) -> Replica {
        self.ground.replica_with(&KeyRing::load(&self.key_ring()).unwrap()).await
    }

    /// The file of the key ring.
    pub(super) fn key_ring(&self) -> std::path::PathBuf {
        self.guards.1.path().join("keys.json")
    }

    /// Mints a token for the management plane with the roles that the principal has now.
    pub(super) async fn token(&self, subject: &PrincipalId, scopes: &str) -> String {
        let scopes: ScopeSet = scopes.parse().unwrap();
        let claimant = Claimant {
            issuing: self.app.issuing(subject.clone()).await.unwrap(),
            client_id: "test-client",
            target: &Target::Api,
            scopes,
            grant_id: None,
            session: None,
        };
        let response = self.app.access_token(claimant).await.unwrap();
        response.access_token.expose_secret().to_owned()
    }

    /// Whether a token for the management plane still counts.
    pub(super) fn counts(&self, token: &str) -> bool {
        self.app.verifier.verify(token, &format!("{ORIGIN}/api")).is_ok()
    }

    pub(super) fn clients(&self, caller: As) -> Clients {
        Clients::of(&self.routes, caller)
    }

    pub(super) async fn administrator(&self) -> Clients {
        self.clients(As::Token(self.token(&self.root, "admin").await))
    }

    /// Creates a person who holds the named roles everywhere, and answers its clients too.
    pub(super) async fn person(&self, name: &str, roles: &[&str]) -> (PrincipalId, Clients) {
        let mut root = self.administrator().await;
        let user = root.user(name).await;
        for role in roles {
            root.grant(name, role, "*").await;
        }
        let id: PrincipalId = format!("user:{}", user.id).parse().unwrap();
        let clients = self.clients(As::Token(self.token(&id, "admin").await));
        (id, clients)
    }

    pub(super) fn clock_now(&self) -> chrono::DateTime<chrono::Utc> {
        self.app.clock.now()
    }

    /// The newest audit row of an action.
    pub(super) async fn last_record(&self, action: &str) -> Option<AuditRow> {
        let filter = AuditFilter { action: Some(action.to_owned()), ..AuditFilter::default() };
        self.app.stores.audit.newest(&filter, 1).await.unwrap().pop()
    }

    /// Leaves signing keys that no replica can open.
    pub(super) async fn spoil_signing_keys(&self) {
        const SQL: &str = "UPDATE signing_keys SET private_sealed = $1";
        let spoil = async || {
            portico_db::on_db!(&self.ground.db, pool => {
                sqlx::query(SQL).bind(&[0_u8][..]).execute(pool).await?.rows_affected()
            });
            Ok::<_, sqlx::Error>(())
        };
        spoil().await.unwrap();
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
            users: UserServiceClient::new(channel.clone()),
            roles: RoleServiceClient::new(channel.clone()),
            grants: GrantServiceClient::new(channel.clone()),
            accounts: ServiceAccountServiceClient::new(channel.clone()),
            apps: ClientServiceClient::new(channel.clone()),
            keys: SigningKeyServiceClient::new(channel.clone()),
            audit: AuditServiceClient::new(channel.clone()),
            trust: TrustServiceClient::new(channel),
        }
    }

    /// Creates a person with a password that is quick to give.
    pub(super) async fn user(&mut self, username: &str) -> proto::User {
        let request = proto::CreateUserRequest { username: username.to_owned(), ..Default::default() };
        self.users.create_user(request).await.unwrap().into_inner().user.unwrap()
    }

    pub(super) async fn grant(&mut self, principal: &str, role: &str, endpoint: &str) -> proto::Grant {
        let request = grant(principal, role, endpoint);
        self.grants.create_grant(request).await.unwrap().into_inner().grant.unwrap()
    }

    pub(super) async fn role(&mut self, name: &str, permissions: &[&str]) -> proto::Role {
        let request = role(name, permissions);
        self.roles.create_role(request).await.unwrap().into_inner().role.unwrap()
    }
}

pub(super) fn grant(principal: &str, role: &str, endpoint: &str) -> proto::CreateGrantRequest {
    proto::CreateGrantRequest {
        principal: principal.to_owned(),
        role: role.to_owned(),
        endpoint: endpoint.to_owned(),
    }
}

pub(super) fn role(name: &str, permissions: &[&str]) -> proto::CreateRoleRequest {
    let permissions = permissions.iter().map(|one| (*one).to_owned()).collect();
    proto::CreateRoleRequest { name: name.to_owned(), permissions, ..Default::default() }
}

/// An endpoint, one of several that may bear a name one after the other.
pub(super) fn endpoint(name: &str, number: u8) -> registry::CatalogueItem {
    let id = format!("01900000-0000-7000-8000-{number:012}");
    let key = format!("endpoint/{id}");
    let endpoint = registry::CatalogueEndpoint { id, name: name.to_owned(), ..Default::default() };
    registry::CatalogueItem { key, value: Some(registry::catalogue_item::Value::Endpoint(endpoint)) }
}

/// Asserts how a call was refused, and answers the status.
#[track_caller]
pub(super) fn refused<T: std::fmt::Debug>(outcome: Result<T, Status>, code: Code, reason: &str) -> Status {
    let status = outcome.expect_err("the call has to be refused");
    assert_eq!((status.code(), reason_of(&status).as_deref()), (code, Some(reason)), "{status:?}");
    status
}
