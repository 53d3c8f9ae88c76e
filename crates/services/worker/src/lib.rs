//! Consumes events, discovers capabilities, probes health.
//!
//! Several workers divide the instances among themselves by leases; each watches its part of them with a task per
//! instance. An event, a resync or a timer wakes it; it looks at
//! the newest spec it knows, asks the server what it speaks and offers and whether it is well, and tells the
//! registry what changed. It serves nothing and owns nothing durable: whatever it missed, the next resync repairs.
#![expect(missing_docs, reason = "a service: its items are explained where they are not plain")]

mod division;
mod events;
mod forwarding;
mod health;
mod instances;
mod mcp;
mod metrics;
mod registry;
mod representatives;
mod resync;
mod settings;
mod shares;
mod spec;
mod supervisor;
mod watcher;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use portico_clock::SharedClock;
use portico_coordination::Coordination;
use portico_ids::{EventId, SharedRng};
use portico_outbound::OutboundClient;
use portico_process::{Readiness, ReadinessCheck, Tasks};
use portico_sealing::HandleSealer;
use portico_telemetry::Metrics;
use portico_transport::Link;
use tokio::sync::{Semaphore, mpsc};

use crate::division::{Division, Holders};
use crate::forwarding::PostOffice;
use crate::mcp::session::{Closer, Farewell, close_sessions};
use crate::metrics::WorkerMetrics;
use crate::registry::RegistryClient;
use crate::representatives::Representatives;
use crate::supervisor::Supervisor;
use crate::watcher::Context;

pub use settings::{InvalidSetting, WorkerSettings};

/// What the worker needs from the process that it runs in.
#[derive(Debug)]
pub struct Dependencies {
    pub clock: SharedClock,
    pub rng: SharedRng,
    /// Where the registry's events arrive, and how several workers share the instances.
    pub coordination: Coordination,
    /// Opens the registry's events: only it seals them.
    pub handles: HandleSealer,
    /// Leads to the registry, as the service `worker`.
    pub registry: Link,
    /// Calls the servers, within the deployment's address policy.
    pub outbound: OutboundClient,
    pub metrics: Metrics,
    pub readiness: Readiness,
}

/// Why a worker cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    #[error(transparent)]
    Setting(#[from] InvalidSetting),
}

/// The worker, built but idle.
#[derive(Debug)]
pub struct Worker {
    /// Taken by the first [`Worker::spawn_tasks`].
    parts: Mutex<Option<Parts>>,
}

#[derive(Debug)]
struct Parts {
    context: Context,
    coordination: Coordination,
    registry_check: ReadinessCheck,
    shares_check: ReadinessCheck,
    farewells: mpsc::Receiver<Farewell>,
}

impl Worker {
    /// Does everything that can fail; nothing is consumed or probed yet.
    pub fn build(settings: WorkerSettings, deps: Dependencies) -> Result<Self, BuildError> {
        settings.check()?;
        let metrics = WorkerMetrics::registered(&deps.metrics);
        let (closer, farewells) = Closer::new(metrics.clone());
        let context = Context {
            clock: deps.clock,
            rng: deps.rng,
            handles: deps.handles,
            client: deps.outbound,
            registry: RegistryClient::new(deps.registry, metrics.clone()),
            closer,
            probes: Semaphore::new(settings.concurrent_probes),
            discoveries: Semaphore::new(settings.concurrent_discoveries),
            representatives: Representatives::default(),
            metrics,
            settings,
        };
        let shares_check = deps.readiness.check("worker.shares");
        shares_check
            .not_ready("the work has not been divided yet: see that the coordination backend can be reached");
        let parts = Parts {
            context,
            coordination: deps.coordination,
            registry_check: deps.readiness.check("worker.registry"),
            shares_check,
            farewells,
        };
        Ok(Self { parts: Mutex::new(Some(parts)) })
    }

    /// Starts sharing the work with other workers, consuming, resyncing and probing; a second call starts nothing.
    pub fn spawn_tasks(&self, tasks: &Tasks) {
        let taken = self.parts.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Parts { context, coordination, registry_check, shares_check, farewells }) = taken else {
            return;
        };
        let own = EventId::generate(&*context.clock, &*context.rng).to_string();
        let division = Division::new(&own, &coordination, context.metrics.clone());
        let (office, post) = PostOffice::new(&own, coordination.mailbox(), Holders::new(&coordination));
        let held = division.held();
        let context = Arc::new(context);
        // One: a resync is applied before the next one begins.
        let (resynced, resyncs) = mpsc::channel(1);
        let shutdown = tasks.shutdown_token();
        let resync =
            resync::run(Arc::clone(&context), registry_check, held.clone(), resynced, shutdown.clone());
        tasks.spawn("worker.resync", resync);
        tasks.spawn("worker.shares", division.run(shares_check, shutdown.clone()));
        tasks.spawn("worker.post", office.run(Arc::clone(&context), shutdown.clone()));
        let supervisor = Supervisor::new(context, own, held, post);
        tasks.spawn("worker.instances", supervisor.run(coordination.events(), resyncs, shutdown));
        tasks.spawn("worker.sessions", close_sessions(farewells));
    }
}
