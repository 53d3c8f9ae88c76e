//! Rotating the key that seals.
//!
//! A new key is staged, so that every service learns it; then it seals; then the older ones are closed, so that no
//! replica seals with one any more, and what they hold is wrapped anew. Each step looks at what is there, so an interrupted rotation goes on where it stood.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use portico_clock::{Clock as _, SystemClock};
use portico_ids::SystemRng;
use portico_sealing::{KeyAge, KeyRing};
use serde_json::json;
use tokio::time::Instant;

use super::services::{Keeper, Sealing, ask_all, keepers};
use crate::connection::Connection;
use crate::output::Output;

/// How often a service is asked while a step waits for it.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How long a service that is behind is waited for, beyond the time that the file takes.
const PATIENCE: Duration = Duration::from_mins(1);

#[derive(Debug)]
pub(super) struct Rotation {
    pub(super) file: PathBuf,
    /// How long a changed file takes to reach every service.
    pub(super) settle: Duration,
}

/// What wrapping anew did for one service.
#[derive(Debug, Default)]
pub(super) struct Done {
    rewrapped: i64,
    unreadable: i64,
}

impl Rotation {
    pub(super) async fn run(&self, connection: &Connection, output: Output) -> Result<()> {
        let keepers = keepers(connection.api().await?);
        let ring = KeyRing::load(&self.file)?;
        let found = ask_all(&keepers, &ring).await?;
        let key = if unfinished(&ring, &found) {
            output.note("an earlier rotation is not finished: going on with it");
            ring.sealing_key()
        } else {
            self.new_key(&keepers, output).await?
        };
        let what = format!("seals with {key}");
        self.wait_for(&keepers, &what, |sealing| sealing.current == key).await?;
        let (mut report, mut unreadable) = (Vec::new(), 0);
        for keeper in &keepers {
            let done = wrap_anew(keeper, &key, output).await?;
            unreadable += done.unreadable;
            report.push(json!({ "service": keeper.name(), "rewrapped": done.rewrapped, "unreadable": done.unreadable }));
        }
        let answer = json!({ "sealing_key": key, "services": report });
        output.value(&answer, || {
            let rest = if unreadable == 0 { "every row" } else { "every row that opens" };
            format!(
                "{key} seals from now on and holds {rest}\n`portico keys prune --file {}` removes the keys before it, \
                 30 days from now",
                self.file.display()
            )
        });
        Ok(())
    }

    /// Stages a key, lets every service learn it, and lets it seal.
    async fn new_key(&self, keepers: &[Keeper], output: Output) -> Result<String> {
        let key = KeyRing::stage_file(&self.file, &SystemRng)?;
        output.note(&format!(
            "{key} is in the ring and opens; it seals in {} s, when every service knows it",
            self.settle.as_secs()
        ));
        tokio::time::sleep(self.settle).await;
        self.wait_for(keepers, &format!("knows {key}"), |sealing| sealing.rows.contains_key(&key)).await?;
        KeyRing::promote_file(&self.file, &key, SystemClock.now())?;
        output.note(&format!("{key} seals; waiting {} s for every service to use it", self.settle.as_secs()));
        tokio::time::sleep(self.settle).await;
        Ok(key)
    }

    /// Waits until every replica that answers is as far as it should be.
    async fn wait_for(
        &self,
        keepers: &[Keeper],
        what: &str,
        is_there: impl Fn(&Sealing) -> bool,
    ) -> Result<()> {
        let give_up_at = Instant::now() + self.settle + PATIENCE;
        for keeper in keepers {
            while !keeper.every_replica(&is_there).await? {
                if Instant::now() >= give_up_at {
                    bail!(
                        "a replica of the {} still is not one that {what}: see that it reads {} (its log says why it \
                         does not), then run this again",
                        keeper.name(),
                        self.file.display()
                    );
                }
                tokio::time::sleep(ASK_AGAIN).await;
            }
        }
        Ok(())
    }
}

/// Closes the retired keys of a service, and wraps with `key` what they hold. May be stopped and begun again.
pub(super) async fn wrap_anew(keeper: &Keeper, key: &str, output: Output) -> Result<Done> {
    let name = keeper.name();
    let mut done = Done::default();
    let mut position = String::new();
    loop {
        let batch = keeper.rewrap(key, &position).await.with_context(|| {
            format!(
                "the {name} stopped after {} rows: run this again, it goes on where it stood",
                done.rewrapped
            )
        })?;
        done.rewrapped += i64::from(batch.rewrapped);
        done.unreadable += i64::from(batch.unreadable);
        if batch.rewrapped > 0 {
            output.note(&format!("{name}: {} rows are held by {key} now", done.rewrapped));
        }
        if batch.next.is_empty() {
            break;
        }
        position = batch.next;
    }
    if done.unreadable > 0 {
        output.note(&format!(
            "{name}: {} rows do not open with any key of the ring and stay as they are; its log names them",
            done.unreadable
        ));
    }
    Ok(done)
}

/// Whether rows wait that a retired key holds.
fn unfinished(ring: &KeyRing, found: &[Sealing]) -> bool {
    let retired = |id: &String| {
        ring.keys().iter().any(|key| key.id == *id && matches!(key.age, KeyAge::Retired { .. }))
    };
    found.iter().flat_map(|sealing| &sealing.rows).any(|(id, rows)| *rows > 0 && retired(id))
}
