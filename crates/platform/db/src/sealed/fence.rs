//! Which keys may seal: the fence against a replica that reads the key ring too late.
//!
//! A key that a rotation has retired is *closed* before its values are wrapped anew. Whoever writes a sealed value asks
//! in the same transaction whether its key is closed, so that after the closing no value of an old key appears, whatever
//! a replica believes. A key that is not closed is never refused: a replica that is ahead goes on.

use std::time::Duration;

use chrono::{DateTime, Utc};
use portico_sealing::{KeyRing, Sealer};
use tokio::time::{Instant, timeout};

use crate::{Conn, Db, FromRow, Row, StoreError, on_db, on_tx, read};

/// How often a [`RingWatch`] asks.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long the database may take to answer one.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

struct Known {
    closed_at: Option<DateTime<Utc>>,
}

impl FromRow for Known {
    fn from_row(row: &Row<'_>) -> sqlx::Result<Self> {
        Ok(Self { closed_at: row.get("closed_at")? })
    }
}

/// Refuses a sealed value whose key is closed, before the transaction writes it. Until its end, the key stays open.
///
/// To be asked before the transaction takes rows that hold sealed values: a rewrap takes them after the closing.
pub async fn admit<'c>(conn: impl Into<Conn<'c>>, sealed: &[u8]) -> Result<(), StoreError> {
    match Sealer::key_of(sealed) {
        Some(key) => admit_key(conn.into(), key).await,
        // What no ring has sealed has no key that could be closed.
        None => Ok(()),
    }
}

/// The same by the key's name.
pub(super) async fn admit_key(mut conn: Conn<'_>, key: &str) -> Result<(), StoreError> {
    const LEARN: &str = "INSERT INTO sealing_keys (key_id) VALUES ($1) ON CONFLICT (key_id) DO NOTHING";
    let mut known = look(conn.reborrow(), key).await?;
    if known.is_none() {
        // The first value that the key seals: from now on there is a row to hold on to.
        on_tx!(conn.reborrow(), conn => sqlx::query(LEARN).bind(key).execute(conn).await.map(drop)?);
        known = look(conn, key).await?;
    }
    match known {
        Some(Known { closed_at: None }) => Ok(()),
        _ => Err(StoreError::RingBehind { key: key.to_owned() }),
    }
}

/// Reads a key's row and keeps others from closing it; SQLite has one writer at a time anyway.
async fn look(conn: Conn<'_>, key: &str) -> Result<Option<Known>, StoreError> {
    let sql = match &conn {
        Conn::Postgres(_) => "SELECT closed_at FROM sealing_keys WHERE key_id = $1 FOR SHARE",
        Conn::Sqlite(_) => "SELECT closed_at FROM sealing_keys WHERE key_id = $1",
    };
    Ok(on_tx!(conn, conn => sqlx::query(sql).bind(key).try_map(read).fetch_optional(conn).await?))
}

/// Closes keys for ever, after the transactions that write with them just now; returns those that were open.
pub(super) async fn close(
    mut conn: Conn<'_>,
    keys: &[String],
    now: DateTime<Utc>,
) -> Result<Vec<String>, StoreError> {
    const SQL: &str = "INSERT INTO sealing_keys (key_id, closed_at) VALUES ($1, $2) \
                       ON CONFLICT (key_id) DO UPDATE SET closed_at = excluded.closed_at \
                       WHERE sealing_keys.closed_at IS NULL";
    let mut closed = Vec::new();
    for key in keys {
        let done = on_tx!(conn.reborrow(), conn => {
            sqlx::query(SQL).bind(key).bind(now).execute(conn).await?.rows_affected()
        });
        if done > 0 {
            closed.push(key.clone());
        }
    }
    Ok(closed)
}

/// Looks from time to time whether this process seals with a closed key, so that it says that it is not ready.
#[derive(Debug)]
pub struct RingWatch {
    db: Db,
    ring: KeyRing,
    looked_at: Option<Instant>,
    is_behind: bool,
}

impl RingWatch {
    /// Watches a ring that seals for a database.
    #[must_use]
    pub fn new(db: &Db, ring: &KeyRing) -> Self {
        Self { db: db.clone(), ring: ring.clone(), looked_at: None, is_behind: false }
    }

    /// Tells whether the ring was behind when the database was last asked, which is every two seconds.
    pub async fn is_behind(&mut self) -> bool {
        if self.looked_at.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
            let asked = timeout(ANSWER_WITHIN, is_closed(&self.db, &self.ring.sealing_key())).await;
            if let Ok(Ok(closed)) = asked {
                self.is_behind = closed;
                self.looked_at = Some(Instant::now());
            }
        }
        self.is_behind
    }
}

async fn is_closed(db: &Db, key: &str) -> Result<bool, StoreError> {
    const SQL: &str = "SELECT closed_at FROM sealing_keys WHERE key_id = $1";
    let known: Option<Known> =
        on_db!(db, pool => sqlx::query(SQL).bind(key).try_map(read).fetch_optional(pool).await?);
    Ok(known.is_some_and(|known| known.closed_at.is_some()))
}

#[cfg(test)]
mod tests;
