//! Values that callers carry and bring back.

use std::fmt;

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portico_ids::SharedRng;

use crate::{KeyRing, cipher::OVERHEAD};

/// The first byte of every handle; another layout gets another number.
const FORMAT: u8 = 1;
/// Bytes of a key id's digest that a handle carries to find its key again.
pub(crate) const TAG_LEN: usize = 4;
const HEADER_LEN: usize = 1 + TAG_LEN;

/// Seals small values into URL-safe text that only this deployment opens. A clone shares the keys.
///
/// Each kind of handle has a key of its own, derived from the ring's key, the deployment id and the kind, so that
/// a cursor never opens as a session id. Handles carry no expiry: what needs one puts it into the payload.
/// A key may seal 2³² handles of one kind before its nonces become too likely to repeat (NIST SP 800-38D §8.3).
#[derive(Clone)]
pub struct HandleSealer {
    ring: KeyRing,
    rng: SharedRng,
}

impl fmt::Debug for HandleSealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandleSealer").field("ring", &self.ring).finish_non_exhaustive()
    }
}

impl HandleSealer {
    /// Makes a sealer over the ring's keys, which follows the ring when it changes.
    #[must_use]
    pub fn new(keys: &KeyRing, rng: SharedRng) -> Self {
        Self { ring: keys.clone(), rng }
    }

    /// Seals a payload; `kind` is a constant of the program, `aad` what has to be the same when it comes back.
    #[must_use]
    pub fn seal(&self, kind: &str, aad: &[u8], payload: &[u8]) -> String {
        let keys = self.ring.loaded().handle_keys(kind);
        // The key that seals is the first.
        let key = &keys[0];
        let mut sealed = Vec::with_capacity(HEADER_LEN + OVERHEAD + payload.len());
        sealed.push(FORMAT);
        sealed.extend_from_slice(&key.tag);
        key.cipher.seal_into(&mut sealed, aad, payload, &*self.rng);
        URL_SAFE_NO_PAD.encode(sealed)
    }

    /// Opens a handle; nothing for whatever was not sealed here with this kind and these associated data, because
    /// a foreign handle has to look like an unknown one.
    #[must_use]
    pub fn open(&self, kind: &str, aad: &[u8], handle: &str) -> Option<Vec<u8>> {
        let sealed = URL_SAFE_NO_PAD.decode(handle).ok()?;
        let [FORMAT, rest @ ..] = sealed.as_slice() else { return None };
        let (tag, sealed) = rest.split_first_chunk::<TAG_LEN>()?;
        let keys = self.ring.loaded().handle_keys(kind);
        let key = keys.iter().find(|key| key.tag == *tag)?;
        let mut payload = key.cipher.open(aad, sealed).ok()?;
        Some(std::mem::take(&mut *payload).into_vec())
    }
}

/// Shortens a key's id; the ring refuses two ids with the same tag.
pub(crate) fn tag_of(key_id: &str) -> [u8; TAG_LEN] {
    let digest = digest::digest(&digest::SHA256, key_id.as_bytes());
    let mut tag = [0; TAG_LEN];
    tag.copy_from_slice(&digest.as_ref()[..TAG_LEN]);
    tag
}

#[cfg(test)]
mod tests;
