//! Browser sessions of signed-in people.

use chrono::{DateTime, Utc};
use portico_db::{Conn, Db, StoreError, on_db, on_tx, read};
use portico_ids::{SessionId, UserId};

use super::change::AuditEntry;
use super::row::record;

record! {
    #[derive(Debug, Clone, PartialEq, Eq)]
    struct LoginSession {
        id: SessionId = id,
        token_hash: Vec<u8>,
        user_id: UserId = id,
        user_epoch: i64,
        user_agent: String,
        address: String,
        authenticated_at: DateTime<Utc>,
        last_seen_at: DateTime<Utc>,
        expires_at: DateTime<Utc>,
    }
}

#[derive(Debug, Clone)]
pub(crate) struct SessionStore {
    db: Db,
}

impl SessionStore {
    pub(crate) const fn new(db: Db) -> Self {
        Self { db }
    }

    pub(crate) async fn create(&self, session: &LoginSession, audit: &AuditEntry) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO login_sessions (id, token_hash, user_id, user_epoch, user_agent, address, \
             authenticated_at, last_seen_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        let mut tx = self.db.begin_write().await?;
        on_tx!(&mut tx, conn => sqlx::query(SQL)
            .bind(session.id.as_uuid())
            .bind(&session.token_hash)
            .bind(session.user_id.as_uuid())
            .bind(session.user_epoch)
            .bind(&session.user_agent)
            .bind(&session.address)
            .bind(session.authenticated_at)
            .bind(session.last_seen_at)
            .bind(session.expires_at)
            .execute(conn)
            .await?
            .rows_affected());
        audit.write(Conn::from(&mut tx)).await?;
        tx.commit().await
    }

    pub(crate) async fn find(&self, token_hash: &[u8]) -> Result<Option<LoginSession>, StoreError> {
        const SQL: &str = "SELECT * FROM login_sessions WHERE token_hash = $1";
        Ok(on_db!(&self.db, pool => {
            sqlx::query(SQL).bind(token_hash).try_map(read).fetch_optional(pool).await?
        }))
    }

    pub(crate) async fn list(&self, user: UserId) -> Result<Vec<LoginSession>, StoreError> {
        const SQL: &str =
            "SELECT * FROM login_sessions WHERE user_id = $1 ORDER BY last_seen_at DESC LIMIT 100";
        Ok(on_db!(&self.db, pool => {
            sqlx::query(SQL).bind(user.as_uuid()).try_map(read).fetch_all(pool).await?
        }))
    }

    pub(crate) async fn touch(&self, id: SessionId, now: DateTime<Utc>) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE login_sessions SET last_seen_at = $2 WHERE id = $1";
        on_db!(&self.db, pool => {
            sqlx::query(SQL).bind(id.as_uuid()).bind(now).execute(pool).await.map(drop)?;
        });
        Ok(())
    }

    /// Ends one session of a person; another's is not touched.
    pub(crate) async fn end(
        &self,
        user: UserId,
        id: SessionId,
        audit: &AuditEntry,
    ) -> Result<(), StoreError> {
        const SQL: &str = "DELETE FROM login_sessions WHERE user_id = $1 AND id = $2";
        let mut tx = self.db.begin_write().await?;
        on_tx!(&mut tx, conn => {
            sqlx::query(SQL).bind(user.as_uuid()).bind(id.as_uuid()).execute(conn).await?.rows_affected()
        });
        audit.write(Conn::from(&mut tx)).await?;
        tx.commit().await
    }
}
