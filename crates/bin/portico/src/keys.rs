//! `portico keys`: the keys that seal what is at rest, and the keys that sign tokens.

mod prune;
mod sealing;
mod services;
mod signing;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{ArgGroup, Args, Subcommand};
use portico_ids::SystemRng;
use portico_sealing::KeyRing;
use serde_json::json;

use crate::connection::Connection;
use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a deployment's key ring; a file that is there is never overwritten
    Generate {
        /// Where it goes; every service of the deployment reads the same one
        file: PathBuf,
        /// Leave a key ring that is there as it is, and succeed: for jobs that run at every start
        #[arg(long)]
        if_missing: bool,
    },
    /// List the keys that sign tokens, and the ring's keys with what each of them holds
    List,
    /// Put a new key in the place of the one that signs tokens, or of the one that seals secrets
    Rotate(RotateArguments),
    /// Remove the ring's retired keys that nothing needs any more
    Prune(PruneArguments),
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true))]
struct RotateArguments {
    /// The key that signs tokens
    #[arg(long, group = "what")]
    signing: bool,
    /// The keys before it may be known to others: nothing that they signed counts any more, and the new key signs at
    /// once. Every access token in use ends; agents get new ones with their refresh tokens
    #[arg(long, requires = "signing", conflicts_with = "sealing")]
    withdraw: bool,
    /// The key of the ring that seals secrets; run it again if it was interrupted
    #[arg(long, group = "what", requires = "file")]
    sealing: bool,
    /// The key ring's file (of `portico dev`: keys.json in its data directory)
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// How long a changed file takes to reach every service, at most
    #[arg(long, value_name = "SECONDS", default_value_t = 15)]
    settle: u64,
}

#[derive(Debug, Args)]
struct PruneArguments {
    /// The key ring's file (of `portico dev`: keys.json in its data directory)
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// Keep keys that have been retired for less: agents bring back ids of tasks for 30 days
    #[arg(long, value_name = "HOURS", default_value_t = 720)]
    keep: u32,
}

pub(crate) async fn run(arguments: Arguments, ready_file: Option<&Path>, output: Output) -> Result<()> {
    match arguments.verb {
        Verb::Generate { file, if_missing } => generate(&file, if_missing, output),
        Verb::List => signing::list(&Connection::find(ready_file)?, output).await,
        Verb::Rotate(RotateArguments { sealing: true, file: Some(file), settle, .. }) => {
            let rotation = sealing::Rotation { file, settle: Duration::from_secs(settle) };
            rotation.run(&Connection::find(ready_file)?, output).await
        }
        Verb::Rotate(RotateArguments { withdraw: true, .. }) => {
            signing::withdraw(&Connection::find(ready_file)?, output).await
        }
        Verb::Rotate(_) => signing::rotate(&Connection::find(ready_file)?, output).await,
        Verb::Prune(PruneArguments { file, keep }) => {
            prune::run(&file, keep, &Connection::find(ready_file)?, output).await
        }
    }
}

fn generate(file: &Path, if_missing: bool, output: Output) -> Result<()> {
    if if_missing && file.exists() {
        // One that cannot be used is better found now than by every service.
        let ring = KeyRing::load(file)?;
        let answer = json!({ "file": file, "deployment_id": ring.deployment_id() });
        output.value(&answer, || format!("there is a key ring at {} already", file.display()));
        return Ok(());
    }
    if let Some(directory) = file.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("{} cannot be made", directory.display()))?;
    }
    let ring = KeyRing::generate_file(file, &SystemRng)?;
    let answer = json!({ "file": file, "deployment_id": ring.deployment_id() });
    output.value(&answer, || {
        format!(
            "made the key ring {} of deployment {}\nkeep a copy where the databases' backups are not: \
             without it nothing that is sealed can be opened again",
            file.display(),
            ring.deployment_id()
        )
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_runs_again_keeps_the_key_ring() {
        const QUIET: Output = Output::new(true);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys.json");
        generate(&file, true, QUIET).unwrap();
        let made = std::fs::read(&file).unwrap();
        generate(&file, true, QUIET).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), made);
        generate(&file, false, QUIET).unwrap_err();
    }
}
