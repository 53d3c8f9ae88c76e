//! The settings of the migrator.

use std::time::Duration;

use portico_db::{DbSettings, Wait};
use portico_settings::Secret;
use portico_telemetry::TelemetrySettings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is migrated and seeded.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MigratorSettings {
    /// The auth-server's database.
    pub auth_server: DbSettings,
    /// The registry's database; with Postgres it may be the same one, each service has a schema of its own.
    pub registry: DbSettings,
    /// The first administrator.
    pub administrator: AdministratorSettings,
    /// A service account to begin with, for the command line and the jobs of whoever runs the deployment.
    pub service_account: ServiceAccountSettings,
    /// How long to wait for a database that is still starting.
    pub wait: WaitSettings,
    /// Logs, metrics and traces.
    pub telemetry: TelemetrySettings,
}

/// Who administers a new deployment.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdministratorSettings {
    /// What the administrator signs in as.
    pub username: String,
    /// The password, inline or from a file; it counts only while there is no administrator.
    pub password: Option<Secret>,
}

impl Default for AdministratorSettings {
    fn default() -> Self {
        Self { username: "admin".to_owned(), password: None }
    }
}

/// A service account with an id and a secret that are known beforehand. Without an id and a secret there is none.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceAccountSettings {
    /// What it is called.
    pub name: String,
    /// The role that it gets everywhere.
    pub role: String,
    /// The client id that it signs in with, a UUID.
    pub client_id: Option<String>,
    /// The secret, inline or from a file; 22 to 512 visible ASCII characters, made at random.
    pub client_secret: Option<Secret>,
}

impl Default for ServiceAccountSettings {
    fn default() -> Self {
        Self {
            name: "operator".to_owned(),
            role: "administrator".to_owned(),
            client_id: None,
            client_secret: None,
        }
    }
}

/// How long to wait for a database.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WaitSettings {
    /// Seconds until waiting ends in failure.
    pub limit_seconds: u64,
}

impl Default for WaitSettings {
    fn default() -> Self {
        Self { limit_seconds: Wait::default().limit.as_secs() }
    }
}

impl WaitSettings {
    pub(crate) fn to_wait(&self) -> Wait {
        Wait { limit: Duration::from_secs(self.limit_seconds), ..Wait::default() }
    }
}
