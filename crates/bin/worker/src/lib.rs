//! The program of the worker: its settings, what they make, and how the service is put together.

mod settings;

use portico_clock::SystemClock;
use portico_launch::{
    CoordinationPlan, Failure, Frame, Ground, Identity, OutboundSettings, OwnPlaces, Peer, Problems, Program,
    Started, check_directory, check_origin, outbound,
};
use portico_sealing::{HandleSealer, KeyRing};
use portico_worker::{Dependencies, Worker, WorkerSettings};
use url::Url;

pub use settings::{PeerSettings, Settings};

/// The worker as a process of its own.
#[derive(Debug)]
pub struct WorkerProgram;

/// The worker's settings, checked.
#[derive(Debug)]
pub struct Plan {
    keys: KeyRing,
    coordination: CoordinationPlan,
    identity: Identity,
    registry: Peer,
    origin: Url,
    outbound: OutboundSettings,
    worker: WorkerSettings,
}

impl Program for WorkerProgram {
    const NAME: &'static str = "worker";
    const ABOUT: &'static str =
        "Portico's worker: looks at registered servers, what they offer and whether they are well";
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
        let keys = p.accept("keys.file", KeyRing::from_settings(&settings.keys));
        let coordination = CoordinationPlan::check(p, settings.coordination);
        let identity = Identity::check(p, settings.tls, Self::NAME, &SystemClock);
        let origin = check_origin(p, settings.public_origin);
        let registry = Peer::check(p, "peers.registry", settings.peers.registry.as_deref(), "registry");
        if settings.data_dir.is_some() {
            check_directory(p, "data_dir", settings.data_dir);
        }
        p.accept("worker", settings.worker.check());
        let plan = || {
            Some(Plan {
                keys: keys?,
                coordination: coordination?,
                identity: identity?,
                registry: registry?,
                origin: origin?,
                outbound: settings.outbound,
                worker: settings.worker,
            })
        };
        let plan = plan();
        problems.finish(plan)
    }

    async fn start(plan: Plan, ground: &Ground) -> Result<Started, Failure> {
        plan.keys.watch(&ground.tasks);
        let own = own_places(&plan).listeners([ground.admin]);
        let dependencies = Dependencies {
            clock: ground.clock.clone(),
            rng: ground.rng.clone(),
            coordination: plan.coordination.connect(&plan.keys, ground)?,
            handles: HandleSealer::new(&plan.keys, ground.rng.clone()),
            registry: plan.identity.link(&plan.registry, &ground.tasks)?,
            outbound: outbound(&plan.outbound, own).await?,
            metrics: ground.metrics.clone(),
            readiness: ground.readiness.clone(),
        };
        Worker::build(plan.worker, dependencies)?.spawn_tasks(&ground.tasks);
        Ok(Started::default())
    }
}

/// Where the deployment is: nothing that somebody registers there is called, also when a name leads there only later.
fn own_places(plan: &Plan) -> OwnPlaces {
    OwnPlaces::default().peer(&plan.registry).origin(&plan.origin).store(plan.coordination.url(), 6379)
}

#[cfg(test)]
mod tests;
