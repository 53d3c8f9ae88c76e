//! The command line that every program has.

use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, Command, FromArgMatches as _, Parser, Subcommand};
use portico_process::with_causes;
use portico_settings::{SettingsError, Sources};
use schemars::JsonSchema;

use crate::problems::Problems;

#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// A settings file (TOML); variables named `PORTICO_SECTION__KEY` count more
    #[arg(long = "config", global = true, value_name = "FILE")]
    file: Option<PathBuf>,
    /// One setting, e.g. `telemetry.log_filter=debug`; counts more than file and variables; may be repeated
    #[arg(long = "set", global = true, value_name = "KEY=VALUE", value_parser = key_and_value)]
    overrides: Vec<(String, String)>,
    #[command(subcommand)]
    verb: Option<Noun>,
}

#[derive(Debug, Subcommand)]
enum Noun {
    /// Check and describe the settings; nothing is started
    Config(ConfigArguments),
    /// Ask the running program whether it is ready: exit 0 if it is, for health checks of containers
    Health {
        /// Ask only whether it answers, whatever it may be waiting for
        #[arg(long)]
        live: bool,
    },
}

#[derive(Debug, Args)]
struct ConfigArguments {
    #[command(subcommand)]
    verb: ConfigVerb,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum ConfigVerb {
    /// Say what is wrong with the settings, or `ok`
    Check,
    /// Print the JSON schema of the settings
    Schema,
}

/// What a program was asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Run.
    Run,
    /// Check the settings.
    Check,
    /// Print the schema of the settings.
    Schema,
    /// Ask the running program how it is.
    Health {
        /// Whether it is enough that it answers.
        live: bool,
    },
}

/// How a program was called.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// Where its settings are.
    pub sources: Sources,
    /// What it is to do.
    pub verb: Verb,
}

/// Reads the process's arguments and environment. Ends the process after `--help`, `--version` and nonsense (exit 2).
#[must_use]
pub fn invocation(name: &'static str, about: &'static str) -> Invocation {
    let matches = command(name, about).get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let mut sources = Sources::from_process(arguments.file);
    sources.overrides = arguments.overrides;
    let verb = match arguments.verb {
        None => Verb::Run,
        Some(Noun::Health { live }) => Verb::Health { live },
        Some(Noun::Config(ConfigArguments { verb: ConfigVerb::Check })) => Verb::Check,
        Some(Noun::Config(ConfigArguments { verb: ConfigVerb::Schema })) => Verb::Schema,
    };
    Invocation { sources, verb }
}

fn command(name: &'static str, about: &'static str) -> Command {
    <Arguments as clap::CommandFactory>::command().name(name).about(about)
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Prints `ok` and answers true, or prints what is wrong.
pub fn check<T>(loaded: Result<T, SettingsError>, plan: impl FnOnce(T) -> Result<(), Problems>) -> bool {
    let checked = match loaded {
        Ok(settings) => plan(settings).map_err(|problems| problems.to_string()),
        Err(error) => Err(with_causes(&error)),
    };
    say(checked.as_ref().err().map_or("ok", String::as_str));
    checked.is_ok()
}

/// Prints the JSON schema of a settings type, as it stands in `docs/settings`.
pub fn print_schema<T: JsonSchema>() {
    say(&schema_text::<T>());
}

/// Renders the JSON schema of a settings type.
#[must_use]
pub fn schema_text<T: JsonSchema>() -> String {
    // A `Value` always renders.
    serde_json::to_string_pretty(&portico_settings::schema::<T>()).unwrap_or_default()
}

/// Writes the answer; a reader who has closed the pipe (`gateway config schema | head`) has what it wanted.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Writes why a program failed where a container's end is read, also before logs are set up.
#[expect(clippy::print_stderr, reason = "why a container exits is read from standard error")]
pub fn report(error: &dyn Error) {
    eprintln!("error: {}", with_causes(error));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Arguments, clap::Error> {
        let matches = command("gateway", "about").try_get_matches_from(line.split(' '))?;
        Arguments::from_arg_matches(&matches)
    }

    #[test]
    fn arguments_are_well_formed_and_config_stands_before_and_after_the_verb() {
        command("gateway", "about").debug_assert();
        for line in ["gateway --config a.toml config check", "gateway config check --config a.toml"] {
            let arguments = parsed(line).unwrap();
            assert_eq!(arguments.file, Some(PathBuf::from("a.toml")), "{line}");
            assert!(
                matches!(arguments.verb, Some(Noun::Config(ConfigArguments { verb: ConfigVerb::Check }))),
                "{line}"
            );
        }
        let arguments = parsed("gateway --set a.b=c=d").unwrap();
        assert_eq!(arguments.overrides, [("a.b".to_owned(), "c=d".to_owned())]);
        assert!(parsed("gateway --set a.b").is_err());
        assert!(parsed("gateway start").is_err());
    }
}
