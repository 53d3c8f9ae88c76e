//! Where it is kept: one module per entity, SQL beside the rows that it makes.
//!
//! Every function works on a borrowed connection, so the same one serves a read and a step of a transaction.

pub(crate) mod audit;
pub(crate) mod capabilities;
pub(crate) mod catalogue;
pub(crate) mod endpoints;
pub(crate) mod instances;
pub(crate) mod schema;
pub(crate) mod secrets;
pub(crate) mod servers;
pub(crate) mod tombstones;

use chrono::{DateTime, Utc};
use portico_db::{Conn, Db, StoreError};
use serde::{Deserialize, Serialize};
use sqlx::pool::PoolConnection;
use uuid::Uuid;

/// A connection for reading.
pub(crate) enum Session {
    Postgres(PoolConnection<sqlx::Postgres>),
    Sqlite(PoolConnection<sqlx::Sqlite>),
}

impl Session {
    pub(crate) async fn open(db: &Db) -> Result<Self, StoreError> {
        Ok(match db {
            Db::Postgres(pool) => Self::Postgres(pool.acquire().await?),
            Db::Sqlite(pool) => Self::Sqlite(pool.acquire().await?),
        })
    }

    pub(crate) fn conn(&mut self) -> Conn<'_> {
        match self {
            Self::Postgres(conn) => Conn::Postgres(conn),
            Self::Sqlite(conn) => Conn::Sqlite(conn),
        }
    }
}

/// Where a list goes on: order is (created, id).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) id: Uuid,
}

#[cfg(test)]
mod tests;
