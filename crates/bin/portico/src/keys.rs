//! `portico keys`: the keys that seal what is at rest, and the keys that sign tokens.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use portico_ids::SystemRng;
use portico_sealing::KeyRing;
use serde_json::json;

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
    },
}

pub(crate) fn run(arguments: Arguments, output: Output) -> Result<()> {
    match arguments.verb {
        Verb::Generate { file } => generate(&file, output),
    }
}

fn generate(file: &Path, output: Output) -> Result<()> {
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
