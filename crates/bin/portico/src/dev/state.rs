//! What `portico dev` keeps in its data directory besides the services' own data.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use portico_ids::Rng;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize, Serializer};
use url::Url;

use crate::connection::login_file::write_private;
use crate::connection::ready_file::ReadyFile;

/// The files of a data directory.
#[derive(Debug, Clone)]
pub(super) struct DataDir {
    root: PathBuf,
}

impl DataDir {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(super) fn keys(&self) -> PathBuf {
        self.root.join("keys.json")
    }

    pub(super) fn state(&self) -> PathBuf {
        self.root.join("dev.json")
    }

    pub(super) fn ready(&self) -> PathBuf {
        self.root.join("ready.json")
    }

    pub(super) fn database(&self, service: &str) -> PathBuf {
        self.root.join(format!("{service}.db"))
    }

    /// Answers the directory of one service's files.
    pub(super) fn service(&self, service: &str) -> PathBuf {
        self.root.join(service)
    }
}

/// The identities that the first start made, so that a restart has the same ones. Mode 0600.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct DevState {
    pub(super) admin_username: String,
    #[serde(serialize_with = "exposed")]
    pub(super) admin_password: SecretString,
    /// The service account of the command line.
    pub(super) client_id: String,
    #[serde(serialize_with = "exposed")]
    pub(super) client_secret: SecretString,
    /// Where the demo server listened last; 0: nowhere yet.
    pub(super) demo_port: u16,
    /// Whether the demo server was ever registered: who deletes it does not get it back.
    pub(super) demo_registered: bool,
}

impl DevState {
    /// Reads the state of an earlier start, or makes a new one.
    ///
    /// # Errors
    /// The file is there but cannot be read or understood.
    pub(super) fn load_or_new(data_dir: &DataDir, rng: &dyn Rng) -> Result<Self> {
        let path = data_dir.state();
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).with_context(|| {
                format!(
                    "{} is damaged: put back a copy, or start anew with another --data-dir",
                    path.display()
                )
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self {
                admin_username: "admin".to_owned(),
                admin_password: portico_auth_server::generate_password(rng),
                client_id: String::new(),
                client_secret: SecretString::default(),
                demo_port: 0,
                demo_registered: false,
            }),
            Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
        }
    }

    /// Writes the state.
    ///
    /// # Errors
    /// The data directory is not writable.
    pub(super) fn save(&self, data_dir: &DataDir) -> Result<()> {
        write_private(&data_dir.state(), &serde_json::to_vec_pretty(self)?)
    }

    /// Makes the ready file of a Portico at these addresses.
    pub(super) fn ready_file(&self, origin: Url, admin: Url) -> ReadyFile {
        ReadyFile {
            grpc: origin.clone(),
            origin,
            admin,
            admin_username: self.admin_username.clone(),
            admin_password: self.admin_password.clone(),
            client_id: self.client_id.clone(),
            client_secret: self.client_secret.clone(),
        }
    }
}

/// Writes a secret out: into the private file and nowhere else.
fn exposed<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}
