//! The saved sign-in of a person: a refresh token in a file of mode 0600.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize, Serializer};
use url::Url;

/// The public client that the command line is at every Portico.
pub(crate) const CLIENT_ID: &str = "portico-cli";

/// A person's sign-in at one Portico.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SavedLogin {
    pub(crate) origin: Url,
    pub(crate) grpc: Url,
    #[serde(serialize_with = "exposed")]
    pub(crate) refresh_token: SecretString,
}

impl SavedLogin {
    /// Reads the saved sign-in, if there is one.
    ///
    /// # Errors
    /// The file is there but cannot be read or understood.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>> {
        match std::fs::read(path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .with_context(|| format!("{} is damaged: `portico login` writes it anew", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
        }
    }

    /// Saves the sign-in.
    ///
    /// # Errors
    /// The directory is not writable.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        write_private(path, &serde_json::to_vec_pretty(self)?)
    }
}

/// Answers where the sign-in is saved: `portico/login.json` in the user's configuration directory.
///
/// # Errors
/// The user has no home directory.
pub(crate) fn default_path() -> Result<PathBuf> {
    let configured = std::env::var_os("XDG_CONFIG_HOME").filter(|value| !value.is_empty()).map(PathBuf::from);
    let directory = match configured {
        Some(directory) => directory,
        None => std::env::home_dir()
            .context("there is no home directory to save the sign-in in: set HOME")?
            .join(".config"),
    };
    Ok(directory.join("portico").join("login.json"))
}

/// Writes a file that only its owner can read: a new file beside it, then a rename.
///
/// # Errors
/// The directory cannot be made or written.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> Result<()> {
    let failed = || format!("{} cannot be written", path.display());
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory).with_context(failed)?;
    let mut name = path.file_name().with_context(failed)?.to_owned();
    name.push(format!(".{}", std::process::id()));
    let fresh = directory.join(name);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)
        .with_context(failed)?;
    file.write_all(content).and_then(|()| file.sync_all()).with_context(failed)?;
    std::fs::rename(&fresh, path).with_context(failed)
}

/// Writes a secret out: into the private file and nowhere else.
fn exposed<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}
