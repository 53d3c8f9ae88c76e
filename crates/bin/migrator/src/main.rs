//! The `migrator` image: runs once before the services start, exits 0 when they may.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, bail};
use migrator::{MigratorSettings, Plan, Tools};
use portico_clock::SystemClock;
use portico_ids::SystemRng;
use portico_launch::{Invocation, Verb, check, invocation, print_schema, report};
use portico_settings::load;

const ABOUT: &str = "Waits for the databases, migrates them, seeds what a new deployment needs, and exits";

fn main() -> ExitCode {
    let invocation = invocation("migrator", ABOUT);
    let outcome = match invocation.verb {
        Verb::Run => run(&invocation),
        Verb::Check => {
            let good = check(load(&invocation.sources), |settings| Plan::new(&settings).map(drop));
            Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Verb::Schema => {
            print_schema::<MigratorSettings>();
            Ok(ExitCode::SUCCESS)
        }
        Verb::Health { .. } => no_health(),
    };
    outcome.unwrap_or_else(|error| {
        report(&*error);
        ExitCode::FAILURE
    })
}

fn no_health() -> Result<ExitCode> {
    bail!("the migrator runs once and ends: how it went is its exit code")
}

fn run(invocation: &Invocation) -> Result<ExitCode> {
    let settings: MigratorSettings = load(&invocation.sources)?;
    let outcome = std::cell::Cell::new(Ok(()));
    portico_process::boot(|| async {
        outcome.set(migrate(&settings).await);
        ExitCode::SUCCESS
    })?;
    outcome.into_inner().map(|()| ExitCode::SUCCESS)
}

async fn migrate(settings: &MigratorSettings) -> Result<()> {
    let telemetry = portico_telemetry::init(&settings.telemetry, "migrator")?;
    let tools = Tools { clock: Arc::new(SystemClock), rng: Arc::new(SystemRng) };
    let outcome = migrator::run(settings, &tools).await;
    if let Err(error) = &outcome {
        tracing::error!("{error:#}");
    }
    telemetry.shutdown();
    outcome
}
