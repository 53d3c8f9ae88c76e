//! Postgres and SQLite behind one enum, migrations, outbox, revisions.
//!
//! SQL is written once. [`on_db!`] compiles a statement for both drivers, [`on_tx!`] does the same inside a
//! transaction, and [`FromRow`] reads a row of either through one piece of code:
//!
//! ```
//! use chrono::{DateTime, Utc};
//! use portico_db::{Db, FromRow, Row, StoreError, on_db, on_tx, read, revision};
//! use uuid::Uuid;
//!
//! struct Note { id: Uuid, title: String, tags: Vec<String>, revision: i64, created_at: DateTime<Utc> }
//!
//! impl FromRow for Note {
//!     fn from_row(row: &Row<'_>) -> sqlx::Result<Self> {
//!         Ok(Self {
//!             id: row.get("id")?,             // also: row.id("id") for an id newtype
//!             title: row.get("title")?,       // also: row.parse("state") for text that FromStr reads
//!             tags: row.json("tags")?,        // jsonb on Postgres, text on SQLite
//!             revision: row.get("revision")?,
//!             created_at: row.get("created_at")?,
//!         })
//!     }
//! }
//!
//! struct NoteStore { db: Db }
//!
//! impl NoteStore {
//!     async fn get(&self, id: Uuid) -> Result<Note, StoreError> {
//!         const SQL: &str = "SELECT * FROM note WHERE id = $1";
//!         on_db!(&self.db, pool => sqlx::query(SQL).bind(id).try_map(read).fetch_optional(pool).await?)
//!             .ok_or(StoreError::NotFound)
//!     }
//!
//!     async fn list(&self, after: Option<Uuid>, limit: i64) -> Result<Vec<Note>, StoreError> {
//!         Ok(on_db!(&self.db, pool => {
//!             let mut q = sqlx::QueryBuilder::new("SELECT * FROM note WHERE 1 = 1");
//!             if let Some(id) = after { q.push(" AND id > ").push_bind(id); }
//!             q.push(" ORDER BY id LIMIT ").push_bind(limit);
//!             q.build().try_map(read).fetch_all(pool).await?
//!         }))
//!     }
//!
//!     /// Renames a note if nobody else changed it: one compare-and-set.
//!     async fn rename(&self, id: Uuid, title: &str, expected: i64) -> Result<i64, StoreError> {
//!         let mut tx = self.db.begin_write().await?;
//!         let seen: Option<i64> = on_tx!(&mut tx, conn => {
//!             sqlx::query("SELECT revision FROM note WHERE id = $1").bind(id).try_map(portico_db::scalar).fetch_optional(conn).await?
//!         });
//!         let current = seen.ok_or(StoreError::NotFound)?;
//!         if current != expected { return Err(StoreError::Stale { current }); }
//!         // The last row that a writing transaction takes, so that revision order is commit order.
//!         let revision = revision::take(&mut tx).await?;
//!         const SQL: &str = "UPDATE note SET title = $2, revision = $3 WHERE id = $1 AND revision = $4";
//!         let done = on_tx!(&mut tx, conn => sqlx::query(SQL).bind(id).bind(title).bind(revision).bind(expected).execute(conn).await?.rows_affected());
//!         if done == 0 { return Err(StoreError::Stale { current: revision }); }
//!         tx.commit().await?;
//!         Ok(revision)
//!     }
//! }
//! ```
//!
//! Column types that both drivers agree on (SQLite tables are `STRICT`):
//!
//! | Rust | Postgres | SQLite |
//! |---|---|---|
//! | `Uuid` and id newtypes | `uuid` | `blob` |
//! | `String`, enums as text | `text` | `text` |
//! | `Vec<u8>` | `bytea` | `blob` |
//! | `i64` | `bigint` | `integer` |
//! | `bool` | `boolean` | `integer` |
//! | `DateTime<Utc>` (to the microsecond) | `timestamptz` | `text` (sorts as the time does) |
//! | `sqlx::types::Json<T>` | `jsonb` | `text` |

mod connect;
mod db;
mod duty;
mod error;
pub mod idempotency;
mod migrate;
pub mod outbox;
mod page;
mod retention;
pub mod revision;
mod row;
pub mod sealed;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod wait;

pub use connect::{DbSettings, OpenError};
pub use db::{BeginWrite, Conn, Db, Tx};
pub use duty::Duty;
pub use error::StoreError;
pub use migrate::{
    Fit, MIGRATION_TABLES, MigrateError, Migrated, Migration, Schema, SchemaMismatch, TABLES_POSTGRES,
    TABLES_SQLITE, check_compatible, check_schema, migrate,
};
pub use page::{InvalidPageToken, PageToken};
pub use retention::removable_before;
pub use row::{AnyRow, Column, FromRow, Row, read, scalar};
pub use wait::{Wait, WaitError, wait_for_database};

#[cfg(test)]
mod tests;
