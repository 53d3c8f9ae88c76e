//! Which Portico the command talks to, and as whom.

pub(crate) mod api;
pub(crate) mod http;
pub(crate) mod login_file;
pub(crate) mod patience;
pub(crate) mod ready_file;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::OnceCell;
use url::Url;

use self::api::Api;
use self::http::Http;
use self::login_file::SavedLogin;
use self::ready_file::ReadyFile;

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
    identity: Identity,
    http: Http,
    api: OnceCell<Api>,
}

#[derive(Debug)]
enum Identity {
    ServiceAccount { client_id: String, client_secret: SecretString },
    Person { login: SavedLogin, file: PathBuf },
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
            return Self::from_ready_file(default);
        }
        let file = login_file::default_path()?;
        let Some(login) = SavedLogin::read(&file)? else {
            bail!(
                "no Portico is known here: start one with `portico dev`, sign in to one with `portico login ORIGIN`, \
                 or name its ready file with --ready-file"
            );
        };
        let (origin, grpc) = (login.origin.clone(), login.grpc.clone());
        Self::new(origin, grpc, Identity::Person { login, file })
    }

    fn from_ready_file(path: &Path) -> Result<Self> {
        let ready = ReadyFile::read(path)?;
        let identity = Identity::ServiceAccount {
            client_id: ready.client_id.clone(),
            client_secret: ready.client_secret.clone(),
        };
        Self::new(ready.origin, ready.grpc, identity)
    }

    /// Connects as the service account of a Portico that this process itself runs.
    pub(crate) fn as_service_account(ready: &ReadyFile) -> Result<Self> {
        let identity = Identity::ServiceAccount {
            client_id: ready.client_id.clone(),
            client_secret: ready.client_secret.clone(),
        };
        Self::new(ready.origin.clone(), ready.grpc.clone(), identity)
    }

    fn new(origin: Url, grpc: Url, identity: Identity) -> Result<Self> {
        Ok(Self { origin, grpc, identity, http: Http::new()?, api: OnceCell::new() })
    }

    /// Answers the public origin, without a slash at its end.
    pub(crate) fn origin(&self) -> &str {
        self.origin.as_str().trim_end_matches('/')
    }

    pub(crate) const fn http(&self) -> &Http {
        &self.http
    }

    /// Answers the gRPC clients of the management plane, signed in.
    ///
    /// # Errors
    /// Portico cannot be reached, or refuses the identity.
    pub(crate) async fn api(&self) -> Result<&Api> {
        let connect = async || {
            let token = self.token(&format!("{}/api", self.origin()), API_SCOPE).await?;
            Api::connect(&self.grpc, &token).await
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
        self.token(resource, MCP_SCOPE).await
    }

    /// Gets an access token for `resource` (RFC 8707).
    async fn token(&self, resource: &str, scope: &str) -> Result<SecretString> {
        let url = self.endpoint("oauth2/token")?;
        match &self.identity {
            Identity::ServiceAccount { client_id, client_secret } => {
                let form = [
                    ("grant_type", "client_credentials"),
                    ("client_id", client_id),
                    ("client_secret", client_secret.expose_secret()),
                    ("resource", resource),
                    ("scope", scope),
                ];
                Ok(self.http.token(&url, &form).await?.access_token)
            }
            Identity::Person { login, file } => {
                let mut login = login.clone();
                let answer = login.refresh(&self.http, &url, resource, scope).await;
                let answer =
                    answer.context("the saved sign-in is no longer good: `portico login` renews it")?;
                login.write(file)?;
                Ok(answer)
            }
        }
    }

    /// Answers the refresh token of a saved sign-in; a service account has none.
    pub(crate) const fn refresh_token(&self) -> Option<&SecretString> {
        match &self.identity {
            Identity::Person { login, .. } => Some(&login.refresh_token),
            Identity::ServiceAccount { .. } => None,
        }
    }

    /// Ends the saved sign-in at Portico (RFC 7009) and forgets it here.
    ///
    /// # Errors
    /// There is no saved sign-in, or its file cannot be removed.
    pub(crate) async fn log_out(&self) -> Result<()> {
        let Identity::Person { login, file } = &self.identity else {
            bail!("there is no saved sign-in: this Portico was found by its ready file");
        };
        let url = self.endpoint("oauth2/revoke")?;
        let form = [("token", login.refresh_token.expose_secret()), ("client_id", login_file::CLIENT_ID)];
        self.http.form(&url, &form).await?;
        std::fs::remove_file(file).with_context(|| format!("{} cannot be removed", file.display()))
    }

    fn endpoint(&self, path: &str) -> Result<Url> {
        self.origin.join(path).with_context(|| format!("{} is no origin", self.origin))
    }
}
