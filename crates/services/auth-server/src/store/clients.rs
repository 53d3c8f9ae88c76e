//! OAuth clients: registered dynamically, by an administrator, by a document at their id, or built in.

use chrono::{DateTime, Duration, Utc};
use portico_db::{Conn, Db, FromRow, Row, StoreError, on_db, on_tx, read, revision};
use sqlx::types::Json;

use super::change::{AuditEntry, Change};
use crate::domain::client::Client;

impl FromRow for Client {
    fn from_row(row: &Row<'_>) -> sqlx::Result<Self> {
        Ok(Self {
            client_id: row.get("client_id")?,
            metadata: row.json("metadata")?,
            secret_hash: row.get("secret_hash")?,
            registration: row.parse("registration")?,
            created_at: row.get("created_at")?,
            last_used_at: row.get("last_used_at")?,
        })
    }
}

/// How rarely `last_used_at` is written.
const TOUCH_EVERY: Duration = Duration::hours(1);

#[derive(Debug, Clone)]
pub(crate) struct ClientStore {
    db: Db,
}

impl ClientStore {
    pub(crate) const fn new(db: Db) -> Self {
        Self { db }
    }

    async fn insert(&self, conn: Conn<'_>, client: &Client) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO clients (client_id, metadata, secret_hash, registration, created_at) \
             VALUES ($1, $2, $3, $4, $5)";
        on_tx!(conn, conn => sqlx::query(SQL)
            .bind(&client.client_id)
            .bind(Json(&client.metadata))
            .bind(client.secret_hash.as_deref())
            .bind(client.registration.as_str())
            .bind(client.created_at)
            .execute(conn)
            .await?
            .rows_affected());
        Ok(())
    }

    /// Adds a client that registered itself.
    pub(crate) async fn register(&self, client: &Client, audit: &AuditEntry) -> Result<(), StoreError> {
        let mut tx = self.db.begin_write().await?;
        self.insert(Conn::from(&mut tx), client).await?;
        audit.write(Conn::from(&mut tx)).await?;
        tx.commit().await
    }

    /// Adds or replaces a client whose metadata is at its id.
    pub(crate) async fn put_document(&self, client: &Client, audit: &AuditEntry) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO clients (client_id, metadata, registration, created_at) \
             VALUES ($1, $2, $3, $4) ON CONFLICT (client_id) DO UPDATE SET metadata = excluded.metadata \
             WHERE clients.registration = excluded.registration";
        let mut tx = self.db.begin_write().await?;
        on_tx!(&mut tx, conn => sqlx::query(SQL)
            .bind(&client.client_id)
            .bind(Json(&client.metadata))
            .bind(client.registration.as_str())
            .bind(client.created_at)
            .execute(conn)
            .await?
            .rows_affected());
        audit.write(Conn::from(&mut tx)).await?;
        tx.commit().await
    }

    /// Adds a client for an administrator.
    pub(crate) async fn create(&self, client: &Client, change: &Change) -> Result<(), StoreError> {
        let mut tx = self.db.begin_write().await?;
        let revision = revision::take(&mut tx).await?;
        self.insert(Conn::from(&mut tx), client).await?;
        change.commit(tx, revision).await
    }

    pub(crate) async fn get(&self, client_id: &str) -> Result<Option<Client>, StoreError> {
        const SQL: &str = "SELECT * FROM clients WHERE client_id = $1";
        Ok(on_db!(&self.db, pool => {
            sqlx::query(SQL).bind(client_id).try_map(read).fetch_optional(pool).await?
        }))
    }

    /// Lists by (created, id), after the given one.
    pub(crate) async fn list(
        &self,
        after: Option<(DateTime<Utc>, String)>,
        limit: i64,
    ) -> Result<Vec<Client>, StoreError> {
        const SQL: &str = "SELECT * FROM clients WHERE created_at > $1 OR (created_at = $1 AND client_id > $2) \
             ORDER BY created_at, client_id LIMIT $3";
        let (created, id) = after.unwrap_or((DateTime::UNIX_EPOCH, String::new()));
        Ok(on_db!(&self.db, pool => {
            sqlx::query(SQL).bind(created).bind(&id).bind(limit).try_map(read).fetch_all(pool).await?
        }))
    }

    /// Notes that a client is in use, so that it is not swept away.
    pub(crate) async fn touch(&self, client_id: &str, now: DateTime<Utc>) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE clients SET last_used_at = $2 \
             WHERE client_id = $1 AND (last_used_at IS NULL OR last_used_at < $3)";
        on_db!(&self.db, pool => {
            sqlx::query(SQL).bind(client_id).bind(now).bind(now - TOUCH_EVERY).execute(pool).await.map(drop)?;
        });
        Ok(())
    }

    /// Deletes a client with its consents, codes and refresh tokens.
    pub(crate) async fn delete(&self, client_id: &str, change: &Change) -> Result<(), StoreError> {
        const SQL: &str = "DELETE FROM clients WHERE client_id = $1";
        let mut tx = self.db.begin_write().await?;
        let revision = revision::take(&mut tx).await?;
        let deleted = on_tx!(&mut tx, conn => {
            sqlx::query(SQL).bind(client_id).execute(conn).await?.rows_affected()
        });
        if deleted == 0 {
            return Err(StoreError::NotFound);
        }
        change.commit(tx, revision).await
    }
}
