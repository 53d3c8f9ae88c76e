//! `portico grant`: give a principal a role on an endpoint.

use anyhow::{Context as _, Result, bail};
use clap::Args;
use portico_proto_auth::{CreateGrantRequest, DeleteGrantRequest, ListGrantsRequest};
use serde_json::json;

use crate::connection::Connection;
use crate::output::Output;

/// PRINCIPAL ROLE ENDPOINT gives a role; --list and --revoke read and end grants.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// A username, a service account's name, user:ID or service-account:ID
    #[arg(required_unless_present_any = ["list", "revoke"], conflicts_with = "revoke")]
    principal: Option<String>,
    /// A role's name: see `portico role list`
    #[arg(required_unless_present_any = ["list", "revoke"], conflicts_with_all = ["list", "revoke"])]
    role: Option<String>,
    /// An endpoint's name, or '*' for all
    #[arg(required_unless_present_any = ["list", "revoke"], conflicts_with_all = ["list", "revoke"])]
    endpoint: Option<String>,
    /// List grants, of PRINCIPAL only if it is given
    #[arg(long, conflicts_with = "revoke")]
    list: bool,
    /// End the grant with this id
    #[arg(long, value_name = "GRANT_ID")]
    revoke: Option<String>,
}

pub(crate) async fn run(arguments: Arguments, connection: &Connection, output: Output) -> Result<()> {
    if arguments.list {
        return list(arguments.principal.unwrap_or_default(), connection, output).await;
    }
    if let Some(id) = arguments.revoke {
        connection.api().await?.grants().delete_grant(DeleteGrantRequest { id: id.clone() }).await?;
        output.value(&json!({ "revoked": id }), || format!("revoked {id}: its tokens end within seconds"));
        return Ok(());
    }
    let (Some(principal), Some(role), Some(endpoint)) =
        (arguments.principal, arguments.role, arguments.endpoint)
    else {
        bail!("give PRINCIPAL, ROLE and ENDPOINT");
    };
    let request = CreateGrantRequest { principal, role, endpoint };
    let answer = connection.api().await?.grants().create_grant(request).await?.into_inner();
    let grant = answer.grant.context("the auth-server answered without the grant")?;
    output.value(&json!({ "id": grant.id, "principal": grant.principal, "role": grant.role_name, "endpoint": grant.endpoint }), || {
        format!("{} holds {} on {} (grant {})", grant.principal, grant.role_name, grant.endpoint, grant.id)
    });
    Ok(())
}

async fn list(principal: String, connection: &Connection, output: Output) -> Result<()> {
    let mut grants = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListGrantsRequest { page_size: 500, page_token, principal: principal.clone() };
        let answer = connection.api().await?.grants().list_grants(request).await?.into_inner();
        grants.extend(answer.grants.into_iter().map(
            |grant| json!({ "id": grant.id, "principal": grant.principal, "role": grant.role_name, "endpoint": grant.endpoint }),
        ));
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    output.rows(&grants, ["PRINCIPAL", "ROLE", "ENDPOINT", "ID"], |grant| {
        ["principal", "role", "endpoint", "id"]
            .map(|field| grant[field].as_str().unwrap_or_default().to_owned())
    });
    Ok(())
}
