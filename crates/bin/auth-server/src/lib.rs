//! The program of the auth-server: its settings, what they make, and how the service is put together.

mod settings;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use portico_auth_server::{AuthServer, AuthServerSettings, Dependencies, schema};
use portico_clock::SystemClock;
use portico_db::DbSettings;
use portico_launch::{
    CoordinationPlan, Failure, Frame, Front, Ground, Identity, OutboundSettings, OwnPlaces, Peer, Problems,
    Program, Started, check_directory, check_origin, check_public_tls, internal, outbound, public,
};
use portico_launch_database::{check_database, database};
use portico_process::DataDirLock;
use portico_proto_auth::FILE_DESCRIPTOR_SET;
use portico_sealing::{HandleSealer, KeyRing, Sealer};
use portico_transport::{HttpLimits, ReservedAddress, ServerTls};
use url::Url;

pub use settings::{PeerSettings, Settings};

/// The auth-server as a process of its own.
#[derive(Debug)]
pub struct AuthServerProgram;

/// The auth-server's settings, checked.
#[derive(Debug)]
pub struct Plan {
    origin: Url,
    listen: SocketAddr,
    internal_listen: SocketAddr,
    data_dir: PathBuf,
    keys: KeyRing,
    coordination: CoordinationPlan,
    database: DbSettings,
    start_wait: Duration,
    identity: Identity,
    registry: Peer,
    limits: HttpLimits,
    public_tls: Option<ServerTls>,
    outbound: OutboundSettings,
    auth_server: AuthServerSettings,
}

impl Program for AuthServerProgram {
    const NAME: &'static str = "auth-server";
    const ABOUT: &'static str = "Portico's authorization server: users, clients, tokens, roles, grants";
    type Settings = Settings;
    type Plan = Plan;

    fn frame(settings: &Settings) -> Frame {
        Frame {
            admin_listen: settings.admin_listen,
            process: settings.process.clone(),
            telemetry: settings.telemetry.clone(),
        }
    }

    fn plan(settings: Settings) -> Result<Plan, Problems> {
        let mut problems = Problems::new();
        let p = &mut problems;
        let origin = check_origin(p, settings.public_origin);
        let data_dir = check_directory(p, "data_dir", settings.data_dir);
        let keys = p.accept("keys.file", KeyRing::from_settings(&settings.keys));
        let coordination = CoordinationPlan::check(p, settings.coordination);
        let database = check_database(p, "database.url", settings.database);
        let identity = Identity::check(p, settings.tls, Self::NAME, &SystemClock);
        let registry = Peer::check(p, "peers.registry", settings.peers.registry.as_deref(), "registry");
        let public_tls = check_public_tls(p, settings.public_tls);
        let mut own = settings.auth_server;
        if let (Some(origin), Some(data_dir)) = (&origin, &data_dir) {
            own.public_origin = origin.origin().ascii_serialization();
            own.catalogue_file.get_or_insert_with(|| data_dir.join("catalogue.feed"));
            p.accept("auth_server", own.check());
        }
        let start_wait = settings.process.start_wait();
        let plan = || {
            Some(Plan {
                origin: origin?,
                listen: settings.listen,
                internal_listen: settings.internal_listen,
                data_dir: data_dir?,
                keys: keys?,
                coordination: coordination?,
                database: database?,
                start_wait,
                identity: identity?,
                registry: registry?,
                limits: settings.http,
                public_tls,
                outbound: settings.outbound,
                auth_server: own,
            })
        };
        let plan = plan();
        problems.finish(plan)
    }

    async fn start(plan: Plan, ground: &Ground) -> Result<Started, Failure> {
        plan.keys.watch(&ground.tasks);
        let data_dir = DataDirLock::acquire(&plan.data_dir)?;
        let address = ReservedAddress::reserve(plan.listen)?.named("public");
        let for_peers = ReservedAddress::reserve(plan.internal_listen)?.named("internal");
        let started = Started {
            public: Some(address.local_addr()),
            internal: Some(for_peers.local_addr()),
            data_dir: Some(data_dir),
        };
        let db = database(&plan.database, schema(), plan.start_wait, ground).await?;
        let own = OwnPlaces::default()
            .listeners([address.local_addr(), for_peers.local_addr(), ground.admin])
            .origin(&plan.origin)
            .peer(&plan.registry)
            .store(plan.coordination.url(), 6379)
            .store(plan.database.url.as_ref(), 5432);
        let dependencies = Dependencies {
            clock: ground.clock.clone(),
            rng: ground.rng.clone(),
            db,
            coordination: plan.coordination.connect(&plan.keys, ground)?,
            sealer: Sealer::new(&plan.keys, ground.rng.clone()),
            handles: HandleSealer::new(&plan.keys, ground.rng.clone()),
            registry: plan.identity.link(&plan.registry, &ground.tasks)?,
            outbound: outbound(&plan.outbound, own).await?,
            metrics: ground.metrics.clone(),
            readiness: ground.readiness.clone(),
            tasks: ground.tasks.clone(),
        };
        let service = AuthServer::build(plan.auth_server, dependencies).await?;
        let tls = plan.identity.server(service.refusals(), &ground.tasks)?;
        service.spawn_tasks(&ground.tasks);
        internal(for_peers, service.rpc(), tls, ground)?;
        let front = Front {
            http: service.http(),
            grpc: Some((FILE_DESCRIPTOR_SET, service.rpc())),
            limits: plan.limits,
            tls: plan.public_tls,
        };
        public(address, front, ground)?;
        Ok(started)
    }
}

#[cfg(test)]
mod tests;
