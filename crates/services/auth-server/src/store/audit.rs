//! What happened, by whom: rows are only ever added.

use chrono::{DateTime, Utc};
use portico_db::{Conn, Db, StoreError, on_db, read};
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
