//! What an operator can set.

use std::net::SocketAddr;
use std::path::PathBuf;

use portico_coordination::CoordinationSettings;
use portico_db::DbSettings;
use portico_launch::{OutboundSettings, ProcessSettings};
use portico_registry::RegistrySettings;
use portico_sealing::KeyRingSettings;
use portico_telemetry::TelemetrySettings;
use portico_transport::{HttpLimits, TlsFiles};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

/// Settings of the registry's process.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Origin that everybody uses, exact: scheme, host and port, no path.
    #[schemars(with = "Option<String>")]
    pub public_origin: Option<Url>,
    /// Address of gRPC and HTTP for holders of tokens.
    pub listen: SocketAddr,
    /// Address of gRPC for the services of the deployment, mutual TLS.
    pub internal_listen: SocketAddr,
    /// Address of health and metrics, plain HTTP.
    pub admin_listen: SocketAddr,
    /// Directory of the last copy of the trust; one process at a time.
    pub data_dir: Option<PathBuf>,
    /// The deployment's root keys.
    pub keys: KeyRingSettings,
    /// The Redis that replicas share.
    pub coordination: CoordinationSettings,
    /// The database, migrated by the migrator.
    pub database: DbSettings,
    /// This program's identity for `internal_listen` and for calls to peers.
    pub tls: Option<TlsFiles>,
    /// Certificate of `listen`; without it that is plain HTTP behind a proxy that ends TLS.
    pub public_tls: Option<TlsFiles>,
    /// Where the services are that it calls.
    pub peers: PeerSettings,
    /// Which private addresses may be registered.
    pub outbound: OutboundSettings,
    /// Limits of `listen`.
    pub http: HttpLimits,
    /// Starting, working, draining.
    pub process: ProcessSettings,
    /// Logs, metrics and traces.
    pub telemetry: TelemetrySettings,
    /// The registry itself.
    pub registry: RegistrySettings,
}

/// Where the services are: `host:port` of their internal listeners, several with commas between.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PeerSettings {
    /// The auth-server, whose trust is followed, e.g. `auth-server:9443`.
    pub auth_server: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            public_origin: None,
            listen: SocketAddr::from(([0, 0, 0, 0], 8080)),
            internal_listen: SocketAddr::from(([0, 0, 0, 0], 9443)),
            admin_listen: SocketAddr::from(([0, 0, 0, 0], 9090)),
            data_dir: None,
            keys: KeyRingSettings::default(),
            coordination: CoordinationSettings::default(),
            database: DbSettings::default(),
            tls: None,
            public_tls: None,
            peers: PeerSettings::default(),
            outbound: OutboundSettings::default(),
            http: HttpLimits::default(),
            process: ProcessSettings::default(),
            telemetry: TelemetrySettings::default(),
            registry: RegistrySettings::default(),
        }
    }
}
