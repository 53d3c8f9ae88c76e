//! The settings of `portico dev`: a section for each service, and where everything is.

use std::net::SocketAddr;
use std::path::PathBuf;

use portico_settings::{SettingsError, Sources};
use portico_telemetry::TelemetrySettings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of every service in one process.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DevSettings {
    /// Address that agents, browsers and the command line reach: MCP, OAuth, pages, gRPC.
    pub listen: SocketAddr,
    /// Address of health and metrics.
    pub admin_listen: SocketAddr,
    /// Where databases, keys and the last copies of the feeds live. One process at a time.
    pub data_dir: PathBuf,
    /// Logs, metrics and traces.
    pub telemetry: TelemetrySettings,
}

impl Default for DevSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 8081)),
            data_dir: PathBuf::from(".portico"),
            telemetry: TelemetrySettings::default(),
        }
    }
}

impl DevSettings {
    /// Loads the settings: defaults, the file, the environment, the command line.
    ///
    /// # Errors
    /// A key is unknown or a value does not fit; the message names it and where it came from.
    pub fn load(file: Option<PathBuf>, overrides: Vec<(String, String)>) -> Result<Self, SettingsError> {
        let mut sources = Sources::from_process(file);
        sources.overrides = overrides;
        portico_settings::load(&sources)
    }
}
