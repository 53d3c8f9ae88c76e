//! Answers to creates, repeated for a repeated request id.

use chrono::{DateTime, Utc};
use portico_db::idempotency::REMEMBERED;
use portico_db::{Db, StoreError, on_db, read};

use super::row::record;

record! {
    #[derive(Debug, Clone, PartialEq, Eq)]
    struct StoredAnswer {
        digest: Vec<u8>,
        answer: Vec<u8>,
    }
}

#[derive(Debug, Clone)]
pub(crate) struct IdempotencyStore {
    db: Db,
}

impl IdempotencyStore {
    pub(crate) const fn new(db: Db) -> Self {
        Self { db }
    }

    pub(crate) async fn find(
        &self,
        scope: &str,
        request_id: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<StoredAnswer>, StoreError> {
        const SQL: &str = "SELECT digest, answer FROM idempotency \
             WHERE scope = $1 AND request_id = $2 AND answer IS NOT NULL AND created_at >= $3";
        Ok(on_db!(&self.db, pool => sqlx::query(SQL)
            .bind(scope)
            .bind(request_id)
            .bind(now - REMEMBERED)
            .try_map(read)
            .fetch_optional(pool)
            .await?))
    }
}
