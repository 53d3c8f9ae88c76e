//! The key ring's file.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read, Write},
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portico_ids::Rng;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::{Inner, KeyRingError};
use crate::{cipher::KEY_LEN, handle::tag_of};

const VERSION: u32 = 1;
const LONGEST_ID: usize = 64;

/// What the file holds.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RingFile {
    version: u32,
    /// 128 random bits in hexadecimal.
    deployment_id: String,
    /// Newest first: the first one seals, the others only open.
    keys: Vec<FileKey>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct FileKey {
    id: String,
    /// 256 random bits in base64url without padding.
    key: String,
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
        Self { id: format!("k-{}", hex(&id)), key: URL_SAFE_NO_PAD.encode(key.as_slice()) }
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

    pub(super) fn add_key(&mut self, rng: &dyn Rng) {
        self.keys.insert(0, FileKey::generate(rng));
    }

    pub(super) fn check(&self) -> Result<Inner, String> {
        if self.version != VERSION {
            return Err(format!("it has version {}, this program knows {VERSION}", self.version));
        }
        if self.deployment_id.len() != 32 || !self.deployment_id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err("`deployment_id` is not 32 hexadecimal digits".to_owned());
        }
        if self.keys.is_empty() {
            return Err("it holds no key".to_owned());
        }
        let mut keys: Vec<(String, Zeroizing<[u8; KEY_LEN]>)> = Vec::with_capacity(self.keys.len());
        for key in &self.keys {
            let bytes = key.decode()?;
            if keys.iter().any(|(id, _)| *id == key.id || tag_of(id) == tag_of(&key.id)) {
                return Err(format!("the key id `{}` is there twice, or too similar to another", key.id));
            }
            keys.push((key.id.clone(), bytes));
        }
        Ok(Inner { deployment_id: self.deployment_id.clone(), keys })
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
    pub(super) fn replace(&self, path: &Path) -> Result<(), KeyRingError> {
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

/// Makes a new name in the directory durable.
fn sync_dir(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => File::open(dir)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn refuse_open_mode(path: &Path, file: &File) -> Result<(), KeyRingError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = file.metadata().map_err(|source| io(path, source))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyRingError::TooOpen { path: path.to_owned(), mode });
    }
    Ok(())
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
