//! `portico secret`: credentials that servers need. Values come from standard input or a file, never from arguments.

use std::fs::File;
use std::io::{IsTerminal as _, Read};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use portico_proto_registry::{DeleteSecretRequest, ListSecretsRequest, SetSecretRequest};
use serde_json::json;

use crate::connection::Connection;
use crate::output::Output;

/// Largest value, with the line end that is dropped.
const MOST_BYTES: usize = 64 * 1024 + 2;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Store a value under REF, read from standard input or from a file
    Set {
        reference: String,
        /// Read the value from this file; one line end at its end is dropped
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// List references and versions; values are never shown
    List,
    /// Delete a secret
    Delete { reference: String },
}

pub(crate) async fn run(arguments: Arguments, connection: &Connection, output: Output) -> Result<()> {
    match arguments.verb {
        Verb::Set { reference, file } => set(reference, file, connection, output).await,
        Verb::List => list(connection, output).await,
        Verb::Delete { reference } => {
            connection
                .api()
                .await?
                .secrets()
                .delete_secret(DeleteSecretRequest { r#ref: reference.clone() })
                .await?;
            output.value(&json!({ "deleted": reference }), || format!("deleted {reference}"));
            Ok(())
        }
    }
}

async fn set(
    reference: String,
    file: Option<PathBuf>,
    connection: &Connection,
    output: Output,
) -> Result<()> {
    let mut value = match &file {
        Some(path) => {
            File::open(path).and_then(read).with_context(|| format!("{} cannot be read", path.display()))?
        }
        None => from_standard_input(output)?,
    };
    if value.len() > MOST_BYTES {
        bail!("the value has more than 64 KiB: nothing was stored");
    }
    if value.last() == Some(&b'\n') {
        value.pop();
        if value.last() == Some(&b'\r') {
            value.pop();
        }
    }
    if value.is_empty() {
        bail!("the value is empty: nothing was stored");
    }
    let request = SetSecretRequest { r#ref: reference, value };
    let answer = connection.api().await?.secrets().set_secret(request).await?.into_inner();
    let secret = answer.secret.context("the registry answered without the secret's version")?;
    output.value(&json!({ "ref": secret.r#ref, "version": secret.version }), || {
        format!("stored {} (version {})", secret.r#ref, secret.version)
    });
    Ok(())
}

fn from_standard_input(output: Output) -> Result<Vec<u8>> {
    let input = std::io::stdin();
    if input.is_terminal() {
        output.note("paste the value, then press Ctrl-D on a line of its own (it is shown as you type; use --file or a pipe to avoid that)");
    }
    read(input).context("standard input cannot be read")
}

/// Reads a value, and of one that is too large only so much that it shows.
fn read(input: impl Read) -> std::io::Result<Vec<u8>> {
    let mut value = Vec::new();
    input.take(MOST_BYTES as u64 + 1).read_to_end(&mut value)?;
    Ok(value)
}

async fn list(connection: &Connection, output: Output) -> Result<()> {
    let mut secrets = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListSecretsRequest { page_size: 500, page_token };
        let answer = connection.api().await?.secrets().list_secrets(request).await?.into_inner();
        secrets.extend(
            answer.secrets.into_iter().map(
                |secret| json!({ "ref": secret.r#ref, "version": secret.version, "owner": secret.owner }),
            ),
        );
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    output.rows(&secrets, ["REF", "VERSION", "OWNER"], |secret| {
        [text(&secret["ref"]), secret["version"].to_string(), text(&secret["owner"])]
    });
    Ok(())
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
