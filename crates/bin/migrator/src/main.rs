//! The `migrator` image: runs once before the services start, exits 0 when they may.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use migrator::{MigratorSettings, Tools};
use portico_clock::SystemClock;
use portico_ids::SystemRng;
use portico_settings::Sources;

/// Waits for the databases, migrates them, seeds what a new deployment needs, and exits.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// A settings file (TOML); variables named `PORTICO_SECTION__KEY` count more
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    Ok(portico_process::boot(|| async {
        match migrate(arguments).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!("{error:#}");
                report(&error);
                ExitCode::FAILURE
            }
        }
    })?)
}

async fn migrate(arguments: Arguments) -> anyhow::Result<()> {
    let settings: MigratorSettings = portico_settings::load(&Sources::from_process(arguments.config))?;
    let telemetry = portico_telemetry::init(&settings.telemetry, "migrator")?;
    let tools = Tools { clock: Arc::new(SystemClock), rng: Arc::new(SystemRng) };
    let outcome = migrator::run(&settings, &tools).await;
    telemetry.shutdown();
    outcome
}

#[expect(
    clippy::print_stderr,
    reason = "why a container exits is read from standard error, also before logs are set up"
)]
fn report(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}
