//! What an operator can set.

use std::net::SocketAddr;
use std::path::PathBuf;

use portico_coordination::CoordinationSettings;
use portico_gateway::GatewaySettings;
use portico_launch::{OutboundSettings, ProcessSettings};
use portico_sealing::KeyRingSettings;
use portico_telemetry::TelemetrySettings;
use portico_transport::{HttpLimits, TlsFiles};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

/// Settings of the gateway's process.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Origin that agents use, exact: scheme, host and port, no path. It takes the place of `gateway.public_origin`.
    #[schemars(with = "Option<String>")]
    pub public_origin: Option<Url>,
    /// Address of MCP and of the metadata of protected resources.
    pub listen: SocketAddr,
    /// Address of health and metrics, plain HTTP.
    pub admin_listen: SocketAddr,
    /// Directory of the audit spool, the sealed credentials and the last copies of the feeds; one process at a time. It
    /// takes the place of `gateway.data_dir`.
    pub data_dir: Option<PathBuf>,
    /// The deployment's root keys.
    pub keys: KeyRingSettings,
    /// The Redis that replicas share.
    pub coordination: CoordinationSettings,
    /// This program's identity for calls to peers.
    pub tls: Option<TlsFiles>,
    /// Certificate of `listen`; without it that is plain HTTP behind a proxy that ends TLS.
    pub public_tls: Option<TlsFiles>,
    /// Where the services are that it calls.
    pub peers: PeerSettings,
    /// Which private addresses registered servers may have.
    pub outbound: OutboundSettings,
    /// Limits of `listen`.
    pub http: HttpLimits,
    /// Starting, working, draining.
    pub process: ProcessSettings,
    /// Logs, metrics and traces.
    pub telemetry: TelemetrySettings,
    /// The gateway itself.
    pub gateway: GatewaySettings,
}

/// Where the services are: `host:port` of their internal listeners, several with commas between.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PeerSettings {
    /// The registry, e.g. `registry:9443`.
    pub registry: Option<String>,
    /// The auth-server, e.g. `auth-server:9443`.
    pub auth_server: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            public_origin: None,
            listen: SocketAddr::from(([0, 0, 0, 0], 8080)),
            admin_listen: SocketAddr::from(([0, 0, 0, 0], 9090)),
            data_dir: None,
            keys: KeyRingSettings::default(),
            coordination: CoordinationSettings::default(),
            tls: None,
            public_tls: None,
            peers: PeerSettings::default(),
            outbound: OutboundSettings::default(),
            http: HttpLimits::default(),
            process: ProcessSettings::default(),
            telemetry: TelemetrySettings::default(),
            gateway: GatewaySettings::default(),
        }
    }
}
