//! The trust feed as rows: what verifiers follow, and the only place where revocations live.

use chrono::{DateTime, Utc};
use portico_db::{Db, StoreError, on_db, on_tx, read, revision};

use super::change::{Change, TrustWrite};
use super::row::record;

record! {
    #[derive(Debug, Clone, PartialEq, Eq)]
    struct TrustRow {
        key: String,
        value: Vec<u8>,
        removed: bool,
        revision: i64,
        not_before: Option<DateTime<Utc>>,
        expires_at: Option<DateTime<Utc>>,
    }
}

/// What changed since a revision, or everything.
#[derive(Debug)]
pub(crate) struct TrustChanges {
    pub(crate) snapshot: bool,
    pub(crate) rows: Vec<TrustRow>,
    pub(crate) revision: i64,
}

#[derive(Debug, Clone)]
pub(crate) struct TrustStore {
    db: Db,
}

impl TrustStore {
    pub(crate) const fn new(db: Db) -> Self {
        Self { db }
    }

    pub(crate) async fn revision(&self) -> Result<i64, StoreError> {
        revision::current(&self.db).await
    }

    /// Reads what a follower at `since` lacks. A follower from the future (a restored database) gets everything.
    pub(crate) async fn changes(&self, since: Option<i64>) -> Result<TrustChanges, StoreError> {
        const FLOOR: &str = "SELECT value FROM trust_floor WHERE id = 1";
        const CHANGED: &str = "SELECT * FROM trust_items WHERE revision > $1 ORDER BY revision, key";
        const ALL: &str = "SELECT * FROM trust_items WHERE removed = FALSE ORDER BY key";
        // Read first: rows that commit in between are then sent twice rather than never.
        let revision = self.revision().await?;
        let floor: i64 = on_db!(&self.db, pool => sqlx::query_scalar(FLOOR).fetch_one(pool).await?);
        let Some(since) = since.filter(|since| *since > 0 && *since >= floor && *since <= revision) else {
            let rows = on_db!(&self.db, pool => sqlx::query(ALL).try_map(read).fetch_all(pool).await?);
            return Ok(TrustChanges { snapshot: true, rows, revision });
        };
        let rows = on_db!(&self.db, pool => {
            sqlx::query(CHANGED).bind(since).try_map(read).fetch_all(pool).await?
        });
        Ok(TrustChanges { snapshot: false, rows, revision })
    }

    /// Reads one item that still stands.
    pub(crate) async fn get(&self, key: &str) -> Result<Option<TrustRow>, StoreError> {
        const SQL: &str = "SELECT * FROM trust_items WHERE key = $1 AND removed = FALSE";
        Ok(on_db!(&self.db, pool => sqlx::query(SQL).bind(key).try_map(read).fetch_optional(pool).await?))
    }

    /// Publishes what no other row goes with: the revocation of one token.
    pub(crate) async fn publish(&self, change: &Change) -> Result<(), StoreError> {
        let mut tx = self.db.begin_write().await?;
        let revision = revision::take(&mut tx).await?;
        change.commit(tx, revision).await
    }

    /// Withdraws revocations and keys whose time is over, without an audit row: nothing was decided.
    pub(crate) async fn withdraw_expired(&self, now: DateTime<Utc>) -> Result<u64, StoreError> {
        const SEEN: &str = "SELECT COUNT(*) FROM trust_items WHERE removed = FALSE AND expires_at <= $1";
        const WITHDRAW: &str = "UPDATE trust_items SET removed = TRUE, revision = $2, changed_at = $1 \
             WHERE removed = FALSE AND expires_at <= $1";
        const KEYS: &str = "DELETE FROM signing_keys WHERE retires_at <= $1";
        let seen: i64 = on_db!(&self.db, pool => sqlx::query_scalar(SEEN).bind(now).fetch_one(pool).await?);
        if seen == 0 {
            return Ok(0);
        }
        let mut tx = self.db.begin_write().await?;
        let revision = revision::take(&mut tx).await?;
        let withdrawn = on_tx!(&mut tx, conn => {
            sqlx::query(WITHDRAW).bind(now).bind(revision).execute(conn).await?.rows_affected()
        });
        on_tx!(&mut tx, conn => sqlx::query(KEYS).bind(now).execute(conn).await?.rows_affected());
        tx.commit().await?;
        Ok(withdrawn)
    }
}

impl TrustWrite {
    /// The key that it writes.
    pub(crate) fn key(&self) -> &str {
        match self {
            Self::Put(entry) => &entry.key,
            Self::Remove(key) => key,
        }
    }

    /// Tells whether it would change nothing about an item that stands.
    pub(crate) fn says(&self, value: &[u8]) -> bool {
        matches!(self, Self::Put(entry) if entry.value == value)
    }
}
