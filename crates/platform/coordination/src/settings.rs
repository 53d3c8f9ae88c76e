//! What a service has to say about Redis.

use std::path::PathBuf;

use portico_settings::{Secret, SettingsError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::server::Dialer;

/// Where the Redis is that replicas share.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CoordinationSettings {
    /// `redis://user:password@host:6379/0`, or `rediss://…` for TLS (Redis 7.0 or newer); inline or
    /// `{ file = "/path" }`. A file is read again for each connection, so a changed password is seen.
    pub redis_url: Option<Secret>,
    /// PEM file of the authorities that vouch for the server of a `rediss://` URL, instead of the system's.
    pub ca: Option<PathBuf>,
}

impl CoordinationSettings {
    /// Checks everything that can be checked without connecting: the URL, and the file of the authorities.
    pub fn check(&self) -> Result<(), SetupError> {
        Dialer::new(self).map(drop)
    }
}

/// Why the settings are of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The settings name no Redis.
    #[error("no Redis is configured: set `redis_url` to redis://… or rediss://… (inline or from a file)")]
    NoUrl,
    /// The secret that holds the URL cannot be read.
    #[error("the Redis URL cannot be read")]
    Secret(#[source] SettingsError),
    /// The URL is of no Redis; it is not repeated because it may hold a password.
    #[error("the Redis URL is malformed: expected redis://user:password@host:6379/0, or rediss://… for TLS")]
    Malformed,
    /// An authority without TLS would protect nothing.
    #[error("`ca` is set, but the Redis URL does not start with rediss://: use TLS or remove `ca`")]
    CaWithoutTls,
    /// The file of the authorities cannot be read.
    #[error("the CA file {} cannot be read", path.display())]
    Ca {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: std::io::Error,
    },
    /// The file of the authorities holds no certificate.
    #[error("the CA file {} is no PEM file with certificates", .0.display())]
    CaMalformed(PathBuf),
}
