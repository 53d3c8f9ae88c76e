//! `portico token`: an access token for scripts and for agents that cannot sign in themselves.

use anyhow::{Result, bail};
use clap::Args;
use secrecy::ExposeSecret as _;
use serde_json::json;

use crate::connection::Connection;
use crate::connection::login_file::CLIENT_ID;
use crate::login::{self, Ask};
use crate::output::Output;

/// What a job may do with its refresh token: call servers, for as long as it renews it.
const OFFLINE_SCOPES: [&str; 2] = ["mcp", "offline_access"];

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The endpoint that it is for; without one, /mcp: everything that you may use
    #[arg(long)]
    endpoint: Option<String>,
    /// Sign in once more, with the browser, and print a refresh token for a job that outlives the access token's ten
    /// minutes
    #[arg(long)]
    offline: bool,
    /// Only print the address to open for --offline; do not start a browser
    #[arg(long, requires = "offline")]
    no_browser: bool,
}

pub(crate) async fn run(arguments: Arguments, connection: &Connection, output: Output) -> Result<()> {
    let resource = connection.resource(arguments.endpoint.as_deref());
    if arguments.offline {
        return offline(&resource, arguments.no_browser, connection, output).await;
    }
    let token = connection.mcp_token(&resource).await?;
    output.value(&json!({ "access_token": token.expose_secret(), "resource": resource }), || {
        token.expose_secret().to_owned()
    });
    Ok(())
}

/// A refresh token of its own: one that two hold looks stolen as soon as both have used it, and ends for both.
async fn offline(resource: &str, no_browser: bool, connection: &Connection, output: Output) -> Result<()> {
    if !connection.is_person() {
        bail!(
            "a service account gets no refresh token (it has its own secret): `portico login` first, then --offline"
        );
    }
    let ask = Ask { resource, scopes: &OFFLINE_SCOPES, no_browser };
    let signed_in = login::sign_in(connection.origin(), ask, output).await?;
    let (token, url) = (signed_in.refresh_token.expose_secret(), connection.token_endpoint());
    let document = json!({
        "refresh_token": token,
        "client_id": CLIENT_ID,
        "token_endpoint": url,
        "resource": resource,
    });
    output.value(&document, || token.to_owned());
    output.note(&format!(
        "the job sends it to {url} with grant_type=refresh_token and client_id={CLIENT_ID}, and keeps the one that \
         each answer has for the next time"
    ));
    Ok(())
}
