//! What a person allowed a client to do, remembered per resource.

use chrono::{DateTime, Utc};
use portico_db::{Conn, Db, StoreError, on_db, on_tx, read};
use portico_ids::UserId;
use portico_oauth_types::ScopeSet;
use uuid::Uuid;

use super::change::AuditEntry;
use super::row::{record, scopes_column};

record! {
    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Consent {
        id: Uuid,
        user_id: UserId = id,
        client_id: String,
        resource: String,
        scopes: ScopeSet = scopes,
        metadata_hash: Vec<u8>,
        granted_at: DateTime<Utc>,
    }
}

#[derive(Debug, Clone)]
pub(crate) struct ConsentStore {
    db: Db,
}

impl ConsentStore {
    pub(crate) const fn new(db: Db) -> Self {
        Self { db }
    }

    pub(crate) async fn find(
        &self,
        user: UserId,
        client_id: &str,
        resource: &str,
    ) -> Result<Option<Consent>, StoreError> {
        const SQL: &str = "SELECT * FROM consents WHERE user_id = $1 AND client_id = $2 AND resource = $3";
        Ok(on_db!(&self.db, pool => sqlx::query(SQL)
            .bind(user.as_uuid())
            .bind(client_id)
            .bind(resource)
            .try_map(read)
            .fetch_optional(pool)
            .await?))
    }

    /// Remembers the newest consent; it replaces the one before.
    pub(crate) async fn put(&self, consent: &Consent, audit: &AuditEntry) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO consents (id, user_id, client_id, resource, scopes, metadata_hash, granted_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (user_id, client_id, resource) DO UPDATE \
             SET scopes = excluded.scopes, metadata_hash = excluded.metadata_hash, granted_at = excluded.granted_at";
        let mut tx = self.db.begin_write().await?;
        on_tx!(&mut tx, conn => sqlx::query(SQL)
            .bind(consent.id)
            .bind(consent.user_id.as_uuid())
            .bind(&consent.client_id)
            .bind(&consent.resource)
            .bind(scopes_column(consent.scopes))
            .bind(&consent.metadata_hash)
            .bind(consent.granted_at)
            .execute(conn)
            .await?
            .rows_affected());
        audit.write(Conn::from(&mut tx)).await?;
        tx.commit().await
    }

    /// Forgets what a client was allowed, with the codes that it has not redeemed yet.
    pub(crate) async fn forget(&self, user: UserId, client_id: &str) -> Result<(), StoreError> {
        const CONSENTS: &str = "DELETE FROM consents WHERE user_id = $1 AND client_id = $2";
        const CODES: &str = "DELETE FROM authorization_codes \
             WHERE user_id = $1 AND client_id = $2 AND redeemed_at IS NULL";
        let mut tx = self.db.begin_write().await?;
        for sql in [CONSENTS, CODES] {
            on_tx!(&mut tx, conn => {
                sqlx::query(sql).bind(user.as_uuid()).bind(client_id).execute(conn).await?.rows_affected()
            });
        }
        tx.commit().await
    }
}
