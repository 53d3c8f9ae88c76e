//! Passwords: argon2id on few threads, in the same time for people who exist and people who do not (AS-43).

use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use portico_ids::{Rng, SharedRng};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Semaphore;

/// Shortest password (NIST SP 800-63B §3.1.1.2 recommends length over composition).
pub(crate) const MIN_CHARS: usize = 12;
/// Longest password: nobody types more, and hashing takes what it is given.
pub(crate) const MAX_BYTES: usize = 1024;
/// How long a sign-in waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);
/// Letters and digits that cannot be confused with each other.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Why a password was not hashed or verified.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PasswordError {
    /// It breaks a rule.
    #[error("a password has at least {MIN_CHARS} characters and at most {MAX_BYTES} bytes")]
    Length,
    /// Too many others are signing in.
    #[error("too many sign-ins at once: try again in a moment")]
    Busy,
    /// The hash function failed.
    #[error("the password could not be processed")]
    Internal,
}

/// Hashes and verifies, a few at a time: each takes 19 MiB for some 20 ms.
#[derive(Debug, Clone)]
pub(crate) struct Passwords {
    turns: Arc<Semaphore>,
    rng: SharedRng,
    /// The hash of a password that nobody has.
    nobody: Arc<str>,
}

impl Passwords {
    /// `at_once` bounds memory and CPU.
    pub(crate) fn new(rng: SharedRng, at_once: usize) -> Result<Self, PasswordError> {
        let nobody = hash(&*rng, "nobody has this password")?.into();
        Ok(Self { turns: Arc::new(Semaphore::new(at_once.max(1))), rng, nobody })
    }

    /// Hashes a new password.
    pub(crate) async fn hash(&self, password: &SecretString) -> Result<String, PasswordError> {
        check(password)?;
        let (password, rng) = (password.clone(), Arc::clone(&self.rng));
        self.in_turn(move || hash(&*rng, password.expose_secret())).await?
    }

    /// Tells whether a password is right; without a hash (nobody has that name) it takes as long and says no.
    pub(crate) async fn verify(
        &self,
        stored: Option<String>,
        password: &SecretString,
    ) -> Result<bool, PasswordError> {
        if password.expose_secret().len() > MAX_BYTES {
            return Ok(false);
        }
        let exists = stored.is_some();
        let stored = stored.unwrap_or_else(|| self.nobody.to_string());
        let password = password.clone();
        let matches = self
            .in_turn(move || {
                PasswordHash::new(&stored).is_ok_and(|stored| {
                    Argon2::default().verify_password(password.expose_secret().as_bytes(), &stored).is_ok()
                })
            })
            .await?;
        Ok(matches && exists)
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let turn = tokio::time::timeout(PATIENCE, Arc::clone(&self.turns).acquire_owned())
            .await
            .map_err(|_| PasswordError::Busy)?
            .map_err(|_| PasswordError::Internal)?;
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        done.await.map_err(|_| PasswordError::Internal)
    }
}

/// Makes a password for somebody: five groups of five, 125 bits.
#[must_use]
pub fn generate(rng: &dyn Rng) -> SecretString {
    let mut bytes = [0_u8; 25];
    rng.fill(&mut bytes);
    let mut text = String::with_capacity(29);
    for (position, byte) in bytes.iter().enumerate() {
        if position > 0 && position % 5 == 0 {
            text.push('-');
        }
        text.push(char::from(ALPHABET[usize::from(byte & 31)]));
    }
    SecretString::from(text)
}

/// Hashes on this thread: for seeding, where nobody waits.
pub(crate) fn hash_now(rng: &dyn Rng, password: &SecretString) -> Result<String, PasswordError> {
    check(password)?;
    hash(rng, password.expose_secret())
}

fn check(password: &SecretString) -> Result<(), PasswordError> {
    let text = password.expose_secret();
    if text.chars().count() < MIN_CHARS || text.len() > MAX_BYTES {
        return Err(PasswordError::Length);
    }
    Ok(())
}

/// OWASP's minimum for argon2id: 19 MiB, two passes, one lane.
fn hash(rng: &dyn Rng, password: &str) -> Result<String, PasswordError> {
    let params = Params::new(19 * 1024, 2, 1, None).map_err(|_| PasswordError::Internal)?;
    let mut salt = [0_u8; 16];
    rng.fill(&mut salt);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_with_salt(password.as_bytes(), &salt)
        .map(|hash| hash.to_string())
        .map_err(|_| PasswordError::Internal)
}

#[cfg(test)]
mod tests {
    use portico_ids::SeededRng;

    use super::*;

    fn passwords() -> Passwords {
        Passwords::new(Arc::new(SeededRng::new(1)), 2).unwrap()
    }

    #[tokio::test]
    async fn as_23_a_password_is_kept_as_argon2id_and_verified() {
        let passwords = passwords();
        let secret = SecretString::from("correct horse battery");
        let hash = passwords.hash(&secret).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(passwords.verify(Some(hash.clone()), &secret).await.unwrap());
        assert!(!passwords.verify(Some(hash), &SecretString::from("wrong")).await.unwrap());
    }

    #[tokio::test]
    async fn nobody_signs_in_with_the_password_of_the_dummy() {
        let passwords = passwords();
        assert!(!passwords.verify(None, &SecretString::from("nobody has this password")).await.unwrap());
    }

    #[tokio::test]
    async fn short_and_endless_passwords_are_refused() {
        let refused = |text: String| async move {
            matches!(passwords().hash(&SecretString::from(text)).await, Err(PasswordError::Length))
        };
        assert!(refused("short".into()).await && refused("x".repeat(MAX_BYTES + 1)).await);
    }

    #[test]
    fn generated_passwords_are_long_and_legible() {
        let rng = SeededRng::new(7);
        let one = generate(&rng);
        assert_eq!(one.expose_secret().len(), 29);
        assert_ne!(one.expose_secret(), generate(&rng).expose_secret());
        assert!(check(&one).is_ok());
    }
}
