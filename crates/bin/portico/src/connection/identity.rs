//! As whom the command line acts, and how it gets access tokens.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::{Instant, sleep};
use url::Url;

use super::http::{Http, Tokens};
use super::login_file::{CLIENT_ID, SavedLogin};

/// How long another command may take to renew the sign-in that both use.
const LONGEST_RENEWAL: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// As whom the command line acts.
#[derive(Debug, Clone)]
pub(crate) enum Identity {
    /// A service account, with its own secret.
    ServiceAccount { client_id: String, client_secret: SecretString },
    /// A person, with the sign-in that is saved in the file.
    Person { file: PathBuf },
}

/// Gets access tokens for an identity at one Portico.
#[derive(Debug, Clone)]
pub(crate) struct TokenSource {
    pub(super) http: Http,
    /// The token endpoint.
    pub(super) url: Url,
    pub(super) identity: Identity,
}

impl TokenSource {
    /// Gets an access token for `resource` (RFC 8707).
    ///
    /// # Errors
    /// Portico cannot be reached, or refuses the identity, the resource or the scope.
    pub(super) async fn get(&self, resource: &str, scope: &str) -> Result<Tokens> {
        match &self.identity {
            Identity::ServiceAccount { client_id, client_secret } => {
                let form = [
                    ("grant_type", "client_credentials"),
                    ("client_id", client_id),
                    ("client_secret", client_secret.expose_secret()),
                    ("resource", resource),
                    ("scope", scope),
                ];
                self.http.token(&self.url, &form).await
            }
            Identity::Person { file } => self.renew(file, resource, scope).await,
        }
    }

    /// Trades the saved refresh token for an access token, and saves the one that replaces it (RFC 6749 §6).
    ///
    /// One command at a time: a refresh token that was used by another one meanwhile would look stolen, and end the
    /// sign-in of all of them.
    async fn renew(&self, file: &Path, resource: &str, scope: &str) -> Result<Tokens> {
        let _lock = lock(file).await?;
        let Some(mut login) = SavedLogin::read(file)? else {
            bail!("the sign-in has ended meanwhile: `portico login` makes a new one");
        };
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", CLIENT_ID),
            ("refresh_token", login.refresh_token.expose_secret()),
            ("resource", resource),
            ("scope", scope),
        ];
        let answer = self.http.token(&self.url, &form).await;
        let answer = answer.context("the saved sign-in is no longer good: `portico login` renews it")?;
        if let Some(successor) = &answer.refresh_token {
            login.refresh_token = successor.clone();
            login.write(file)?;
        }
        Ok(answer)
    }
}

/// Waits for the turn to change the sign-in in `file`. It ends when what is answered is dropped.
async fn lock(file: &Path) -> Result<File> {
    let path = file.with_extension("lock");
    let failed = || format!("{} cannot be locked", path.display());
    let lock = File::options().write(true).create(true).truncate(false).open(&path).with_context(failed)?;
    let give_up_at = Instant::now() + LONGEST_RENEWAL;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(std::fs::TryLockError::Error(error)) => return Err(error).with_context(failed),
            Err(std::fs::TryLockError::WouldBlock) if Instant::now() >= give_up_at => bail!(
                "another portico command has held {} for {} s: end it, then try again",
                path.display(),
                LONGEST_RENEWAL.as_secs()
            ),
            Err(std::fs::TryLockError::WouldBlock) => sleep(POLL).await,
        }
    }
}
