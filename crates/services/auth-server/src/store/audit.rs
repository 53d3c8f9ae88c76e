//! What happened, by whom: rows are only ever added, and removed when their time is over.

use chrono::{DateTime, TimeDelta, Utc};
use portico_db::{Conn, Db, StoreError, on_db, on_tx, read};
use portico_ids::AuditId;
use sqlx::QueryBuilder;
use uuid::Uuid;

use super::change::AuditEntry;
use super::row::record;

record! {
    #[derive(Debug, Clone)]
    struct AuditRow {
        id: Uuid,
        seq: i64,
        occurred_at: DateTime<Utc>,
        principal: String,
        client_id: String,
        action: String,
        target: String,
        name: String,
        outcome: String,
        reason: String,
        correlation_id: String,
        trace_id: String,
        peer: String,
    }
}

#[derive(Debug, Default)]
pub(crate) struct AuditFilter {
    pub(crate) principal: Option<String>,
    pub(crate) action: Option<String>,
    pub(crate) correlation_id: Option<String>,
}

/// How many of the first rows are looked at for what is old: clocks that differ put a few younger ones before it.
const LOOKED_AT: i64 = 10_000;

#[derive(Debug, Clone)]
pub(crate) struct AuditStore {
    db: Db,
}

impl AuditStore {
    pub(crate) const fn new(db: Db) -> Self {
        Self { db }
    }

    /// Records what changed nothing here: a sign-in, a refusal.
    pub(crate) async fn append(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        let mut tx = self.db.begin_write().await?;
        entry.write(Conn::from(&mut tx)).await?;
        tx.commit().await
    }

    /// Records in one transaction what may have been recorded already without an answer.
    pub(crate) async fn append_once(&self, entries: &[AuditEntry]) -> Result<(), StoreError> {
        const KNOWN: &str = "SELECT EXISTS(SELECT 1 FROM audit WHERE id = $1)";
        let mut tx = self.db.begin_write().await?;
        for entry in entries {
            let known: bool = on_tx!(&mut tx, conn => sqlx::query_scalar(KNOWN).bind(entry.id)
                .fetch_one(conn).await?);
            if !known {
                entry.write(Conn::from(&mut tx)).await?;
            }
        }
        tx.commit().await
    }

    /// The moment that is `kept` ago, unless clocks contradict each other.
    pub(crate) async fn removable_before(
        &self,
        now: DateTime<Utc>,
        kept: TimeDelta,
    ) -> Result<Option<DateTime<Utc>>, StoreError> {
        portico_db::removable_before(&self.db, now, kept).await
    }

    /// Lets rows from before a moment be removed, which the table itself refuses otherwise, and records that. False:
    /// there are none.
    pub(crate) async fn allow_removal(
        &self,
        before: DateTime<Utc>,
        entry: &AuditEntry,
    ) -> Result<bool, StoreError> {
        const FIRST: &str = "SELECT COALESCE(MIN(first.occurred_at) < $1, FALSE) FROM \
             (SELECT occurred_at FROM audit ORDER BY seq LIMIT $2) AS first";
        const ALLOW: &str = "UPDATE audit_horizon SET removable_to = $1 WHERE id = 1 AND removable_to < $1";
        let mut tx = self.db.begin_write().await?;
        let old: bool = on_tx!(&mut tx, conn => sqlx::query_scalar(FIRST).bind(before).bind(LOOKED_AT)
            .fetch_one(conn).await?);
        if !old {
            return Ok(false);
        }
        on_tx!(&mut tx, conn => sqlx::query(ALLOW).bind(before).execute(conn).await.map(drop)?);
        entry.write(Conn::from(&mut tx)).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Removes up to `limit` of the first rows that are from before a moment, and answers how many it removed.
    pub(crate) async fn remove(&self, before: DateTime<Utc>, limit: i64) -> Result<u64, StoreError> {
        // The first by number are the oldest but for differences of clocks: no other index is needed.
        const SQL: &str = "DELETE FROM audit WHERE id IN (SELECT first.id FROM \
             (SELECT id, occurred_at FROM audit ORDER BY seq LIMIT $3) AS first WHERE first.occurred_at < $1 LIMIT $2)";
        Ok(on_db!(&self.db, pool => {
            sqlx::query(SQL).bind(before).bind(limit).bind(LOOKED_AT).execute(pool).await?.rows_affected()
        }))
    }

    /// Where a row stands in the order in which rows became durable.
    pub(crate) async fn position(&self, id: AuditId) -> Result<Option<i64>, StoreError> {
        const SQL: &str = "SELECT seq FROM audit WHERE id = $1";
        Ok(on_db!(&self.db, pool => sqlx::query_scalar(SQL).bind(id.as_uuid()).fetch_optional(pool).await?))
    }

    /// Lists rows after a position, oldest first.
    pub(crate) async fn after(
        &self,
        position: i64,
        filter: &AuditFilter,
        limit: i64,
    ) -> Result<Vec<AuditRow>, StoreError> {
        self.select(Some(position), filter, limit).await
    }

    /// Lists the newest rows, oldest first.
    pub(crate) async fn newest(&self, filter: &AuditFilter, limit: i64) -> Result<Vec<AuditRow>, StoreError> {
        let mut rows = self.select(None, filter, limit).await?;
        rows.reverse();
        Ok(rows)
    }

    async fn select(
        &self,
        after: Option<i64>,
        filter: &AuditFilter,
        limit: i64,
    ) -> Result<Vec<AuditRow>, StoreError> {
        Ok(on_db!(&self.db, pool => {
            let mut query = QueryBuilder::new("SELECT * FROM audit WHERE 1 = 1");
            if let Some(principal) = &filter.principal {
                query.push(" AND principal = ").push_bind(principal.clone());
            }
            if let Some(action) = &filter.action {
                query.push(" AND action = ").push_bind(action.clone());
            }
            if let Some(correlation) = &filter.correlation_id {
                query.push(" AND correlation_id = ").push_bind(correlation.clone());
            }
            if let Some(after) = after {
                query.push(" AND seq > ").push_bind(after);
            }
            query.push(if after.is_some() { " ORDER BY seq LIMIT " } else { " ORDER BY seq DESC LIMIT " });
            query.push_bind(limit);
            query.build().try_map(read).fetch_all(pool).await?
        }))
    }
}
