//! What an operator can set.

use std::net::SocketAddr;
use std::path::PathBuf;

use portico_coordination::CoordinationSettings;
use portico_launch::{OutboundSettings, ProcessSettings};
use portico_sealing::KeyRingSettings;
use portico_telemetry::TelemetrySettings;
use portico_transport::TlsFiles;
use portico_worker::WorkerSettings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

/// Settings of the worker's process.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Origin that agents use, exact: scheme, host and port, no path. What is registered there is never called.
    #[schemars(with = "Option<String>")]
    pub public_origin: Option<Url>,
    /// Address of health and metrics, plain HTTP.
    pub admin_listen: SocketAddr,
    /// Directory of this process, as every program has one; the worker keeps nothing in it yet.
    pub data_dir: Option<PathBuf>,
    /// The deployment's root keys, for the name under which it is known in Redis.
    pub keys: KeyRingSettings,
    /// The Redis that replicas share.
    pub coordination: CoordinationSettings,
    /// This program's identity for calls to peers.
    pub tls: Option<TlsFiles>,
    /// Where the services are that it calls.
    pub peers: PeerSettings,
    /// Which private addresses registered servers may have.
    pub outbound: OutboundSettings,
    /// Starting, working, draining.
    pub process: ProcessSettings,
    /// Logs, metrics and traces.
    pub telemetry: TelemetrySettings,
    /// The worker itself.
    pub worker: WorkerSettings,
}

/// Where the services are: `host:port` of their internal listeners, several with commas between.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PeerSettings {
    /// The registry, e.g. `registry:9443`.
    pub registry: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            public_origin: None,
            admin_listen: SocketAddr::from(([0, 0, 0, 0], 9090)),
            data_dir: None,
            keys: KeyRingSettings::default(),
            coordination: CoordinationSettings::default(),
            tls: None,
            peers: PeerSettings::default(),
            outbound: OutboundSettings::default(),
            process: ProcessSettings::default(),
            telemetry: TelemetrySettings::default(),
            worker: WorkerSettings::default(),
        }
    }
}
