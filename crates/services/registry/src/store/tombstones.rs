//! What left the catalogue, kept for those who follow it from an older revision.

use chrono::{DateTime, Utc};
use portico_db::{Conn, FromRow, Row, StoreError, on_tx, read, scalar};

/// Records that the item `key` is gone as of `revision`.
pub(crate) async fn add(
    conn: Conn<'_>,
    key: &str,
    revision: i64,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    const SQL: &str = "INSERT INTO tombstones (key, revision, deleted_at) VALUES ($1, $2, $3)";
    on_tx!(conn, c => sqlx::query(SQL).bind(key).bind(revision).bind(now).execute(c).await.map(drop)?);
    Ok(())
}

struct Key(String);

impl FromRow for Key {
    fn from_row(row: &Row<'_>) -> sqlx::Result<Self> {
        row.get("key").map(Self)
    }
}

/// Reads the keys of items that went after `since`.
pub(crate) async fn after(conn: Conn<'_>, since: i64) -> Result<Vec<String>, StoreError> {
    const SQL: &str = "SELECT key FROM tombstones WHERE revision > $1 ORDER BY revision, key";
    let keys: Vec<Key> = on_tx!(conn, c => sqlx::query(SQL).bind(since).try_map(read).fetch_all(c).await?);
    Ok(keys.into_iter().map(|Key(key)| key).collect())
}

/// The revision up to which tombstones may be missing: a follower from before it needs a snapshot.
pub(crate) async fn horizon(conn: Conn<'_>) -> Result<i64, StoreError> {
    const SQL: &str = "SELECT revision FROM tombstone_horizon WHERE id = 1";
    Ok(on_tx!(conn, c => sqlx::query(SQL).try_map(scalar).fetch_one(c).await?))
}

/// Drops tombstones from before `before` and moves the horizon, inside the caller's transaction.
pub(crate) async fn prune(mut conn: Conn<'_>, before: DateTime<Utc>) -> Result<u64, StoreError> {
    const MOVE: &str = "UPDATE tombstone_horizon SET revision = (SELECT COALESCE(MAX(revision), tombstone_horizon.revision) \
                        FROM tombstones WHERE deleted_at < $1) WHERE id = 1";
    const DROP: &str = "DELETE FROM tombstones WHERE deleted_at < $1";
    on_tx!(conn.reborrow(), c => sqlx::query(MOVE).bind(before).execute(c).await.map(drop)?);
    Ok(on_tx!(conn, c => sqlx::query(DROP).bind(before).execute(c).await?.rows_affected()))
}
