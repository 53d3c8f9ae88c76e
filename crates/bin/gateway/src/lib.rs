//! The program of the gateway: its settings, what they make, and how the service is put together.

mod settings;

use std::net::SocketAddr;
use std::path::PathBuf;

use portico_clock::SystemClock;
use portico_gateway::{Dependencies, Gateway, GatewaySettings};
use portico_launch::{
    CoordinationPlan, Failure, Frame, Front, Ground, Identity, OutboundSettings, OwnPlaces, Peer, Problems,
    Program, Started, check_directory, check_origin, check_public_tls, follow_trust, outbound, public,
};
use portico_process::DataDirLock;
use portico_sealing::{HandleSealer, KeyRing, Sealer};
use portico_transport::{HttpLimits, ReservedAddress, ServerTls};

pub use settings::{PeerSettings, Settings};

/// The gateway as a process of its own.
#[derive(Debug)]
pub struct GatewayProgram;

/// The gateway's settings, checked.
#[derive(Debug)]
pub struct Plan {
    listen: SocketAddr,
    data_dir: PathBuf,
    keys: KeyRing,
    coordination: CoordinationPlan,
    identity: Identity,
    registry: Peer,
    auth_server: Peer,
    limits: HttpLimits,
    public_tls: Option<ServerTls>,
    outbound: OutboundSettings,
    gateway: GatewaySettings,
}

impl Program for GatewayProgram {
    const NAME: &'static str = "gateway";
    const ABOUT: &'static str = "Portico's gateway: MCP in, MCP out, every call authenticated and recorded";
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
        let identity = Identity::check(p, settings.tls, Self::NAME, &SystemClock);
        let peers = &settings.peers;
        let registry = Peer::check(p, "peers.registry", peers.registry.as_deref(), "registry");
        let auth_server = Peer::check(p, "peers.auth_server", peers.auth_server.as_deref(), "auth-server");
        let public_tls = check_public_tls(p, settings.public_tls);
        let plan = || {
            let data_dir = data_dir?;
            let own =
                GatewaySettings { public_origin: origin?, data_dir: data_dir.clone(), ..settings.gateway };
            Some(Plan {
                listen: settings.listen,
                data_dir,
                keys: keys?,
                coordination: coordination?,
                identity: identity?,
                registry: registry?,
                auth_server: auth_server?,
                limits: settings.http,
                public_tls,
                outbound: settings.outbound,
                gateway: own,
            })
        };
        let plan = plan();
        problems.finish(plan)
    }

    async fn start(plan: Plan, ground: &Ground) -> Result<Started, Failure> {
        plan.keys.watch(&ground.tasks);
        let data_dir = DataDirLock::acquire(&plan.data_dir)?;
        let address = ReservedAddress::reserve(plan.listen)?.named("public");
        let started =
            Started { public: Some(address.local_addr()), internal: None, data_dir: Some(data_dir) };
        let own = OwnPlaces::default()
            .listeners([address.local_addr(), ground.admin])
            .origin(&plan.gateway.public_origin)
            .peer(&plan.registry)
            .peer(&plan.auth_server)
            .store(plan.coordination.url(), 6379);
        let sealer = Sealer::new(&plan.keys, ground.rng.clone());
        let auth_server = plan.identity.link(&plan.auth_server, &ground.tasks)?;
        let dependencies = Dependencies {
            clock: ground.clock.clone(),
            rng: ground.rng.clone(),
            coordination: plan.coordination.connect(&plan.keys, ground)?,
            registry: plan.identity.link(&plan.registry, &ground.tasks)?,
            trust: follow_trust(auth_server, &plan.data_dir, &sealer, ground),
            handles: HandleSealer::new(&plan.keys, ground.rng.clone()),
            sealer,
            outbound: outbound(&plan.outbound, own).await?,
            metrics: ground.metrics.clone(),
            readiness: ground.readiness.clone(),
            tasks: ground.tasks.clone(),
        };
        let gateway = Gateway::build(plan.gateway, dependencies)?;
        gateway.spawn_tasks(&ground.tasks);
        let front = Front { http: gateway.http(), grpc: None, limits: plan.limits, tls: plan.public_tls };
        public(address, front, ground)?;
        Ok(started)
    }
}

#[cfg(test)]
mod tests;
