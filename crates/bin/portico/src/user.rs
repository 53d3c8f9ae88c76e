//! `portico user`: people who sign in.

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use portico_proto_auth::{
    CreateUserRequest, DeleteUserRequest, GetUserRequest, ListUsersRequest, SetPasswordRequest,
    UpdateUserRequest, User,
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
    /// Create a person; the password is made and printed once
    Create {
        username: String,
        #[arg(long, default_value = "")]
        display_name: String,
        #[arg(long, default_value = "")]
        email: String,
    },
    /// List people
    List,
    /// Stop a person's sign-ins and tokens
    Disable { username: String },
    /// Let a disabled person sign in again
    Enable { username: String },
    /// Make a new password and print it once; all of the person's tokens end
    ResetPassword { username: String },
    /// Delete a person with their grants and tokens
    Delete { username: String },
}

pub(crate) async fn run(arguments: Arguments, connection: &Connection, output: Output) -> Result<()> {
    match arguments.verb {
        Verb::Create { username, display_name, email } => {
            let request = CreateUserRequest { username, display_name, email, ..CreateUserRequest::default() };
            let answer = connection.api().await?.users().create_user(request).await?.into_inner();
            let user = answer.user.context("the auth-server answered without the user")?;
            let document =
                json!({ "id": user.id, "username": user.username, "password": answer.generated_password });
            output.value(&document, || {
                format!("created {}\npassword (shown once): {}", user.username, answer.generated_password)
            });
            Ok(())
        }
        Verb::List => list(connection, output).await,
        Verb::Disable { username } => set_disabled(&username, true, connection, output).await,
        Verb::Enable { username } => set_disabled(&username, false, connection, output).await,
        Verb::ResetPassword { username } => {
            let user = find(&username, connection).await?;
            let request = SetPasswordRequest { id: user.id, password: String::new() };
            let answer = connection.api().await?.users().set_password(request).await?.into_inner();
            output.value(&json!({ "username": username, "password": answer.generated_password }), || {
                format!("new password of {username} (shown once): {}", answer.generated_password)
            });
            Ok(())
        }
        Verb::Delete { username } => {
            let user = find(&username, connection).await?;
            connection.api().await?.users().delete_user(DeleteUserRequest { id: user.id }).await?;
            output.value(&json!({ "deleted": username }), || format!("deleted {username}"));
            Ok(())
        }
    }
}

async fn find(username: &str, connection: &Connection) -> Result<User> {
    let request = GetUserRequest { id: String::new(), username: username.to_owned() };
    let answer = connection.api().await?.users().get_user(request).await?.into_inner();
    answer.user.context("the auth-server answered without the user")
}

async fn set_disabled(username: &str, disabled: bool, connection: &Connection, output: Output) -> Result<()> {
    let user = find(username, connection).await?;
    let request = UpdateUserRequest {
        id: user.id,
        disabled: Some(disabled),
        expected_revision: user.revision,
        ..UpdateUserRequest::default()
    };
    connection.api().await?.users().update_user(request).await?;
    output.value(&json!({ "username": username, "disabled": disabled }), || {
        format!("{username} is {}", if disabled { "disabled" } else { "enabled" })
    });
    Ok(())
}

async fn list(connection: &Connection, output: Output) -> Result<()> {
    let mut users = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListUsersRequest { page_size: 500, page_token };
        let answer = connection.api().await?.users().list_users(request).await?.into_inner();
        users.extend(answer.users.into_iter().map(|user| {
            json!({
                "id": user.id,
                "username": user.username,
                "display_name": user.display_name,
                "email": user.email,
                "state": if user.disabled { "disabled" } else { "enabled" },
            })
        }));
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    output.rows(&users, ["USERNAME", "NAME", "EMAIL", "STATE", "ID"], |user| {
        ["username", "display_name", "email", "state", "id"]
            .map(|field| user[field].as_str().unwrap_or_default().to_owned())
    });
    Ok(())
}
