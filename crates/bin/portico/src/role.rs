//! `portico role`: what holders of a role may do.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use portico_proto_auth::{CreateRoleRequest, DeleteRoleRequest, GetRoleRequest, ListRolesRequest, Role};
use serde_json::json;

use crate::connection::Connection;
use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create a role from actions, from Cedar policies, or from both
    Create {
        name: String,
        #[arg(long, default_value = "")]
        description: String,
        /// An action that holders may do, e.g. use or server.create
        #[arg(long = "permission", required_unless_present = "policies")]
        permissions: Vec<String>,
        /// A file of Cedar policies in which ?principal stands for the holder
        #[arg(long, value_name = "FILE")]
        policies: Option<PathBuf>,
    },
    /// Show a role with its policies
    Get { name: String },
    /// List roles
    List,
    /// Delete a role; its grants end
    Delete { name: String },
}

pub(crate) async fn run(arguments: Arguments, connection: &Connection, output: Output) -> Result<()> {
    match arguments.verb {
        Verb::Create { name, description, permissions, policies } => {
            let policies = match policies {
                Some(path) => std::fs::read_to_string(&path)
                    .with_context(|| format!("{} cannot be read", path.display()))?,
                None => String::new(),
            };
            let request =
                CreateRoleRequest { name, description, policies, permissions, request_id: String::new() };
            let answer = connection.api().await?.roles().create_role(request).await?.into_inner();
            let role = answer.role.context("the auth-server answered without the role")?;
            output.value(&describe(&role), || format!("created {}", role.name));
            Ok(())
        }
        Verb::Get { name } => {
            let document = describe(&find(name, connection).await?);
            output.value(&document, || serde_json::to_string_pretty(&document).unwrap_or_default());
            Ok(())
        }
        Verb::List => list(connection, output).await,
        Verb::Delete { name } => {
            let role = find(name, connection).await?;
            connection.api().await?.roles().delete_role(DeleteRoleRequest { id: role.id }).await?;
            output.value(&json!({ "deleted": role.name }), || format!("deleted {}", role.name));
            Ok(())
        }
    }
}

async fn find(name: String, connection: &Connection) -> Result<Role> {
    let request = GetRoleRequest { id: String::new(), name };
    let answer = connection.api().await?.roles().get_role(request).await?.into_inner();
    answer.role.context("the auth-server answered without the role")
}

async fn list(connection: &Connection, output: Output) -> Result<()> {
    let mut roles = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListRolesRequest { page_size: 500, page_token };
        let answer = connection.api().await?.roles().list_roles(request).await?.into_inner();
        roles.extend(answer.roles);
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let documents: Vec<_> = roles.iter().map(describe).collect();
    output.rows(&documents, ["NAME", "KIND", "DESCRIPTION"], |role| {
        let kind = if role["builtin"] == true { "built in" } else { "own" };
        let text = |field: &str| role[field].as_str().unwrap_or_default().to_owned();
        [text("name"), kind.to_owned(), text("description")]
    });
    Ok(())
}

fn describe(role: &Role) -> serde_json::Value {
    json!({
        "id": role.id,
        "name": role.name,
        "description": role.description,
        "permissions": role.permissions,
        "policies": role.policies,
        "builtin": role.builtin,
    })
}
