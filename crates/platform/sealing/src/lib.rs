//! Envelope encryption of secrets at rest and of handles that callers carry.
//!
//! A [`KeyRing`] holds the deployment's root keys. No root key encrypts anything itself: every use has a key of
//! its own, derived by HKDF-SHA256 (RFC 5869) with the deployment id as salt.
//!
//! - [`Sealer`]: secrets in a database. Each record has a random data key, wrapped by a key of the ring, so that
//!   rotating the ring rewraps 32 bytes and not the data. The associated data name table, row, field and version:
//!   a ciphertext that is moved does not open.
//! - [`HandleSealer`]: small values that a caller brings back, such as cursors and session ids.
//!
//! The ring follows its file: a rotation reaches running processes without a restart, in two steps, so that no
//! process seals with a key that another one does not know yet.
//!
//! Everything is AES-256-GCM with random 96-bit nonces (NIST SP 800-38D §8.2.2).

mod cipher;
mod handle;
mod key_ring;
mod record;

pub use handle::HandleSealer;
pub use key_ring::{KeyAge, KeyRing, KeyRingError, KeyRingSettings, RingKey};
pub use record::{Aad, OpenError, Sealer};
