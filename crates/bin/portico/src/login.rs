//! `portico login`: a person signs in with the browser (authorization code with PKCE, RFC 8252 loopback redirect).

mod callback;

use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use openidconnect::core::{CoreAuthenticationFlow, CoreClient, CoreProviderMetadata};
use openidconnect::{
    AuthorizationCode, ClientId, CsrfToken, IssuerUrl, Nonce, OAuth2TokenResponse as _, PkceCodeChallenge,
    RedirectUrl, Scope, TokenResponse as _,
};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;
use url::Url;

use self::callback::{Callback, Expected};
use crate::connection::Connection;
use crate::connection::http::Http;
use crate::connection::login_file::{self, CLIENT_ID, SavedLogin};
use crate::output::Output;

/// How long the person may take in the browser.
const PATIENCE: Duration = Duration::from_mins(5);
const SCOPES: [&str; 6] = ["profile", "offline_access", "mcp", "registry:read", "registry:write", "admin"];

#[derive(Debug, Args)]
pub(crate) struct LoginArguments {
    /// Where Portico is, e.g. <https://mcp.example.com>
    origin: Url,
    /// Only print the address to open; do not start a browser
    #[arg(long)]
    no_browser: bool,
}

/// Portico's addresses, as `/.well-known/portico` tells them.
#[derive(Debug, Deserialize)]
struct Addresses {
    issuer: String,
    grpc: Url,
}

/// What a person is asked to allow.
pub(crate) struct Ask<'a> {
    pub(crate) resource: &'a str,
    pub(crate) scopes: &'a [&'static str],
    /// Only print the address to open; do not start a browser.
    pub(crate) no_browser: bool,
}

/// A sign-in that worked.
pub(crate) struct SignedIn {
    name: String,
    grpc: Url,
    pub(crate) refresh_token: SecretString,
}

pub(crate) async fn log_in(arguments: LoginArguments, output: Output) -> Result<()> {
    let origin = arguments.origin.as_str().trim_end_matches('/').to_owned();
    let resource = format!("{origin}/api");
    let ask = Ask { resource: &resource, scopes: &SCOPES, no_browser: arguments.no_browser };
    let signed_in = sign_in(&origin, ask, output).await?;
    let SignedIn { name, grpc, refresh_token } = signed_in;
    let login = SavedLogin { origin: Url::parse(&origin)?, grpc, refresh_token };
    let file = login_file::default_path()?;
    login.write(&file)?;
    output.value(&json!({ "origin": origin, "user": name }), || {
        format!("signed in at {origin} as {name}; saved in {}", file.display())
    });
    Ok(())
}

/// Has a person sign in with the browser.
pub(crate) async fn sign_in(origin: &str, ask: Ask<'_>, output: Output) -> Result<SignedIn> {
    let http = Http::new()?;
    let addresses: Addresses = http
        .json(&Url::parse(&format!("{origin}/.well-known/portico"))?)
        .await
        .with_context(|| format!("{origin} does not answer as a Portico"))?;
    let exchange = |request| http.openid(request);
    let metadata = CoreProviderMetadata::discover_async(IssuerUrl::new(addresses.issuer.clone())?, &exchange)
        .await
        .context("the authorization server's metadata cannot be read")?;
    let callback = Callback::listen().await?;
    let client = CoreClient::from_provider_metadata(metadata, ClientId::new(CLIENT_ID.to_owned()), None)
        .set_redirect_uri(RedirectUrl::new(callback.redirect_uri())?);
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let (url, state, nonce) = client
        .authorize_url(CoreAuthenticationFlow::AuthorizationCode, CsrfToken::new_random, Nonce::new_random)
        .add_scopes(ask.scopes.iter().map(|scope| Scope::new((*scope).to_owned())))
        .add_extra_param("resource", ask.resource)
        .set_pkce_challenge(challenge)
        .url();
    output.note(&format!("open this address to sign in:\n  {url}"));
    if !ask.no_browser {
        open_browser(&url);
    }
    let expected = Expected { state: state.secret(), issuer: &addresses.issuer };
    let code = tokio::time::timeout(PATIENCE, callback.wait(expected))
        .await
        .context("nobody signed in within five minutes; nothing was saved")??;
    let answer = client
        .exchange_code(AuthorizationCode::new(code))?
        .set_pkce_verifier(verifier)
        .add_extra_param("resource", ask.resource)
        .request_async(&exchange)
        .await
        .context("the authorization server refused the code")?;
    let id_token = answer.id_token().context("the authorization server sent no ID token")?;
    let claims =
        id_token.claims(&client.id_token_verifier(), &nonce).context("the ID token does not verify")?;
    let refresh_token = answer.refresh_token().context("the authorization server sent no refresh token")?;
    let name =
        claims.preferred_username().map_or_else(|| claims.subject().to_string(), |name| name.to_string());
    Ok(SignedIn {
        name,
        grpc: addresses.grpc,
        refresh_token: SecretString::from(refresh_token.secret().clone()),
    })
}

pub(crate) async fn log_out(connection: &Connection, output: Output) -> Result<()> {
    connection.log_out().await?;
    output.value(&json!({ "signed_out": connection.origin() }), || {
        format!("signed out of {}", connection.origin())
    });
    Ok(())
}

/// Starts the desktop's browser; where there is none, the printed address is enough.
fn open_browser(url: &Url) {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let quiet = std::process::Stdio::null;
    drop(
        std::process::Command::new(opener)
            .arg(url.as_str())
            .stdin(quiet())
            .stdout(quiet())
            .stderr(quiet())
            .spawn(),
    );
}
