//! Which Portico the command talks to, and as whom.

pub(crate) mod api;
pub(crate) mod http;
mod identity;
pub(crate) mod login_file;
mod patience;
pub(crate) mod ready_file;
mod signing;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::OnceCell;
use url::Url;

use self::api::Api;
use self::http::Http;
use self::identity::{Identity, TokenSource};
use self::login_file::SavedLogin;
use self::ready_file::ReadyFile;
use self::signing::ApiToken;

/// Scopes of the management plane that the command line asks for.
const API_SCOPE: &str = "admin registry:read registry:write";
/// Scope that calls to MCP servers need.
const MCP_SCOPE: &str = "mcp";
/// Where `portico dev` leaves its ready file unless told otherwise.
const DEFAULT_READY_FILE: &str = ".portico/ready.json";

/// A Portico, and the identity that the command has there.
#[derive(Debug)]
pub(crate) struct Connection {
    origin: Url,
    grpc: Url,
    tokens: TokenSource,
    api: OnceCell<Api>,
}

impl Connection {
    /// Finds a running Portico: the given ready file, the one of a `portico dev` in this directory, the saved login.
    ///
    /// # Errors
    /// None of the three is there, or the one that is cannot be read.
    pub(crate) fn find(ready_file: Option<&Path>) -> Result<Self> {
        if let Some(path) = ready_file {
            return Self::from_ready_file(path);
        }
        let default = Path::new(DEFAULT_READY_FILE);
        if default.exists() {
            refuse_of_others(default)?;
            return Self::from_ready_file(default);
        }
        let file = login_file::default_path()?;
        let Some(login) = SavedLogin::read(&file)? else {
            bail!(
                "no Portico is known here: start one with `portico dev`, sign in to one with `portico login ORIGIN`, \
                 or name its ready file with --ready-file"
            );
        };
        Self::new(login.origin, login.grpc, Identity::Person { file })
    }

    fn from_ready_file(path: &Path) -> Result<Self> {
        Self::as_service_account(&ReadyFile::read(path)?)
    }

    /// Connects as the service account that a ready file names.
    pub(crate) fn as_service_account(ready: &ReadyFile) -> Result<Self> {
        let identity = Identity::ServiceAccount {
            client_id: ready.client_id.clone(),
            client_secret: ready.client_secret.clone(),
        };
        Self::new(ready.origin.clone(), ready.grpc.clone(), identity)
    }

    fn new(origin: Url, grpc: Url, identity: Identity) -> Result<Self> {
        let url = origin.join("oauth2/token").with_context(|| format!("{origin} is no origin"))?;
        let tokens = TokenSource { http: Http::new()?, url, identity };
        Ok(Self { origin, grpc, tokens, api: OnceCell::new() })
    }

    /// Answers the public origin, without a slash at its end.
    pub(crate) fn origin(&self) -> &str {
        self.origin.as_str().trim_end_matches('/')
    }

    pub(crate) const fn http(&self) -> &Http {
        &self.tokens.http
    }

    /// Answers the gRPC clients of the management plane, signed in.
    ///
    /// # Errors
    /// Portico cannot be reached, or refuses the identity.
    pub(crate) async fn api(&self) -> Result<&Api> {
        let connect = async || {
            let resource = format!("{}/api", self.origin());
            Api::connect(&self.grpc, ApiToken::get(self.tokens.clone(), resource, API_SCOPE).await?).await
        };
        self.api.get_or_try_init(connect).await
    }

    /// Answers the resource URL of an endpoint; no name means `/mcp`, everything that the caller may use.
    pub(crate) fn resource(&self, endpoint: Option<&str>) -> String {
        endpoint
            .map_or_else(|| format!("{}/mcp", self.origin()), |name| format!("{}/{name}/mcp", self.origin()))
    }

    /// Gets an access token for an MCP resource.
    ///
    /// # Errors
    /// Portico cannot be reached, or refuses the identity or the resource.
    pub(crate) async fn mcp_token(&self, resource: &str) -> Result<SecretString> {
        Ok(self.tokens.get(resource, MCP_SCOPE).await?.access_token)
    }

    /// Tells whether a person acts, by a saved sign-in.
    pub(crate) const fn is_person(&self) -> bool {
        matches!(self.tokens.identity, Identity::Person { .. })
    }

    /// Where tokens come from.
    pub(crate) const fn token_endpoint(&self) -> &Url {
        &self.tokens.url
    }

    /// Ends the saved sign-in at Portico (RFC 7009) and forgets it here.
    ///
    /// # Errors
    /// There is no saved sign-in, or its file cannot be removed.
    pub(crate) async fn log_out(&self) -> Result<()> {
        let Identity::Person { file } = &self.tokens.identity else {
            bail!("there is no saved sign-in: this Portico was found by its ready file");
        };
        if let Some(login) = SavedLogin::read(file)? {
            let url = self.origin.join("oauth2/revoke").context("the saved origin is none")?;
            let form = [("token", login.refresh_token.expose_secret()), ("client_id", login_file::CLIENT_ID)];
            let told = self.http().form(&url, &form).await;
            remove(file)?;
            told.context(
                "the sign-in is forgotten here, but Portico was not told: there it is good until it expires",
            )?;
        }
        Ok(())
    }
}

/// Refuses a ready file that was found, not named, and that `portico dev` did not write: one that came with a checked out
/// directory would have secrets sent to whoever made it. Neither git nor an editor gives files this mode.
fn refuse_of_others(path: &Path) -> Result<()> {
    let failed = || format!("the ready file {} cannot be read", path.display());
    let mode = std::fs::metadata(path).with_context(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        bail!(
            "{} was not written by `portico dev`, which keeps it from others (mode 600, not {:o}): look at what it \
             says, then name it with --ready-file or remove it",
            path.display(),
            mode & 0o777
        );
    }
    Ok(())
}

fn remove(file: &Path) -> Result<()> {
    std::fs::remove_file(file).with_context(|| format!("{} cannot be removed", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_file_that_came_with_a_directory_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ready.json");
        login_file::write_private(&path, b"{}").unwrap();
        refuse_of_others(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let refused = refuse_of_others(&path).unwrap_err().to_string();
        assert!(refused.contains("644") && refused.contains("--ready-file"), "{refused}");
    }
}
