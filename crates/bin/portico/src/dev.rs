//! `portico dev`: every service in one process, on SQLite and in-process coordination.

mod settings;

use std::path::PathBuf;
use std::process::ExitCode;

pub use self::settings::DevSettings;
use crate::output::Output;

/// What `portico dev` takes on the command line.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Address to listen on (default 127.0.0.1:8080)
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
}

pub(crate) async fn run(_arguments: Arguments, _ready_file: Option<PathBuf>, _output: Output) -> ExitCode {
    ExitCode::SUCCESS
}
