//! Removing retired keys of the ring.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use chrono::TimeDelta;
use portico_clock::{Clock as _, SystemClock};
use portico_sealing::{KeyAge, KeyRing};
use secrecy::{ExposeSecret as _, SecretSlice};
use serde_json::{Value, json};

use super::sealing::wrap_anew;
use super::services::{Keeper, Sealing, ask_all, keepers};
use crate::connection::Connection;
use crate::connection::login_file::write_private;
use crate::output::Output;

/// How long a replica may be behind with reading the ring, before rows are counted a second time.
const BEHIND: Duration = Duration::from_secs(10);

pub(super) async fn run(file: &Path, keep_hours: u32, connection: &Connection, output: Output) -> Result<()> {
    let keepers = keepers(connection.api().await?);
    let ring = KeyRing::load(file)?;
    every_service_seals_with(&ring, &keepers).await?;
    // Closes what goes, if no rotation has, and takes along what a replica that was late had sealed meanwhile.
    for keeper in &keepers {
        wrap_anew(keeper, &ring.sealing_key(), output).await?;
    }
    let found = ask_all(&keepers, &ring).await?;
    let oldest = SystemClock.now() - TimeDelta::hours(keep_hours.into());
    let (mut rows, mut used, mut useless): (Vec<Value>, Vec<String>, Vec<String>) = Default::default();
    for key in ring.keys() {
        let KeyAge::Retired { since } = key.age else { continue };
        let held = held_by(&key.id, &found);
        let outcome = if held > 0 {
            used.push(key.id.clone());
            format!("kept: it holds {held} rows")
        } else if since.is_some_and(|since| since > oldest) {
            format!(
                "kept: it sealed less than {keep_hours} h ago, and agents may bring back what it has sealed"
            )
        } else {
            useless.push(key.id.clone());
            "removed".to_owned()
        };
        rows.push(json!({ "key": key.id, "outcome": outcome }));
    }
    if !useless.is_empty() {
        remove(file, &useless, (&keepers, &found), output).await?;
    }
    if rows.is_empty() {
        output.say("the ring has no retired keys");
    }
    output.rows(&rows, ["KEY", "OUTCOME"], |row| {
        ["key", "outcome"].map(|name| row[name].as_str().unwrap_or_default().to_owned())
    });
    if !used.is_empty() {
        bail!(
            "{} still hold rows that could not be wrapped anew: see the logs of auth-server and registry, which name them, \
             then run this again",
            used.join(", ")
        );
    }
    Ok(())
}

/// Removes keys, keeps the ring as it was beside it, and puts it back if a row turns up that needs one of them.
async fn remove(
    file: &Path,
    keys: &[String],
    (keepers, before): (&[Keeper], &[Sealing]),
    output: Output,
) -> Result<()> {
    let copy = file.with_extension(SystemClock.now().format("before-%Y%m%dT%H%M%SZ").to_string());
    let text = SecretSlice::from(std::fs::read(file)?);
    write_private(&copy, text.expose_secret())?;
    for key in keys {
        KeyRing::prune_file(file, key)?;
    }
    output.note(&format!(
        "the ring as it was is {}: destroy it once no backup and nobody else needs it",
        copy.display()
    ));
    tokio::time::sleep(BEHIND).await;
    for (keeper, before) in keepers.iter().zip(before) {
        let after = keeper.sealing().await?;
        let held: i64 = keys.iter().filter_map(|key| after.rows.get(key)).sum();
        if held > 0 || after.unknown_rows > before.unknown_rows {
            write_private(file, text.expose_secret())?;
            bail!(
                "the {} has sealed a row with a key that was to go, so the ring was put back: a replica of it reads the \
                 ring too late, its log says why; then rotate and prune again",
                keeper.name()
            );
        }
    }
    Ok(())
}

/// Refuses while a replica may still seal with a key that is about to go.
async fn every_service_seals_with(ring: &KeyRing, keepers: &[Keeper]) -> Result<()> {
    let key = ring.sealing_key();
    for keeper in keepers {
        if !keeper.every_replica(|sealing| sealing.current == key).await? {
            bail!(
                "a replica of the {} does not seal with {key} yet: see that it reads the changed ring, then run this again",
                keeper.name()
            );
        }
    }
    Ok(())
}

/// Counts the rows that a key holds. A service that does not know the key cannot say, so its unknown rows count.
fn held_by(key: &str, found: &[Sealing]) -> i64 {
    found.iter().map(|sealing| sealing.rows.get(key).copied().unwrap_or(sealing.unknown_rows)).sum()
}
