//! Consumes events, discovers capabilities, probes health.
//!
//! The worker watches every instance with a task of its own. An event, a resync or a timer wakes it; it looks at
//! the newest spec it knows, asks the server what it speaks and offers and whether it is well, and tells the
//! registry what changed. It serves nothing and owns nothing durable: whatever it missed, the next resync repairs.
#![expect(missing_docs, reason = "a service: its items are explained where they are not plain")]

mod events;
mod health;
mod instances;
mod mcp;
mod metrics;
mod registry;
mod representatives;
mod resync;
mod settings;
mod spec;
mod supervisor;
mod watcher;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use portico_clock::SharedClock;
use portico_coordination::EventStream;
use portico_ids::SharedRng;
use portico_outbound::OutboundClient;
use portico_process::{Readiness, ReadinessCheck, Tasks};
use portico_telemetry::Metrics;
use portico_transport::Link;
use tokio::sync::{Semaphore, mpsc};

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
    /// Where the registry's events arrive.
    pub events: EventStream,
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
    events: EventStream,
    check: ReadinessCheck,
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
            client: deps.outbound,
            registry: RegistryClient::new(deps.registry, metrics.clone()),
            closer,
            probes: Semaphore::new(settings.concurrent_probes),
            discoveries: Semaphore::new(settings.concurrent_discoveries),
            representatives: Representatives::default(),
            metrics,
            settings,
        };
        let check = deps.readiness.check("worker.registry");
        Ok(Self { parts: Mutex::new(Some(Parts { context, events: deps.events, check, farewells })) })
    }

    /// Starts consuming, resyncing and probing; a second call starts nothing.
    pub fn spawn_tasks(&self, tasks: &Tasks) {
        let taken = self.parts.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Parts { context, events, check, farewells }) = taken else { return };
        let context = Arc::new(context);
        // One: a resync is applied before the next one begins.
        let (resynced, resyncs) = mpsc::channel(1);
        let shutdown = tasks.shutdown_token();
        tasks.spawn("worker.resync", resync::run(Arc::clone(&context), check, resynced, shutdown.clone()));
        tasks.spawn("worker.instances", Supervisor::new(context).run(events, resyncs, shutdown));
        tasks.spawn("worker.sessions", close_sessions(farewells));
    }
}
