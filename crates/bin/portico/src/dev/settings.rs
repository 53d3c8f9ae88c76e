//! The settings of `portico dev`: a section for each service, and where everything is.

use std::net::SocketAddr;
use std::path::PathBuf;

use portico_auth_server::AuthServerSettings;
use portico_gateway::GatewaySettings;
use portico_registry::RegistrySettings;
use portico_settings::{SettingsError, Sources};
use portico_telemetry::TelemetrySettings;
use portico_worker::WorkerSettings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::state::DataDir;

/// Settings of every service in one process.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DevSettings {
    /// Address that agents, browsers and the command line reach: MCP, OAuth, pages, gRPC.
    pub listen: SocketAddr,
    /// Address of health and metrics.
    pub admin_listen: SocketAddr,
    /// Origin that everybody uses, exact; without it, the address that is listened on. It takes the place of the
    /// origin in the sections below.
    #[schemars(with = "Option<String>")]
    pub public_origin: Option<Url>,
    /// Where databases, keys and the last copies of the feeds live. One process at a time.
    pub data_dir: PathBuf,
    /// Whether a demo MCP server is registered on the first start.
    pub demo: bool,
    /// Logs, metrics and traces.
    pub telemetry: TelemetrySettings,
    /// The authorization server.
    pub auth_server: AuthServerSettings,
    /// The registry.
    pub registry: RegistrySettings,
    /// The gateway.
    pub gateway: GatewaySettings,
    /// The worker.
    pub worker: WorkerSettings,
}

impl Default for DevSettings {
    fn default() -> Self {
        let quiet = TelemetrySettings { log_filter: "warn".to_owned(), ..TelemetrySettings::default() };
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 8081)),
            public_origin: None,
            data_dir: PathBuf::from(".portico"),
            demo: true,
            telemetry: quiet,
            auth_server: AuthServerSettings::default(),
            registry: RegistrySettings::default(),
            gateway: GatewaySettings::default(),
            worker: WorkerSettings::default(),
        }
    }
}

impl DevSettings {
    /// Answers where the ready file goes if other commands would not look there by themselves.
    pub(super) fn unusual_ready_file(&self) -> Option<PathBuf> {
        (self.data_dir != Self::default().data_dir).then(|| DataDir::new(&self.data_dir).ready())
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s3_43_every_default_survives_the_loader() {
        let sources = Sources { file: None, env: std::collections::BTreeMap::new(), overrides: Vec::new() };
        let settings: DevSettings = portico_settings::load(&sources).unwrap();
        assert_eq!(settings.listen.port(), 8080);
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_place_and_the_nearest_key() {
        let overrides = vec![("gatway.limits".to_owned(), "1".to_owned())];
        let sources = Sources { file: None, env: std::collections::BTreeMap::new(), overrides };
        let error = portico_settings::load::<DevSettings>(&sources).unwrap_err().to_string();
        assert!(error.contains("gatway") && error.contains("gateway"), "{error}");
    }
}
