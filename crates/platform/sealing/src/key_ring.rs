//! The deployment's root keys.

mod file;
mod loaded;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};
use portico_ids::Rng;
use portico_process::Tasks;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use file::RingFile;
pub(crate) use loaded::{Loaded, Root};

/// How often the file is looked at. A mounted secret changes without a notice that could be waited for.
const POLL: Duration = Duration::from_secs(5);

/// Where the root keys are.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KeyRingSettings {
    /// The key ring's file (JSON, mode 0600), the same for every process of a deployment.
    pub file: Option<PathBuf>,
}

/// Root keys and the deployment's id, as the file has them. A clone shares them: when the file changes and
/// [`KeyRing::reload`] reads it again, everything that seals with this ring follows.
///
/// A key has three ages. *Staged*: every process learns it, it only opens. *Sealing*: the one that seals.
/// *Retired*: it opens what it has sealed until [`KeyRing::prune_file`] removes it.
#[derive(Clone)]
pub struct KeyRing {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    deployment_id: String,
    loaded: ArcSwap<Loaded>,
}

/// A key without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingKey {
    /// What sealed values name it by.
    pub id: String,
    /// What it is used for.
    pub age: KeyAge,
}

/// What a key of the ring is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyAge {
    /// Known to every process, so that it may seal soon.
    Staged,
    /// Seals, and opens what it has sealed.
    Sealing,
    /// Only opens.
    Retired {
        /// When it sealed last; unknown for rings that were written by hand.
        since: Option<DateTime<Utc>>,
    },
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing")
            .field("deployment_id", &self.shared.deployment_id)
            .field("key_ids", &self.key_ids())
            .finish_non_exhaustive()
    }
}

/// Why there is no usable key ring.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyRingError {
    /// The settings name no file.
    #[error("no key ring is configured: set `keys.file` to the key ring's path")]
    NotConfigured,
    /// The file does not exist.
    #[error(
        "there is no key ring at {}: restore it from your backup, or make one with `portico keys generate` if this \
         deployment is new; secrets that were sealed with a lost ring cannot be recovered", .0.display()
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
    /// The file became another deployment's ring while the process runs.
    #[error(
        "the key ring {} is now that of deployment {found}; this process belongs to {expected} and keeps its keys",
        .path.display()
    )]
    OtherDeployment {
        /// The file.
        path: PathBuf,
        /// Whose ring the process has.
        expected: String,
        /// Whose ring the file is.
        found: String,
    },
    /// A key is not of the age that a step of a rotation needs.
    #[error("key `{key_id}` of the ring {} is not {needed}", .path.display())]
    WrongAge {
        /// The file.
        path: PathBuf,
        /// Which key.
        key_id: String,
        /// What it would have to be.
        needed: &'static str,
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
        let loaded = file.load().map_err(|problem| invalid(path, problem))?;
        Ok(Self::of(path, file.deployment_id, loaded))
    }

    fn of(path: &Path, deployment_id: String, loaded: Loaded) -> Self {
        let shared = Shared { path: path.to_owned(), deployment_id, loaded: ArcSwap::from_pointee(loaded) };
        Self { shared: Arc::new(shared) }
    }

    /// Makes a new ring with one key and a new deployment id; refuses to overwrite one.
    pub fn generate_file(path: &Path, rng: &dyn Rng) -> Result<Self, KeyRingError> {
        RingFile::generate(rng).create(path)?;
        Self::load(path)
    }

    /// Reads the file again and tells whether its keys changed. On an error the old keys stay in use.
    pub fn reload(&self) -> Result<bool, KeyRingError> {
        let path = &self.shared.path;
        let file = RingFile::read(path)?;
        if file.deployment_id != self.shared.deployment_id {
            return Err(KeyRingError::OtherDeployment {
                path: path.clone(),
                expected: self.shared.deployment_id.clone(),
                found: file.deployment_id.escape_default().to_string(),
            });
        }
        let loaded = file.load().map_err(|problem| invalid(path, problem))?;
        if loaded == **self.shared.loaded.load() {
            return Ok(false);
        }
        self.shared.loaded.store(Arc::new(loaded));
        Ok(true)
    }

    /// Reads the file again whenever it changes, until shutdown: a rotation needs no restart.
    pub fn watch(&self, tasks: &Tasks) {
        let (ring, shutdown) = (self.clone(), tasks.shutdown_token());
        tasks.spawn("sealing.keys.reload", async move {
            while shutdown.run_until_cancelled(tokio::time::sleep(POLL)).await.is_some() {
                let reading = ring.clone();
                match tokio::task::spawn_blocking(move || reading.reload()).await {
                    Ok(Ok(true)) => {
                        tracing::info!(sealing.key = ring.sealing_key(), sealing.keys = ?ring.key_ids(), "the key ring changed");
                    }
                    Ok(Ok(false)) => {}
                    Ok(Err(error)) => tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the key ring cannot be read again: the keys that are known stay in use"
                    ),
                    Err(error) => tracing::warn!(%error, "reading the key ring failed"),
                }
            }
            Ok::<(), std::convert::Infallible>(())
        });
    }

    /// Adds a key that only opens so far, and returns its id; one that waits already is returned again.
    pub fn stage_file(path: &Path, rng: &dyn Rng) -> Result<String, KeyRingError> {
        RingFile::change(path, |file| Ok(file.stage(rng)))
    }

    /// Lets the staged key seal from now on. Every process of the deployment has to know it by then.
    pub fn promote_file(path: &Path, key_id: &str, now: DateTime<Utc>) -> Result<(), KeyRingError> {
        RingFile::change(path, |file| file.promote(key_id, now).map_err(|needed| age(path, key_id, needed)))
    }

    /// Removes a retired key for good: nothing that it has sealed opens any more.
    pub fn prune_file(path: &Path, key_id: &str) -> Result<(), KeyRingError> {
        RingFile::change(path, |file| file.prune(key_id).map_err(|needed| age(path, key_id, needed)))
    }

    /// Returns the deployment's random id: two deployments that share a database or a Redis cannot meet.
    #[must_use]
    pub fn deployment_id(&self) -> &str {
        &self.shared.deployment_id
    }

    /// Returns the keys without their bytes, in the file's order.
    #[must_use]
    pub fn keys(&self) -> Vec<RingKey> {
        self.loaded().ages()
    }

    /// Returns the ids of every key, in the file's order.
    #[must_use]
    pub fn key_ids(&self) -> Vec<String> {
        self.keys().into_iter().map(|key| key.id).collect()
    }

    /// Returns the id of the key that seals.
    #[must_use]
    pub fn sealing_key(&self) -> String {
        self.loaded().sealing().id.clone()
    }

    /// The keys as they are now.
    pub(crate) fn loaded(&self) -> Arc<Loaded> {
        self.shared.loaded.load_full()
    }
}

fn invalid(path: &Path, problem: String) -> KeyRingError {
    KeyRingError::Invalid { path: path.to_owned(), problem }
}

fn age(path: &Path, key_id: &str, needed: &'static str) -> KeyRingError {
    KeyRingError::WrongAge { path: path.to_owned(), key_id: key_id.escape_default().to_string(), needed }
}

#[cfg(test)]
pub(crate) fn ring_for_tests(seed: u64) -> KeyRing {
    let file = RingFile::generate(&portico_ids::SeededRng::new(seed));
    let loaded = file.load().expect("a generated ring is valid");
    KeyRing::of(Path::new("ring.json"), file.deployment_id, loaded)
}

#[cfg(test)]
impl KeyRing {
    /// The same root keys in another deployment.
    pub(crate) fn with_deployment_id(&self, deployment_id: &str) -> Self {
        let loaded = self.loaded().in_deployment(deployment_id);
        Self::of(&self.shared.path, deployment_id.to_owned(), loaded)
    }

    /// Rotates at once, for tests that have no other process.
    pub(crate) fn rotate_file(path: &Path, rng: &dyn Rng) -> Result<Self, KeyRingError> {
        let staged = Self::stage_file(path, rng)?;
        Self::promote_file(path, &staged, DateTime::UNIX_EPOCH)?;
        Self::load(path)
    }
}

#[cfg(test)]
mod tests;
