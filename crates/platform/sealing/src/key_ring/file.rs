//! The key ring's file.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read, Write},
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use portico_ids::Rng;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::{KeyAge, KeyRingError, RingKey, loaded::Loaded};
use crate::{cipher::KEY_LEN, handle::tag_of};

const VERSION: u32 = 1;
const LONGEST_ID: usize = 64;

/// What the file holds.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RingFile {
    version: u32,
    /// 128 random bits in hexadecimal.
    pub(super) deployment_id: String,
    /// Newest first: the first one that is not staged seals, the others only open.
    keys: Vec<FileKey>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct FileKey {
    id: String,
    /// 256 random bits in base64url without padding.
    key: String,
    /// Whether the key waits until every process knows it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    staged: bool,
    /// When the next key took over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retired_at: Option<DateTime<Utc>>,
}

impl Drop for FileKey {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl FileKey {
    fn generate(rng: &dyn Rng) -> Self {
        let mut id = [0; 4];
        rng.fill(&mut id);
        let mut key = Zeroizing::new([0; KEY_LEN]);
        rng.fill(key.as_mut_slice());
        let key = URL_SAFE_NO_PAD.encode(key.as_slice());
        Self { id: format!("k-{}", hex(&id)), key, staged: false, retired_at: None }
    }

    fn decode(&self) -> Result<Zeroizing<[u8; KEY_LEN]>, String> {
        let id = &self.id;
        let length = id.len();
        let plain = id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if length == 0 || length > LONGEST_ID || !plain {
            return Err(format!("a key id has 1 to {LONGEST_ID} letters, digits, `-` or `_`"));
        }
        let bytes = URL_SAFE_NO_PAD.decode(&self.key).map(Zeroizing::new);
        let bytes = bytes.map_err(|_| format!("key `{id}` is not base64url without padding"))?;
        if bytes.len() != KEY_LEN {
            return Err(format!(
                "key `{id}` has {} bytes instead of {KEY_LEN}: generate a new one, keys are never padded or cut",
                bytes.len()
            ));
        }
        // No random key repeats one byte: this is a placeholder that somebody forgot to replace.
        if bytes.iter().all(|byte| *byte == bytes[0]) {
            return Err(format!("key `{id}` is not random: generate a new one"));
        }
        let mut key = Zeroizing::new([0; KEY_LEN]);
        key.copy_from_slice(&bytes);
        Ok(key)
    }
}

impl RingFile {
    pub(super) fn generate(rng: &dyn Rng) -> Self {
        let mut deployment_id = [0; 16];
        rng.fill(&mut deployment_id);
        Self { version: VERSION, deployment_id: hex(&deployment_id), keys: vec![FileKey::generate(rng)] }
    }

    /// Adds a key in front that does not seal yet, unless one waits already.
    pub(super) fn stage(&mut self, rng: &dyn Rng) -> String {
        if let Some(waiting) = self.keys.iter().find(|key| key.staged) {
            return waiting.id.clone();
        }
        let taken = |id: &str, keys: &[FileKey]| keys.iter().any(|key| tag_of(&key.id) == tag_of(id));
        let mut key = FileKey::generate(rng);
        while taken(&key.id, &self.keys) {
            key = FileKey::generate(rng);
        }
        key.staged = true;
        let id = key.id.clone();
        self.keys.insert(0, key);
        id
    }

    /// Lets the staged key seal; again is fine. Otherwise says what the key would have to be.
    pub(super) fn promote(&mut self, key_id: &str, now: DateTime<Utc>) -> Result<(), &'static str> {
        if self.sealing().is_some_and(|index| self.keys[index].id == key_id) {
            return Ok(());
        }
        let staged = self.keys.iter().position(|key| key.staged && key.id == key_id).ok_or("staged")?;
        if let Some(before) = self.sealing() {
            self.keys[before].retired_at = Some(now);
        }
        let mut key = self.keys.remove(staged);
        key.staged = false;
        self.keys.insert(0, key);
        Ok(())
    }

    /// Removes a retired key; one that is gone already is fine. Otherwise says what the key would have to be.
    pub(super) fn prune(&mut self, key_id: &str) -> Result<(), &'static str> {
        let Some(index) = self.keys.iter().position(|key| key.id == key_id) else { return Ok(()) };
        if self.keys[index].staged || self.sealing() == Some(index) {
            return Err("retired");
        }
        self.keys.remove(index);
        Ok(())
    }

    fn sealing(&self) -> Option<usize> {
        self.keys.iter().position(|key| !key.staged)
    }

    pub(super) fn load(&self) -> Result<Loaded, String> {
        if self.version != VERSION {
            return Err(format!("it has version {}, this program knows {VERSION}", self.version));
        }
        if self.deployment_id.len() != 32 || !self.deployment_id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err("`deployment_id` is not 32 hexadecimal digits".to_owned());
        }
        if self.keys.is_empty() {
            return Err("it holds no key".to_owned());
        }
        let sealing = self.sealing();
        let mut keys: Vec<(RingKey, Zeroizing<[u8; KEY_LEN]>)> = Vec::with_capacity(self.keys.len());
        for (index, key) in self.keys.iter().enumerate() {
            let bytes = key.decode()?;
            if keys.iter().any(|(known, _)| known.id == key.id || tag_of(&known.id) == tag_of(&key.id)) {
                return Err(format!("the key id `{}` is there twice, or too similar to another", key.id));
            }
            let age = match sealing {
                _ if key.staged => KeyAge::Staged,
                Some(sealing) if sealing == index => KeyAge::Sealing,
                _ => KeyAge::Retired { since: key.retired_at },
            };
            keys.push((RingKey { id: key.id.clone(), age }, bytes));
        }
        Loaded::new(&self.deployment_id, keys).ok_or_else(|| "every key is staged, none seals".to_owned())
    }

    /// Reads, changes and replaces the file, alone: two rotations at once must not lose each other's key.
    pub(super) fn change<T>(
        path: &Path,
        change: impl FnOnce(&mut Self) -> Result<T, KeyRingError>,
    ) -> Result<T, KeyRingError> {
        let _locked = lock(path)?;
        let mut file = Self::read(path)?;
        let before = file.ids();
        let changed = change(&mut file)?;
        file.load().map_err(|problem| KeyRingError::Invalid { path: path.to_owned(), problem })?;
        if file.ids() != before {
            file.replace(path)?;
        }
        Ok(changed)
    }

    fn ids(&self) -> Vec<(String, bool)> {
        self.keys.iter().map(|key| (key.id.clone(), key.staged)).collect()
    }

    pub(super) fn read(path: &Path) -> Result<Self, KeyRingError> {
        let mut file = File::open(path).map_err(|source| match source.kind() {
            ErrorKind::NotFound => KeyRingError::Missing(path.to_owned()),
            _ => io(path, source),
        })?;
        refuse_open_mode(path, &file)?;
        let mut text = Zeroizing::new(Vec::new());
        file.read_to_end(&mut text).map_err(|source| io(path, source))?;
        serde_json::from_slice(&text).map_err(|error| KeyRingError::Invalid {
            path: path.to_owned(),
            // Not serde's whole message: it may quote the text around the mistake.
            problem: format!(
                "line {}, column {} is not what a key ring has there",
                error.line(),
                error.column()
            ),
        })
    }

    /// Writes the file where there is none.
    pub(super) fn create(&self, path: &Path) -> Result<(), KeyRingError> {
        self.write(path, OpenOptions::new().create_new(true)).map_err(|source| match source.kind() {
            ErrorKind::AlreadyExists => KeyRingError::Exists(path.to_owned()),
            _ => io(path, source),
        })
    }

    /// Replaces the file so that a crash leaves the old or the new one, never a half.
    fn replace(&self, path: &Path) -> Result<(), KeyRingError> {
        let next = path.with_extension("next");
        self.write(&next, OpenOptions::new().create(true).truncate(true))
            .and_then(|()| std::fs::rename(&next, path))
            .and_then(|()| sync_dir(path))
            .map_err(|source| io(path, source))
    }

    fn write(&self, path: &Path, options: &mut OpenOptions) -> std::io::Result<()> {
        let text = Zeroizing::new(serde_json::to_vec_pretty(self)?);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
        let mut file = options.write(true).open(path)?;
        file.write_all(&text)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        sync_dir(path)
    }
}

/// Takes the file for this process. Whoever replaced it meanwhile left another file under its name: that one then.
#[cfg(unix)]
fn lock(path: &Path) -> Result<File, KeyRingError> {
    use std::os::unix::fs::MetadataExt;
    let place = |metadata: &std::fs::Metadata| (metadata.dev(), metadata.ino());
    loop {
        let file = File::open(path).map_err(|source| match source.kind() {
            ErrorKind::NotFound => KeyRingError::Missing(path.to_owned()),
            _ => io(path, source),
        })?;
        file.lock().map_err(|source| io(path, source))?;
        let locked = file.metadata().map_err(|source| io(path, source))?;
        let named = std::fs::metadata(path).map_err(|source| io(path, source))?;
        if place(&locked) == place(&named) {
            return Ok(file);
        }
    }
}

#[cfg(not(unix))]
fn lock(path: &Path) -> Result<File, KeyRingError> {
    let file = File::open(path).map_err(|source| io(path, source))?;
    file.lock().map_err(|source| io(path, source))?;
    Ok(file)
}

/// Makes a new name in the directory durable.
fn sync_dir(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => File::open(dir)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn refuse_open_mode(path: &Path, file: &File) -> Result<(), KeyRingError> {
    use std::os::unix::fs::MetadataExt;
    let metadata = file.metadata().map_err(|source| io(path, source))?;
    let mode = metadata.mode() & 0o777;
    // Where there is no /proc, the stricter rule holds.
    let me = std::fs::metadata("/proc/self").map_or(ROOT, |process| process.uid());
    if is_too_open(mode, metadata.uid(), me) {
        return Err(KeyRingError::TooOpen { path: path.to_owned(), mode });
    }
    Ok(())
}

#[cfg(unix)]
const ROOT: u32 = 0;

/// Whether more users than the process's own may read the file, or its group may change it. A file of root may be
/// readable by its group: Kubernetes gives secrets that way to a process that is not root, and no other.
#[cfg(unix)]
pub(super) const fn is_too_open(mode: u32, owner: u32, me: u32) -> bool {
    let open = if owner == ROOT && me != ROOT { 0o037 } else { 0o077 };
    mode & open != 0
}

#[cfg(not(unix))]
fn refuse_open_mode(_: &Path, _: &File) -> Result<(), KeyRingError> {
    Ok(())
}

fn io(path: &Path, source: std::io::Error) -> KeyRingError {
    KeyRingError::Io { path: path.to_owned(), source }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |n: u8| char::from_digit(n.into(), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
}
