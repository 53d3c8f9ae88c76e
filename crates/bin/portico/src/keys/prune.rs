//! Removing retired keys of the ring.

use std::path::Path;

use anyhow::{Result, bail};
use chrono::TimeDelta;
use portico_clock::{Clock as _, SystemClock};
use portico_sealing::{KeyAge, KeyRing};
use serde_json::{Value, json};

use super::services::{Keeper, Sealing, ask_all, keepers};
use crate::connection::Connection;
use crate::output::Output;

pub(super) async fn run(file: &Path, keep_hours: u32, connection: &Connection, output: Output) -> Result<()> {
    let keepers = keepers(connection.api().await?);
    let ring = KeyRing::load(file)?;
    let found = ask_all(&keepers, &ring).await?;
    every_service_seals_with(&ring, &keepers).await?;
    let oldest = SystemClock.now() - TimeDelta::hours(keep_hours.into());
    let (mut rows, mut used): (Vec<Value>, _) = (Vec::new(), Vec::new());
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
            KeyRing::prune_file(file, &key.id)?;
            "removed".to_owned()
        };
        rows.push(json!({ "key": key.id, "outcome": outcome }));
    }
    if rows.is_empty() {
        output.say("the ring has no retired keys");
    }
    output.rows(&rows, ["KEY", "OUTCOME"], |row| {
        ["key", "outcome"].map(|name| row[name].as_str().unwrap_or_default().to_owned())
    });
    if !used.is_empty() {
        bail!(
            "{} still hold rows, which would be lost: `portico keys rotate --sealing --file {}` wraps them with the \
             newest key first",
            used.join(", "),
            file.display()
        );
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
