//! The program of the registry: its settings, what they make, and how the service is put together.

mod settings;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use portico_clock::SystemClock;
use portico_db::DbSettings;
use portico_launch::{
    CoordinationPlan, Failure, Frame, Front, Ground, Identity, OutboundSettings, OwnPlaces, Peer, Problems,
    Program, Started, callers, check_directory, check_origin, check_public_tls, follow_trust, internal,
    outbound, public,
};
use portico_launch_database::{check_database, database};
use portico_process::DataDirLock;
use portico_proto_registry::FILE_DESCRIPTOR_SET;
use portico_registry::{Dependencies, Registry, RegistrySettings, schema};
use portico_sealing::{KeyRing, Sealer};
use portico_transport::{HttpLimits, ReservedAddress, ServerTls};
use url::Url;

pub use settings::{PeerSettings, Settings};

/// The registry as a process of its own.
#[derive(Debug)]
pub struct RegistryProgram;

/// The registry's settings, checked.
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
    auth_server: Peer,
    limits: HttpLimits,
    public_tls: Option<ServerTls>,
    outbound: OutboundSettings,
    registry: RegistrySettings,
}

impl Program for RegistryProgram {
    const NAME: &'static str = "registry";
    const ABOUT: &'static str =
        "Portico's registry: servers, instances, endpoints, secrets, the audit record";
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
        let peers = &settings.peers;
        let auth_server = Peer::check(p, "peers.auth_server", peers.auth_server.as_deref(), "auth-server");
        let public_tls = check_public_tls(p, settings.public_tls);
        p.accept("registry", settings.registry.check());
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
                auth_server: auth_server?,
                limits: settings.http,
                public_tls,
                outbound: settings.outbound,
                registry: settings.registry,
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
            .peer(&plan.auth_server)
            .store(plan.coordination.url(), 6379)
            .store(plan.database.url.as_ref(), 5432);
        let sealer = Sealer::new(&plan.keys, ground.rng.clone());
        let auth_server = plan.identity.link(&plan.auth_server, &ground.tasks)?;
        let trust = follow_trust(auth_server, &plan.data_dir, &sealer, ground);
        let dependencies = Dependencies {
            db,
            clock: ground.clock.clone(),
            rng: ground.rng.clone(),
            coordination: plan.coordination.connect(&plan.keys, ground)?,
            keys: plan.keys,
            callers: callers(&trust, &plan.origin, ground)?,
            trust,
            outbound: outbound(&plan.outbound, own).await?,
            public_origin: plan.origin,
            metrics: ground.metrics.clone(),
            readiness: ground.readiness.clone(),
            tasks: ground.tasks.clone(),
        };
        let service = Registry::build(plan.registry, dependencies).await?;
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
