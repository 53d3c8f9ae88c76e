//! Secrets in a database.

use std::{fmt, sync::Arc};

use portico_ids::SharedRng;
use secrecy::SecretSlice;
use zeroize::Zeroizing;

use crate::{
    KeyRing,
    cipher::{Cipher, KEY_LEN, OVERHEAD, Rejected},
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
    keys: Arc<Keys>,
    rng: SharedRng,
}

struct Keys {
    deployment_id: String,
    /// The ring's keys in its order, the first seals.
    wrapping: Vec<(String, Cipher)>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<_> = self.keys.wrapping.iter().map(|(id, _)| id).collect();
        f.debug_struct("Sealer").field("key_ids", &ids).finish_non_exhaustive()
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
    /// Makes a sealer over the ring's keys.
    #[must_use]
    pub fn new(ring: &KeyRing, random: SharedRng) -> Self {
        let deployment_id = ring.deployment_id().to_owned();
        let wrapping = ring
            .keys()
            .map(|(id, root)| (id.to_owned(), Cipher::derive(root, &deployment_id, &[b"portico record v1"])))
            .collect();
        Self { keys: Arc::new(Keys { deployment_id, wrapping }), rng: random }
    }

    /// Seals a value for its place.
    #[must_use]
    pub fn seal(&self, aad: &Aad<'_>, value: &[u8]) -> Vec<u8> {
        let aad = aad.bytes(&self.keys.deployment_id);
        let mut data_key = Zeroizing::new([0; KEY_LEN]);
        self.rng.fill(data_key.as_mut_slice());
        let mut sealed = self.wrap(&data_key, &aad);
        Cipher::from_bytes(&data_key).seal_into(&mut sealed, &aad, value, &*self.rng);
        sealed
    }

    /// Opens a value in its place.
    pub fn open(&self, aad: &Aad<'_>, sealed: &[u8]) -> Result<SecretSlice<u8>, OpenError> {
        let aad = aad.bytes(&self.keys.deployment_id);
        let parts = Parts::of(sealed).ok_or(OpenError::Format)?;
        let data_key = self.unwrap(&parts, &aad)?;
        let mut value = Cipher::from_bytes(&data_key).open(&aad, parts.data)?;
        Ok(SecretSlice::from(std::mem::take(&mut *value).into_vec()))
    }

    /// Wraps a record's data key with the ring's first key, after a rotation; nothing if it already is.
    pub fn rewrap(&self, aad: &Aad<'_>, sealed: &[u8]) -> Result<Option<Vec<u8>>, OpenError> {
        let aad = aad.bytes(&self.keys.deployment_id);
        let parts = Parts::of(sealed).ok_or(OpenError::Format)?;
        if self.keys.wrapping.first().is_some_and(|(first, _)| first == parts.key_id) {
            return Ok(None);
        }
        let data_key = self.unwrap(&parts, &aad)?;
        let mut rewrapped = self.wrap(&data_key, &aad);
        rewrapped.extend_from_slice(parts.data);
        Ok(Some(rewrapped))
    }

    /// Writes the header: format, key id, wrapped data key.
    fn wrap(&self, data_key: &[u8; KEY_LEN], aad: &[u8]) -> Vec<u8> {
        // A ring has at least one key.
        let (id, cipher) = &self.keys.wrapping[0];
        let mut sealed = vec![FORMAT];
        // The ring bounds ids to 64 bytes.
        sealed.push(u8::try_from(id.len()).unwrap_or(u8::MAX));
        sealed.extend_from_slice(id.as_bytes());
        cipher.seal_into(&mut sealed, aad, data_key, &*self.rng);
        sealed
    }

    fn unwrap(&self, parts: &Parts<'_>, aad: &[u8]) -> Result<Zeroizing<[u8; KEY_LEN]>, OpenError> {
        let (_, cipher) = self
            .keys
            .wrapping
            .iter()
            .find(|(id, _)| id == parts.key_id)
            .ok_or_else(|| OpenError::UnknownKey(parts.key_id.to_owned()))?;
        let bytes = cipher.open(aad, parts.wrapped)?;
        let mut data_key = Zeroizing::new([0; KEY_LEN]);
        data_key.copy_from_slice(&bytes);
        Ok(data_key)
    }
}

#[cfg(test)]
mod tests;
