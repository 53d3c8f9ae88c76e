//! From the first argument to the exit code.

use std::error::Error;
use std::future::Future;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use portico_clock::{SharedClock, SystemClock};
use portico_ids::{SharedRng, SystemRng};
use portico_process::{DataDirLock, Readiness, Signals, Tasks};
use portico_telemetry::{Metrics, TelemetrySettings};
use portico_transport::{BoundListener, HttpLimits};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::arguments::{self, Verb};
use crate::health;
use crate::problems::Problems;
use crate::settings::ProcessSettings;

/// Whatever ends a start. It is told to the operator with its causes and nobody decides by it.
pub type Failure = Box<dyn Error + Send + Sync>;

/// A program of this deployment.
pub trait Program: 'static {
    /// Its name, which is also the service that its certificate names.
    const NAME: &'static str;
    /// What it is, in a line.
    const ABOUT: &'static str;
    /// Everything that an operator can set.
    type Settings: DeserializeOwned + Serialize + Default + JsonSchema + Send;
    /// The settings once they are checked: files are read, addresses parsed, nothing is missing.
    type Plan: Send;

    /// Returns what is needed before the service starts.
    fn frame(settings: &Self::Settings) -> Frame;

    /// Checks everything that can be checked without starting.
    fn plan(settings: Self::Settings) -> Result<Self::Plan, Problems>;

    /// Starts the service on this ground.
    fn start(plan: Self::Plan, ground: &Ground) -> impl Future<Output = Result<Started, Failure>> + Send;
}

/// What a program is run in.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Address of health and metrics.
    pub admin_listen: SocketAddr,
    /// Threads, waiting and draining.
    pub process: ProcessSettings,
    /// Logs, metrics and traces.
    pub telemetry: TelemetrySettings,
}

/// What every service stands on.
#[derive(Debug, Clone)]
pub struct Ground {
    /// The time.
    pub clock: SharedClock,
    /// Randomness.
    pub rng: SharedRng,
    /// The metrics of the process.
    pub metrics: Metrics,
    /// What has to hold before requests are taken.
    pub readiness: Readiness,
    /// Everything that runs.
    pub tasks: Tasks,
    /// Where health and metrics are.
    pub admin: SocketAddr,
}

/// A service that has started.
#[derive(Debug, Default)]
pub struct Started {
    /// Where everybody connects, once it is ready.
    pub public: Option<SocketAddr>,
    /// Where other services connect.
    pub internal: Option<SocketAddr>,
    /// Held for as long as the process lives: one process per data directory.
    pub data_dir: Option<DataDirLock>,
}

/// Reads the process's arguments, does what they say, and answers the exit code: 0 drained, 1 failed.
#[must_use]
pub fn main<P: Program>() -> ExitCode {
    let invocation = arguments::invocation(P::NAME, P::ABOUT);
    let settings = || portico_settings::load::<P::Settings>(&invocation.sources);
    let outcome = match invocation.verb {
        Verb::Schema => {
            arguments::print_schema::<P::Settings>();
            Ok(ExitCode::SUCCESS)
        }
        Verb::Check => {
            portico_process::install_crypto_provider();
            let good = arguments::check(settings(), |settings| P::plan(settings).map(drop));
            Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Verb::Health { live } => settings().map_err(Failure::from).and_then(|settings| {
            health::ask(P::frame(&settings).admin_listen, live)?;
            Ok(ExitCode::SUCCESS)
        }),
        Verb::Run => settings().map_err(Failure::from).and_then(run::<P>),
    };
    outcome.unwrap_or_else(|error| {
        arguments::report(&*error);
        ExitCode::FAILURE
    })
}

fn run<P: Program>(settings: P::Settings) -> Result<ExitCode, Failure> {
    let frame = P::frame(&settings);
    let threads = frame.process.threads();
    let outcome = std::cell::Cell::new(Ok(ExitCode::FAILURE));
    portico_process::boot_with(threads, || async {
        outcome.set(Box::pin(serve::<P>(frame, settings)).await);
        ExitCode::SUCCESS
    })?;
    outcome.into_inner()
}

async fn serve<P: Program>(frame: Frame, settings: P::Settings) -> Result<ExitCode, Failure> {
    let plan = P::plan(settings)?;
    let telemetry = portico_telemetry::init(&frame.telemetry, P::NAME)?;
    let metrics = Metrics::new();
    telemetry.export_metrics(&metrics);
    tracing::info!(program = P::NAME, version = env!("CARGO_PKG_VERSION"), "starting");
    let outcome = Box::pin(supervise::<P>(plan, &frame, metrics, Signals::install()?)).await;
    if let Err(error) = &outcome {
        tracing::error!(error = &**error as &dyn Error, "the start failed");
    }
    telemetry.shutdown();
    outcome
}

/// Starts the program, waits for the end of it, and answers how it ended.
async fn supervise<P: Program>(
    plan: P::Plan,
    frame: &Frame,
    metrics: Metrics,
    mut signals: Signals,
) -> Result<ExitCode, Failure> {
    let tasks = Tasks::new();
    let started = tokio::select! {
        started = Box::pin(start::<P>(plan, frame.admin_listen, metrics, tasks.clone())) => Some(started),
        // Nothing was served: there is nothing to drain.
        signal = signals.next() => {
            tracing::info!(signal, "stopped before the start was complete");
            None
        }
        () = died(&tasks) => None,
    };
    let started = match started {
        Some(Ok((_, started))) => Some(started),
        Some(Err(error)) => {
            tasks.abort();
            return Err(error);
        }
        None => {
            tasks.trigger_shutdown();
            None
        }
    };
    let code = portico_process::run_with_drain(tasks, signals, frame.process.drain()).await;
    // Until here the data directory is this process's.
    drop(started);
    Ok(code)
}

/// Waits until a task has died, while nothing is served yet.
async fn died(tasks: &Tasks) {
    tasks.shutdown_token().cancelled().await;
}

/// Starts a program inside this process: first its admin listener, then its service.
pub async fn start<P: Program>(
    plan: P::Plan,
    admin_listen: SocketAddr,
    metrics: Metrics,
    tasks: Tasks,
) -> Result<(Ground, Started), Failure> {
    let admin = BoundListener::bind(admin_listen)?.named("admin").measured(&metrics);
    let ground = Ground {
        clock: Arc::new(SystemClock),
        rng: Arc::new(SystemRng),
        metrics,
        readiness: Readiness::new().draining_with(tasks.drain_token()),
        tasks,
        admin: admin.local_addr(),
    };
    let health =
        portico_process::admin_router(ground.readiness.clone(), ground.metrics.clone(), ground.clock.clone());
    // Until all checks are known, those that are known say nothing.
    let check = ground.readiness.check("start");
    check.not_ready("the program is starting");
    admin.serve(health, HttpLimits::default(), None, &ground.tasks);
    let started = Box::pin(P::start(plan, &ground)).await?;
    check.ready();
    Ok((ground, started))
}

#[cfg(test)]
mod tests;
