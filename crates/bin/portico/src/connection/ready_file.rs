//! The file that a running `portico dev` leaves: where it is, and a service account that may administer it.

use std::path::Path;

use anyhow::{Context as _, Result};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize, Serializer};
use url::Url;

use super::login_file::write_private;

/// What other commands need to reach a running `portico dev`. The file has mode 0600.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReadyFile {
    /// Public origin: MCP, OAuth, pages.
    pub origin: Url,
    /// Address of the gRPC API.
    pub grpc: Url,
    /// Address of health and metrics.
    pub admin: Url,
    /// Who may administer in the browser.
    pub admin_username: String,
    #[serde(serialize_with = "exposed")]
    /// The administrator's password.
    pub admin_password: SecretString,
    /// The service account of the command line.
    pub client_id: String,
    #[serde(serialize_with = "exposed")]
    /// Its secret.
    pub client_secret: SecretString,
}

impl ReadyFile {
    /// Reads the file.
    ///
    /// # Errors
    /// It is not there, or not a ready file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).with_context(|| {
            format!("the ready file {} cannot be read: is `portico dev` running?", path.display())
        })?;
        serde_json::from_slice(&text).with_context(|| format!("{} is not a ready file", path.display()))
    }

    /// Writes the file with mode 0600, in one step.
    ///
    /// # Errors
    /// The directory is not writable.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        write_private(path, &serde_json::to_vec_pretty(self)?)
    }
}

/// Writes a secret out: into the private file and nowhere else.
fn exposed<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}
