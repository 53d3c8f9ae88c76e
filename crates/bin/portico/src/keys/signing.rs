//! Rotating and listing the keys that sign tokens.

use anyhow::{Context as _, Result};
use chrono::{DateTime, SecondsFormat};
use portico_proto_auth::{ListSigningKeysRequest, RotateSigningKeysRequest};
use serde_json::{Value, json};

use super::services::keepers;
use crate::connection::Connection;
use crate::output::Output;

pub(super) async fn rotate(connection: &Connection, output: Output) -> Result<()> {
    let api = connection.api().await?;
    let request = RotateSigningKeysRequest { withdraw: false };
    let answer = api.signing_keys().rotate_signing_keys(request).await?.into_inner();
    let key = answer.key.context("the auth-server answered without the key")?;
    output.value(&json!({ "kid": key.kid, "active": key.active }), || {
        let when = if key.active {
            "signs"
        } else {
            "is published now and signs in 30 s, when every verifier knows it"
        };
        format!(
            "{} {when}\nthe key before it stays published until the last token that it signed has expired",
            key.kid
        )
    });
    Ok(())
}

/// Ends the keys before the new one. It is not asked twice: who needs this has no time, and what it costs heals itself.
pub(super) async fn withdraw(connection: &Connection, output: Output) -> Result<()> {
    let api = connection.api().await?;
    let request = RotateSigningKeysRequest { withdraw: true };
    let answer = api.signing_keys().rotate_signing_keys(request).await?.into_inner();
    let key = answer.key.context("the auth-server answered without the key")?;
    output.value(&json!({ "kid": key.kid, "active": key.active, "withdrawn": answer.withdrawn }), || {
        format!(
            "{} signs now\nwithdrawn: {}\nevery access token from before ends within 5 s, everywhere: agents get new \
             ones with their refresh tokens",
            key.kid,
            answer.withdrawn.join(", ")
        )
    });
    Ok(())
}

pub(super) async fn list(connection: &Connection, output: Output) -> Result<()> {
    let api = connection.api().await?;
    let answer = api.signing_keys().list_signing_keys(ListSigningKeysRequest {}).await?.into_inner();
    let mut rows: Vec<Value> = Vec::new();
    for key in answer.keys {
        let state = match (key.active, key.retires_at.is_some()) {
            (true, _) => "signs",
            (false, true) => "retired",
            (false, false) => "published",
        };
        let until = key.retires_at.and_then(|at| DateTime::from_timestamp(at.seconds, 0));
        let until = until.map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true)).unwrap_or_default();
        rows.push(json!({ "key": key.kid, "for": "tokens", "state": state, "until": until, "rows": "" }));
    }
    for keeper in keepers(api) {
        let sealing = keeper.sealing().await?;
        for (id, count) in sealing.rows {
            let state = if id == sealing.current { "seals" } else { "opens" };
            let place = format!("secrets of the {}", keeper.name());
            rows.push(
                json!({ "key": id, "for": place, "state": state, "until": "", "rows": count.to_string() }),
            );
        }
        if sealing.unknown_rows > 0 {
            let place = format!("secrets of the {}", keeper.name());
            let count = sealing.unknown_rows.to_string();
            rows.push(json!({ "key": "unknown", "for": place, "state": "lost", "until": "", "rows": count }));
        }
    }
    output.rows(&rows, ["KEY", "FOR", "STATE", "UNTIL", "ROWS"], |row| {
        ["key", "for", "state", "until", "rows"].map(|name| row[name].as_str().unwrap_or_default().to_owned())
    });
    Ok(())
}
