//! `portico config`: check and describe settings before anything starts.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::dev::DevSettings;
use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Read the settings as `portico dev` would, and say what is wrong with them
    Check {
        /// A settings file (TOML)
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Print the JSON schema of the settings
    Schema,
}

/// The schema as it is printed, and as it stands in `docs/settings.schema.json`.
fn schema_text() -> Result<String> {
    Ok(serde_json::to_string_pretty(&portico_settings::schema::<DevSettings>())?)
}

pub(crate) fn run(arguments: &Arguments, output: Output) -> Result<()> {
    match &arguments.verb {
        Verb::Check { config } => {
            let settings = DevSettings::load(config.clone(), Vec::new())?;
            output.value(&settings, || "the settings are good".to_owned());
        }
        Verb::Schema => {
            output.line(&schema_text()?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_schema_is_the_one_of_this_program() {
        let published = include_str!("../../../../docs/settings.schema.json");
        assert!(
            schema_text().unwrap() == published.trim_end(),
            "write it anew: portico config schema > docs/settings.schema.json"
        );
    }
}
