//! Sealed columns: which key of the ring holds their values, and wrapping the values anew after a rotation.
//!
//! The state of a rewrap is the rows themselves: it may stop anywhere, start again from nothing, and run twice at
//! once. A row is replaced only while it still holds what was read.

mod fence;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use portico_sealing::{Aad, KeyAge, OpenError, RingKey, Sealer};
use sqlx::{AssertSqlSafe, QueryBuilder};

use crate::{AnyRow, Conn, Row, StoreError, on_tx, scalar};

pub use fence::{RingWatch, admit};

/// A column whose values a [`Sealer`] has sealed for `Aad { table, row, field: column, version }`.
#[derive(Clone, Copy, Debug)]
pub struct SealedColumn {
    /// The table.
    pub table: &'static str,
    /// The column, which may be null.
    pub column: &'static str,
    /// The table's primary key.
    pub key: &'static [KeyColumn],
    /// The column that holds the value's version; without one it is always 1.
    pub version: Option<&'static str>,
    /// Makes the associated data's `row` from the key.
    pub row: fn(&[KeyPart]) -> String,
}

/// A column of a primary key.
#[derive(Clone, Copy, Debug)]
pub enum KeyColumn {
    /// It holds text.
    Text(&'static str),
    /// It holds bytes.
    Bytes(&'static str),
}

impl KeyColumn {
    const fn name(self) -> &'static str {
        match self {
            Self::Text(name) | Self::Bytes(name) => name,
        }
    }

    fn read(self, row: &Row<'_>) -> sqlx::Result<KeyPart> {
        match self {
            Self::Text(name) => row.get(name).map(KeyPart::Text),
            Self::Bytes(name) => row.get(name).map(KeyPart::Bytes),
        }
    }
}

/// The value of a [`KeyColumn`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPart {
    /// Of a text column.
    Text(String),
    /// Of a column of bytes.
    Bytes(Vec<u8>),
}

/// How many values each key of the ring holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyUse {
    /// By key id, every asked one.
    pub by_key: BTreeMap<String, i64>,
    /// Values that none of the asked keys holds.
    pub unknown: i64,
}

/// What one step of a rewrap did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrapped {
    /// Retired keys that may not seal any more since this step.
    pub closed: Vec<String>,
    /// Values that the sealing key holds now.
    pub rewrapped: u32,
    /// Values that do not open: their key is not in the ring, or they were changed.
    pub unreadable: u32,
    /// Where the next step goes on; nothing when this was the last.
    pub next: Option<Position>,
}

/// Where a rewrap stands: a column, and how many unreadable values of it lie behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    column: usize,
    skip: u32,
}

impl Position {
    /// Reads what [`Position::to_text`] wrote; the empty text is the start.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::default());
        }
        let (column, skip) = text.split_once('.')?;
        Some(Self { column: column.parse().ok()?, skip: skip.parse().ok()? })
    }

    /// Writes it for a caller who brings it back.
    #[must_use]
    pub fn to_text(self) -> String {
        format!("{}.{}", self.column, self.skip)
    }
}

struct SealedRow {
    key: Vec<KeyPart>,
    version: i64,
    sealed: Vec<u8>,
}

impl SealedColumn {
    fn key_names(&self) -> String {
        self.key.iter().map(|column| column.name()).collect::<Vec<_>>().join(", ")
    }

    fn read<R: AnyRow>(&self, row: &R) -> sqlx::Result<SealedRow> {
        let row = row.as_row();
        Ok(SealedRow {
            key: self.key.iter().map(|column| column.read(&row)).collect::<Result<_, _>>()?,
            version: self.version.map_or(Ok(1), |version| row.get(version))?,
            sealed: row.get(self.column)?,
        })
    }

    /// Reads values that another key than `current` holds, in the order of their keys.
    async fn others(
        &self,
        conn: Conn<'_>,
        current: &[u8],
        (limit, skip): (u32, u32),
    ) -> Result<Vec<SealedRow>, StoreError> {
        let Self { table, column, .. } = self;
        let key = self.key_names();
        let version = self.version.map(|version| format!(", {version}")).unwrap_or_default();
        let sql = format!(
            "SELECT {key}{version}, {column} FROM {table} WHERE {column} IS NOT NULL \
             AND substr({column}, 1, $1) <> $2 ORDER BY {key} LIMIT $3 OFFSET $4"
        );
        Ok(on_tx!(conn, c => sqlx::query(AssertSqlSafe(sql))
            .bind(length(current))
            .bind(current)
            .bind(i64::from(limit))
            .bind(i64::from(skip))
            .try_map(|row| self.read(&row))
            .fetch_all(c)
            .await?))
    }

    /// Replaces a value if it is still the one that was read.
    async fn replace(&self, conn: Conn<'_>, row: &SealedRow, value: &[u8]) -> Result<bool, StoreError> {
        let done = on_tx!(conn, c => {
            let mut query = QueryBuilder::new(format!("UPDATE {} SET {} = ", self.table, self.column));
            query.push_bind(value).push(format!(" WHERE {} = ", self.column)).push_bind(row.sealed.as_slice());
            for (column, part) in self.key.iter().zip(&row.key) {
                query.push(format!(" AND {} = ", column.name()));
                match part {
                    KeyPart::Text(text) => query.push_bind(text.as_str()),
                    KeyPart::Bytes(bytes) => query.push_bind(bytes.as_slice()),
                };
            }
            query.build().execute(c).await?.rows_affected()
        });
        Ok(done > 0)
    }

    fn rewrap(&self, sealer: &Sealer, row: &SealedRow) -> Result<Option<Vec<u8>>, OpenError> {
        let name = (self.row)(&row.key);
        let aad = Aad { table: self.table, row: &name, field: self.column, version: row.version };
        sealer.rewrap(&aad, &row.sealed)
    }

    async fn count(&self, conn: Conn<'_>, prefix: &[u8]) -> Result<i64, StoreError> {
        let Self { table, column, .. } = self;
        let sql = format!(
            "SELECT COUNT(*) FROM {table} WHERE {column} IS NOT NULL AND substr({column}, 1, $1) = $2"
        );
        Ok(on_tx!(conn, c => sqlx::query(AssertSqlSafe(sql))
            .bind(length(prefix))
            .bind(prefix)
            .try_map(scalar)
            .fetch_one(c)
            .await?))
    }
}

/// Counts the values that each key holds.
pub async fn key_use(
    mut conn: Conn<'_>,
    columns: &[SealedColumn],
    key_ids: &[String],
) -> Result<KeyUse, StoreError> {
    let mut found = KeyUse::default();
    for column in columns {
        // The empty prefix is every value's.
        found.unknown += column.count(conn.reborrow(), &[]).await?;
        for id in key_ids {
            let count = column.count(conn.reborrow(), &Sealer::prefix(id)).await?;
            *found.by_key.entry(id.clone()).or_default() += count;
            found.unknown -= count;
        }
    }
    Ok(found)
}

/// Wraps at most `limit` values of one column with the key that seals now, inside the caller's transaction.
///
/// Each step closes the ring's retired keys first, so that none of them seals a value behind the rewrap's back.
pub async fn rewrap(
    mut conn: Conn<'_>,
    sealer: &Sealer,
    columns: &[SealedColumn],
    (position, limit, now): (Position, u32, DateTime<Utc>),
) -> Result<Rewrapped, StoreError> {
    let keys = sealer.ring().keys();
    let sealing = ids(&keys, |age| age == KeyAge::Sealing).pop().unwrap_or_default();
    fence::admit_key(conn.reborrow(), &sealing).await?;
    let retired = ids(&keys, |age| matches!(age, KeyAge::Retired { .. }));
    let closed = fence::close(conn.reborrow(), &retired, now).await?;
    let mut done = Rewrapped { closed, ..Rewrapped::default() };
    let Some(column) = columns.get(position.column) else { return Ok(done) };
    let current = Sealer::prefix(&sealing);
    let rows = column.others(conn.reborrow(), &current, (limit, position.skip)).await?;
    for row in &rows {
        match column.rewrap(sealer, row) {
            Ok(None) => {}
            Ok(Some(value)) => {
                let replaced = column.replace(conn.reborrow(), row, &value).await?;
                done.rewrapped += u32::from(replaced);
            }
            Err(error) => {
                tracing::error!(db.table = column.table, %error, "a sealed value cannot be wrapped with the new key");
                done.unreadable += 1;
            }
        }
    }
    let full = u32::try_from(rows.len()).is_ok_and(|rows| rows >= limit);
    let here = Position { column: position.column, skip: position.skip + done.unreadable };
    let next = Position { column: position.column + 1, skip: 0 };
    done.next = if full { Some(here) } else { (next.column < columns.len()).then_some(next) };
    Ok(done)
}

fn ids(keys: &[RingKey], is_wanted: impl Fn(KeyAge) -> bool) -> Vec<String> {
    keys.iter().filter(|key| is_wanted(key.age)).map(|key| key.id.clone()).collect()
}

/// Both databases take the length of a prefix as a 32-bit number.
fn length(prefix: &[u8]) -> i32 {
    i32::try_from(prefix.len()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
