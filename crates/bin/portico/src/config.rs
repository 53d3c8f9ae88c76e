//! `portico config`: check and describe settings before anything starts.

mod program;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::dev::DevSettings;
use crate::output::Output;
use program::Program;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Read the settings as a program would, and say what is wrong with them
    Check {
        /// The program; without, what counts is what `portico dev` would say
        program: Option<Program>,
        /// A settings file (TOML)
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Print the JSON schema of the settings
    Schema {
        /// Whose settings; without, those of `portico dev`
        program: Option<Program>,
    },
}

/// The schema as it is printed, and as it stands in `docs/settings.schema.json`.
fn schema_text() -> Result<String> {
    Ok(serde_json::to_string_pretty(&portico_settings::schema::<DevSettings>())?)
}

pub(crate) fn run(arguments: &Arguments, output: Output) -> Result<()> {
    match &arguments.verb {
        Verb::Check { program: Some(program), config } => {
            program.check(config.as_deref())?;
            output.value(&json!({ "program": program.name(), "ok": true }), || "ok".to_owned());
        }
        Verb::Check { program: None, config } => {
            let settings = DevSettings::load(config.clone(), Vec::new())?;
            output.value(&settings, || "the settings are good".to_owned());
        }
        Verb::Schema { program: Some(program) } => output.line(program.schema()),
        Verb::Schema { program: None } => output.line(&schema_text()?),
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
