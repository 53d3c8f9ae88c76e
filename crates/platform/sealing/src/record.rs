//! Secrets in a database.

use std::fmt;

use portico_ids::SharedRng;
use secrecy::SecretSlice;
use zeroize::Zeroizing;

use crate::{
    KeyRing,
    cipher::{Cipher, KEY_LEN, OVERHEAD, Rejected},
    key_ring::{Loaded, Root},
};

/// The first byte of every sealed record; another layout gets another number.
const FORMAT: u8 = 1;
const WRAPPED_LEN: usize = KEY_LEN + OVERHEAD;

/// Where a sealed value lives: it opens nowhere else.
#[derive(Clone, Copy, Debug)]
pub struct Aad<'a> {
    /// The table, with its service: `registry.secret`.
    pub table: &'a str,
    /// The row's key.
    pub row: &'a str,
    /// The column.
    pub field: &'a str,
    /// The version of the value, so that an older one cannot be put back unnoticed.
    pub version: i64,
}

impl Aad<'_> {
    /// Writes every part with its length, so that no two places have the same text.
    fn bytes(&self, deployment_id: &str) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(b"portico record v1");
        for part in [deployment_id, self.table, self.row, self.field] {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes.extend_from_slice(&self.version.to_be_bytes());
        bytes
    }
}

/// Why a sealed record does not open.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// These bytes were never sealed by a release that this program knows.
    #[error("the value is not a sealed record of a format that this program knows")]
    Format,
    /// The key that wraps the record is not in the ring.
    #[error(
        "the record is sealed with key `{0}`, which the key ring does not hold: put that key back into the ring"
    )]
    UnknownKey(String),
    /// The record was changed, or belongs to another place or another deployment.
    #[error("the record does not open here: it was changed, or moved from another row, field or deployment")]
    Rejected,
}

impl From<Rejected> for OpenError {
    fn from(_: Rejected) -> Self {
        Self::Rejected
    }
}

/// Seals and opens secrets at rest. A clone shares the keys.
#[derive(Clone)]
pub struct Sealer {
    ring: KeyRing,
    rng: SharedRng,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("key_ids", &self.ring.key_ids()).finish_non_exhaustive()
    }
}

/// A sealed record taken apart.
struct Parts<'a> {
    key_id: &'a str,
    wrapped: &'a [u8; WRAPPED_LEN],
    data: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(sealed: &'a [u8]) -> Option<Self> {
        let [FORMAT, id_len, rest @ ..] = sealed else { return None };
        let (key_id, rest) = rest.split_at_checked(usize::from(*id_len))?;
        let (wrapped, data) = rest.split_first_chunk()?;
        Some(Self { key_id: std::str::from_utf8(key_id).ok()?, wrapped, data })
    }
}

impl Sealer {
    /// Makes a sealer over the ring's keys, which follows the ring when it changes.
    #[must_use]
    pub fn new(ring: &KeyRing, random: SharedRng) -> Self {
        Self { ring: ring.clone(), rng: random }
    }

    /// Returns the ring that it seals with.
    #[must_use]
    pub fn ring(&self) -> &KeyRing {
        &self.ring
    }

    /// Returns what every record begins with that this key has sealed: what a database finds them by.
    #[must_use]
    pub fn prefix(key_id: &str) -> Vec<u8> {
        let mut prefix = vec![FORMAT];
        // The ring bounds ids to 64 bytes.
        prefix.push(u8::try_from(key_id.len()).unwrap_or(u8::MAX));
        prefix.extend_from_slice(key_id.as_bytes());
        prefix
    }

    /// Returns the id of the key that a record says it was sealed with; nothing if it is no record.
    #[must_use]
    pub fn key_of(sealed: &[u8]) -> Option<&str> {
        let [FORMAT, id_len, rest @ ..] = sealed else { return None };
        std::str::from_utf8(rest.get(..usize::from(*id_len))?).ok()
    }

    /// Seals a value for its place.
    #[must_use]
    pub fn seal(&self, aad: &Aad<'_>, value: &[u8]) -> Vec<u8> {
        let keys = self.ring.loaded();
        self.seal_with(keys.sealing(), &aad.bytes(keys.deployment_id()), value)
    }

    /// Seals a value once with every key of the ring, by key id: who can open all of them has the whole ring.
    #[must_use]
    pub fn seal_with_each(&self, aad: &Aad<'_>, value: &[u8]) -> Vec<(String, Vec<u8>)> {
        let keys = self.ring.loaded();
        let aad = aad.bytes(keys.deployment_id());
        keys.roots().iter().map(|root| (root.id.clone(), self.seal_with(root, &aad, value))).collect()
    }

    fn seal_with(&self, root: &Root, aad: &[u8], value: &[u8]) -> Vec<u8> {
        let mut data_key = Zeroizing::new([0; KEY_LEN]);
        self.rng.fill(data_key.as_mut_slice());
        let mut sealed = self.wrap(root, &data_key, aad);
        Cipher::from_bytes(&data_key).seal_into(&mut sealed, aad, value, &*self.rng);
        sealed
    }

    /// Opens a value in its place.
    pub fn open(&self, aad: &Aad<'_>, sealed: &[u8]) -> Result<SecretSlice<u8>, OpenError> {
        let keys = self.ring.loaded();
        let aad = aad.bytes(keys.deployment_id());
        let parts = Parts::of(sealed).ok_or(OpenError::Format)?;
        let data_key = unwrap(&keys, &parts, &aad)?;
        let mut value = Cipher::from_bytes(&data_key).open(&aad, parts.data)?;
        Ok(SecretSlice::from(std::mem::take(&mut *value).into_vec()))
    }

    /// Wraps a record's data key with the key that seals now, after a rotation; nothing if it already is.
    pub fn rewrap(&self, aad: &Aad<'_>, sealed: &[u8]) -> Result<Option<Vec<u8>>, OpenError> {
        let keys = self.ring.loaded();
        let aad = aad.bytes(keys.deployment_id());
        let parts = Parts::of(sealed).ok_or(OpenError::Format)?;
        if keys.sealing().id == parts.key_id {
            return Ok(None);
        }
        let data_key = unwrap(&keys, &parts, &aad)?;
        let mut rewrapped = self.wrap(keys.sealing(), &data_key, &aad);
        rewrapped.extend_from_slice(parts.data);
        Ok(Some(rewrapped))
    }

    /// Writes the header: format, key id, wrapped data key.
    fn wrap(&self, root: &Root, data_key: &[u8; KEY_LEN], aad: &[u8]) -> Vec<u8> {
        let mut sealed = Self::prefix(&root.id);
        root.records.seal_into(&mut sealed, aad, data_key, &*self.rng);
        sealed
    }
}

fn unwrap(keys: &Loaded, parts: &Parts<'_>, aad: &[u8]) -> Result<Zeroizing<[u8; KEY_LEN]>, OpenError> {
    let root = keys.roots().iter().find(|root| root.id == parts.key_id);
    let root = root.ok_or_else(|| OpenError::UnknownKey(parts.key_id.to_owned()))?;
    let bytes = root.records.open(aad, parts.wrapped)?;
    let mut data_key = Zeroizing::new([0; KEY_LEN]);
    data_key.copy_from_slice(&bytes);
    Ok(data_key)
}

#[cfg(test)]
mod tests;
