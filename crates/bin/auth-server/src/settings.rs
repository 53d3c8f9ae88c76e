//! What an operator can set.

use std::net::SocketAddr;
use std::path::PathBuf;

use portico_auth_server::AuthServerSettings;
use portico_coordination::CoordinationSettings;
use portico_db::DbSettings;
use portico_launch::{OutboundSettings, ProcessSettings};
use portico_sealing::KeyRingSettings;
use portico_telemetry::TelemetrySettings;
use portico_transport::{HttpLimits, TlsFiles};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

/// Settings of the auth-server's process.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Origin that everybody uses, exact: scheme, host and port, no path. It takes the place of
    /// `auth_server.public_origin`.
    #[schemars(with = "Option<String>")]
    pub public_origin: Option<Url>,
    /// Address of OAuth, the pages and gRPC for holders of tokens.
    pub listen: SocketAddr,
    /// Address of gRPC for the services of the deployment, mutual TLS.
    pub internal_listen: SocketAddr,
    /// Address of health and metrics, plain HTTP.
    pub admin_listen: SocketAddr,
    /// Directory of the last copy of the catalogue; one process at a time.
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
    /// Which private addresses the metadata of clients may have.
    pub outbound: OutboundSettings,
    /// Limits of `listen`.
    pub http: HttpLimits,
    /// Starting, working, draining.
    pub process: ProcessSettings,
    /// Logs, metrics and traces.
    pub telemetry: TelemetrySettings,
    /// The auth-server itself.
    pub auth_server: AuthServerSettings,
}

/// Where the services are: `host:port` of their internal listeners, several with commas between.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PeerSettings {
    /// The registry, whose catalogue is followed, e.g. `registry:9443`.
    pub registry: Option<String>,
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
            auth_server: AuthServerSettings::default(),
        }
    }
}
