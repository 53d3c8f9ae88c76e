//! The deployment's root keys.

mod file;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use portico_ids::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::cipher::KEY_LEN;
use file::RingFile;

/// Where the root keys are.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KeyRingSettings {
    /// The key ring's file (JSON, mode 0600), the same for every process of a deployment.
    pub file: Option<PathBuf>,
}

/// Root keys, newest first, and the deployment's id. A clone shares them.
#[derive(Clone)]
pub struct KeyRing {
    inner: Arc<Inner>,
}

struct Inner {
    deployment_id: String,
    keys: Vec<(String, Zeroizing<[u8; KEY_LEN]>)>,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<_> = self.inner.keys.iter().map(|(id, _)| id).collect();
        f.debug_struct("KeyRing")
            .field("deployment_id", &self.inner.deployment_id)
            .field("key_ids", &ids)
            .finish_non_exhaustive()
    }
}

/// Why there is no usable key ring.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyRingError {
    /// The settings name no file.
    #[error("no key ring is configured: set `sealing.file` to the key ring's path")]
    NotConfigured,
    /// The file does not exist.
    #[error(
        "there is no key ring at {}: restore it from your backup, or generate one if this deployment is new; \
         secrets that were sealed with a lost ring cannot be recovered", .0.display()
    )]
    Missing(PathBuf),
    /// Other users may read the file.
    #[error("the key ring {} can be read by other users (mode {mode:03o}): run `chmod 600` on it", .path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A ring would be overwritten.
    #[error("there is a key ring at {} already; it is never overwritten", .0.display())]
    Exists(PathBuf),
    /// The file is not a key ring, or its content breaks a rule.
    #[error("the key ring {} is invalid: {problem}", .path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Which rule; never a key.
        problem: String,
    },
    /// The file cannot be read or written.
    #[error("cannot access the key ring {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: std::io::Error,
    },
}

impl KeyRing {
    /// Reads the ring that the settings name; never makes one.
    pub fn from_settings(settings: &KeyRingSettings) -> Result<Self, KeyRingError> {
        Self::load(settings.file.as_deref().ok_or(KeyRingError::NotConfigured)?)
    }

    /// Reads a ring from its file.
    pub fn load(path: &Path) -> Result<Self, KeyRingError> {
        let file = RingFile::read(path)?;
        let inner =
            file.check().map_err(|problem| KeyRingError::Invalid { path: path.to_owned(), problem })?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Makes a new ring with one key and a new deployment id; refuses to overwrite one.
    pub fn generate_file(path: &Path, rng: &dyn Rng) -> Result<Self, KeyRingError> {
        RingFile::generate(rng).create(path)?;
        Self::load(path)
    }

    /// Puts a new key in front of the ring's others, which stay for what they have sealed.
    pub fn rotate_file(path: &Path, rng: &dyn Rng) -> Result<Self, KeyRingError> {
        Self::load(path)?;
        let mut file = RingFile::read(path)?;
        file.add_key(rng);
        file.replace(path)?;
        Self::load(path)
    }

    /// Returns the deployment's random id: two deployments that share a database or a Redis cannot meet.
    #[must_use]
    pub fn deployment_id(&self) -> &str {
        &self.inner.deployment_id
    }

    /// Returns ids and root keys, the one that seals first; there is at least one.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (&str, &[u8; KEY_LEN])> {
        self.inner.keys.iter().map(|(id, key)| (id.as_str(), &**key))
    }
}

#[cfg(test)]
pub(crate) fn ring_for_tests(seed: u64) -> KeyRing {
    let file = RingFile::generate(&portico_ids::SeededRng::new(seed));
    KeyRing { inner: Arc::new(file.check().expect("a generated ring is valid")) }
}

#[cfg(test)]
impl KeyRing {
    pub(crate) fn with_deployment_id(&self, deployment_id: &str) -> Self {
        let keys = self.inner.keys.clone();
        Self { inner: Arc::new(Inner { deployment_id: deployment_id.to_owned(), keys }) }
    }
}

#[cfg(test)]
mod tests;
