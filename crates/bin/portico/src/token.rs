//! `portico token`: an access token for scripts and for agents that cannot sign in themselves.

use anyhow::{Result, bail};
use clap::Args;
use secrecy::ExposeSecret as _;
use serde_json::json;

use crate::connection::Connection;
use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The endpoint that it is for; without one, /mcp: everything that you may use
    #[arg(long)]
    endpoint: Option<String>,
    /// Print a refresh token too, for a job that outlives the access token's ten minutes
    #[arg(long)]
    offline: bool,
}

pub(crate) async fn run(arguments: Arguments, connection: &Connection, output: Output) -> Result<()> {
    if arguments.offline {
        let Some(refresh_token) = connection.refresh_token() else {
            bail!(
                "a service account gets no refresh token (it has its own secret): `portico login` first, then --offline"
            );
        };
        output.value(&json!({ "refresh_token": refresh_token.expose_secret() }), || {
            refresh_token.expose_secret().to_owned()
        });
        return Ok(());
    }
    let resource = connection.resource(arguments.endpoint.as_deref());
    let token = connection.mcp_token(&resource).await?;
    output.value(&json!({ "access_token": token.expose_secret(), "resource": resource }), || {
        token.expose_secret().to_owned()
    });
    Ok(())
}
