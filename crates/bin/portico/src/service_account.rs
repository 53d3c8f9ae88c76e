//! `portico service-account`: identities for jobs and for agents without a person.

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use portico_proto_auth::{
    CreateServiceAccountRequest, DeleteServiceAccountRequest, ListServiceAccountsRequest,
    RotateServiceAccountSecretRequest, ServiceAccount,
};
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
    /// Create one; its secret is printed once
    Create {
        name: String,
        #[arg(long, default_value = "")]
        description: String,
    },
    /// List service accounts
    List,
    /// Make a new secret and print it once; the old one ends
    RotateSecret { name: String },
    /// Delete one with its grants and tokens
    Delete { name: String },
}

pub(crate) async fn run(arguments: Arguments, connection: &Connection, output: Output) -> Result<()> {
    match arguments.verb {
        Verb::Create { name, description } => {
            let request = CreateServiceAccountRequest { name, description, request_id: String::new() };
            let answer = connection
                .api()
                .await?
                .service_accounts()
                .create_service_account(request)
                .await?
                .into_inner();
            let account =
                answer.service_account.context("the auth-server answered without the service account")?;
            let document = json!({ "id": account.id, "name": account.name, "client_id": account.client_id, "client_secret": answer.client_secret });
            output.value(&document, || {
                format!(
                    "created {}\nclient_id: {}\nclient_secret (shown once): {}",
                    account.name, account.client_id, answer.client_secret
                )
            });
            Ok(())
        }
        Verb::List => {
            let accounts: Vec<_> = all(connection)
                .await?
                .into_iter()
                .map(|account| json!({ "id": account.id, "name": account.name, "client_id": account.client_id, "description": account.description }))
                .collect();
            output.rows(&accounts, ["NAME", "CLIENT ID", "DESCRIPTION", "ID"], |account| {
                ["name", "client_id", "description", "id"]
                    .map(|field| account[field].as_str().unwrap_or_default().to_owned())
            });
            Ok(())
        }
        Verb::RotateSecret { name } => {
            let id = find(&name, connection).await?.id;
            let request = RotateServiceAccountSecretRequest { id };
            let answer = connection
                .api()
                .await?
                .service_accounts()
                .rotate_service_account_secret(request)
                .await?
                .into_inner();
            output.value(&json!({ "name": name, "client_secret": answer.client_secret }), || {
                format!("client_secret of {name} (shown once): {}", answer.client_secret)
            });
            Ok(())
        }
        Verb::Delete { name } => {
            let id = find(&name, connection).await?.id;
            connection
                .api()
                .await?
                .service_accounts()
                .delete_service_account(DeleteServiceAccountRequest { id })
                .await?;
            output.value(&json!({ "deleted": name }), || format!("deleted {name}"));
            Ok(())
        }
    }
}

async fn all(connection: &Connection) -> Result<Vec<ServiceAccount>> {
    let mut accounts = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListServiceAccountsRequest { page_size: 500, page_token };
        let answer =
            connection.api().await?.service_accounts().list_service_accounts(request).await?.into_inner();
        accounts.extend(answer.service_accounts);
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            return Ok(accounts);
        }
    }
}

async fn find(name: &str, connection: &Connection) -> Result<ServiceAccount> {
    let found = all(connection).await?.into_iter().find(|account| account.name == name);
    found.with_context(|| {
        format!("there is no service account named {name}; `portico service-account list` shows them")
    })
}
