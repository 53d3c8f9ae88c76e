//! Refresh tokens: families of one authorization, rotated with a compare-and-set.

use chrono::{DateTime, Utc};
use portico_db::sealed::admit;
use portico_db::{Conn, Db, StoreError, on_db, on_tx, read, revision};
use portico_ids::{SessionId, UserId};
use portico_oauth_types::ScopeSet;
use uuid::Uuid;

use super::change::{AuditEntry, Change};
use super::row::{record, scopes_column};

record! {
    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Family {
        id: Uuid,
        client_id: String,
        user_id: UserId = id,
        user_epoch: i64,
        session_id: SessionId = id,
        issuer: String,
        resource: String,
        scopes: ScopeSet = scopes,
        offline: bool,
        authenticated_at: DateTime<Utc>,
        created_at: DateTime<Utc>,
        last_used_at: DateTime<Utc>,
        expires_at: DateTime<Utc>,
        revoked_at: Option<DateTime<Utc>>,
    }
}

record! {
    #[derive(Debug, Clone, PartialEq, Eq)]
    struct RefreshToken {
        token_hash: Vec<u8>,
        family_id: Uuid,
        used_at: Option<DateTime<Utc>>,
        grace_until: Option<DateTime<Utc>>,
        successor_hash: Option<Vec<u8>>,
        successor_sealed: Option<Vec<u8>>,
    }
}

/// One step of a chain of refresh tokens.
#[derive(Debug)]
pub(crate) struct Rotation<'a> {
    pub(crate) token_hash: &'a [u8],
    pub(crate) successor_hash: &'a [u8],
    pub(crate) successor_sealed: &'a [u8],
    pub(crate) now: DateTime<Utc>,
    pub(crate) grace_until: DateTime<Utc>,
}

#[derive(Debug, Clone)]
pub(crate) struct FamilyStore {
    db: Db,
}

impl FamilyStore {
    pub(crate) const fn new(db: Db) -> Self {
        Self { db }
    }

    /// Starts a family, with its first refresh token if the client may refresh.
    pub(crate) async fn create(
        &self,
        family: &Family,
        first_hash: Option<&[u8]>,
        audit: &AuditEntry,
    ) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO token_families (id, client_id, user_id, user_epoch, session_id, issuer, resource, \
             scopes, offline, authenticated_at, created_at, last_used_at, expires_at, revoked_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
        let mut tx = self.db.begin_write().await?;
        on_tx!(&mut tx, conn => sqlx::query(SQL)
            .bind(family.id)
            .bind(&family.client_id)
            .bind(family.user_id.as_uuid())
            .bind(family.user_epoch)
            .bind(family.session_id.as_uuid())
            .bind(&family.issuer)
            .bind(&family.resource)
            .bind(scopes_column(family.scopes))
            .bind(family.offline)
            .bind(family.authenticated_at)
            .bind(family.created_at)
            .bind(family.last_used_at)
            .bind(family.expires_at)
            .bind(family.revoked_at)
            .execute(conn)
            .await?
            .rows_affected());
        if let Some(hash) = first_hash {
            insert_token(Conn::from(&mut tx), hash, family.id, family.created_at).await?;
        }
        audit.write(Conn::from(&mut tx)).await?;
        tx.commit().await
    }

    pub(crate) async fn get(&self, id: Uuid) -> Result<Option<Family>, StoreError> {
        const SQL: &str = "SELECT * FROM token_families WHERE id = $1";
        Ok(on_db!(&self.db, pool => sqlx::query(SQL).bind(id).try_map(read).fetch_optional(pool).await?))
    }

    pub(crate) async fn find_token(&self, token_hash: &[u8]) -> Result<Option<RefreshToken>, StoreError> {
        const SQL: &str = "SELECT * FROM refresh_tokens WHERE token_hash = $1";
        Ok(on_db!(&self.db, pool => {
            sqlx::query(SQL).bind(token_hash).try_map(read).fetch_optional(pool).await?
        }))
    }

    /// Uses a token up and adds its successor. `false`: somebody else was first, or the family is dead.
    pub(crate) async fn rotate(&self, rotation: &Rotation<'_>) -> Result<bool, StoreError> {
        const USE: &str = "UPDATE refresh_tokens SET used_at = $2, grace_until = $3, successor_hash = $4, \
             successor_sealed = $5 WHERE token_hash = $1 AND used_at IS NULL AND family_id IN \
             (SELECT id FROM token_families WHERE revoked_at IS NULL) RETURNING family_id";
        const TOUCH: &str = "UPDATE token_families SET last_used_at = $2 WHERE id = $1";
        let mut tx = self.db.begin_write().await?;
        admit(&mut tx, rotation.successor_sealed).await?;
        let family: Option<Uuid> = on_tx!(&mut tx, conn => sqlx::query_scalar(USE)
            .bind(rotation.token_hash)
            .bind(rotation.now)
            .bind(rotation.grace_until)
            .bind(rotation.successor_hash)
            .bind(rotation.successor_sealed)
            .fetch_optional(conn)
            .await?);
        let Some(family) = family else { return Ok(false) };
        insert_token(Conn::from(&mut tx), rotation.successor_hash, family, rotation.now).await?;
        on_tx!(&mut tx, conn => sqlx::query(TOUCH).bind(family).bind(rotation.now).execute(conn).await?.rows_affected());
        tx.commit().await?;
        Ok(true)
    }

    /// Kills a family once; `false` if it was dead already.
    pub(crate) async fn revoke(&self, id: Uuid, reason: &str, change: &Change) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE token_families SET revoked_at = $2, revoked_reason = $3 \
             WHERE id = $1 AND revoked_at IS NULL";
        let mut tx = self.db.begin_write().await?;
        let revision = revision::take(&mut tx).await?;
        let revoked = on_tx!(&mut tx, conn => sqlx::query(SQL)
            .bind(id)
            .bind(change.audit.occurred_at)
            .bind(reason)
            .execute(conn)
            .await?
            .rows_affected());
        if revoked == 0 {
            return Ok(false);
        }
        change.commit(tx, revision).await?;
        Ok(true)
    }

    /// Lists what is alive for a person.
    pub(crate) async fn alive(&self, user: UserId, now: DateTime<Utc>) -> Result<Vec<Family>, StoreError> {
        const SQL: &str = "SELECT * FROM token_families WHERE user_id = $1 AND revoked_at IS NULL AND expires_at > $2 \
             ORDER BY last_used_at DESC LIMIT 500";
        Ok(on_db!(&self.db, pool => {
            sqlx::query(SQL).bind(user.as_uuid()).bind(now).try_map(read).fetch_all(pool).await?
        }))
    }

    /// Lists the ids of the living families that a person gave a client.
    pub(crate) async fn given(&self, user: UserId, client_id: &str) -> Result<Vec<Uuid>, StoreError> {
        const SQL: &str = "SELECT id FROM token_families \
             WHERE user_id = $1 AND client_id = $2 AND revoked_at IS NULL";
        Ok(on_db!(&self.db, pool => {
            sqlx::query_scalar(SQL).bind(user.as_uuid()).bind(client_id).fetch_all(pool).await?
        }))
    }

    /// Lists the ids of a client's living families, oldest use last.
    pub(crate) async fn of_client(&self, client_id: &str) -> Result<Vec<Uuid>, StoreError> {
        const SQL: &str = "SELECT id FROM token_families WHERE client_id = $1 AND revoked_at IS NULL";
        Ok(on_db!(&self.db, pool => sqlx::query_scalar(SQL).bind(client_id).fetch_all(pool).await?))
    }
}

async fn insert_token(
    conn: Conn<'_>,
    token_hash: &[u8],
    family: Uuid,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    const SQL: &str = "INSERT INTO refresh_tokens (token_hash, family_id, created_at) VALUES ($1, $2, $3)";
    on_tx!(conn, conn => sqlx::query(SQL).bind(token_hash).bind(family).bind(now).execute(conn).await?.rows_affected());
    Ok(())
}
