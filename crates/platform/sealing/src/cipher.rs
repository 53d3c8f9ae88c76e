//! AES-256-GCM with random nonces, over keys that never leave this module as bytes.

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf,
};
use portico_ids::Rng;
use zeroize::Zeroizing;

/// Length of every key.
pub(crate) const KEY_LEN: usize = 32;
/// How much longer a ciphertext is than its text: nonce and tag.
pub(crate) const OVERHEAD: usize = NONCE_LEN + TAG_LEN;
const TAG_LEN: usize = 16;

/// A key with one purpose.
pub(crate) struct Cipher(LessSafeKey);

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher(..)")
    }
}

/// The text that a ciphertext did not yield: a wrong key, other associated data, or changed bytes.
#[derive(Debug)]
pub(crate) struct Rejected;

impl Cipher {
    /// Derives the key for one purpose (RFC 5869; `salt` is the deployment id, `purpose` the info).
    #[expect(clippy::expect_used, reason = "HKDF-SHA256 fails only for more than 255 × 32 bytes of output")]
    pub(crate) fn derive(root: &[u8; KEY_LEN], salt: &str, purpose: &[&[u8]]) -> Self {
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, salt.as_bytes()).extract(root);
        let okm = prk.expand(purpose, &AES_256_GCM).expect("32 bytes of output");
        Self(LessSafeKey::new(UnboundKey::from(okm)))
    }

    #[expect(clippy::expect_used, reason = "the length is the algorithm's, by type")]
    pub(crate) fn from_bytes(key: &[u8; KEY_LEN]) -> Self {
        Self(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("a key of 32 bytes")))
    }

    /// Appends nonce, ciphertext and tag to `out`.
    #[expect(
        clippy::expect_used,
        reason = "AES-GCM fails only above 64 GiB of text, more than a slice here holds"
    )]
    pub(crate) fn seal_into(&self, out: &mut Vec<u8>, aad: &[u8], text: &[u8], rng: &dyn Rng) {
        let mut nonce = [0; NONCE_LEN];
        rng.fill(&mut nonce);
        out.reserve(OVERHEAD + text.len());
        out.extend_from_slice(&nonce);
        let start = out.len();
        out.extend_from_slice(text);
        let tag = self
            .0
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(aad),
                &mut out[start..],
            )
            .expect("a text within AES-GCM's bound");
        out.extend_from_slice(tag.as_ref());
    }

    /// Opens what [`Cipher::seal_into`] appended; the text is wiped from memory when dropped.
    pub(crate) fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Box<[u8]>>, Rejected> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(Rejected)?;
        let (ciphertext, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(Rejected)?;
        let mut text = Zeroizing::new(vec![0; ciphertext.len()].into_boxed_slice());
        self.0
            .open_separate_gather(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(aad),
                ciphertext,
                tag,
                &mut text,
            )
            .map_err(|_| Rejected)?;
        Ok(text)
    }
}
