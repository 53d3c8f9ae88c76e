//! Service accounts: programs with an identity of their own.

use chrono::{DateTime, Utc};
use portico_db::{Conn, Db, StoreError, Tx, on_db, on_tx, read, revision};
use portico_ids::ServiceAccountId;
use uuid::Uuid;

use super::change::Change;
use super::grants::Grant;
use super::row::record;

record! {
    #[derive(Debug, Clone, PartialEq, Eq)]
    struct ServiceAccount {
        id: ServiceAccountId = id,
        name: String,
        description: String,
        secret_hash: Vec<u8>,
        disabled: bool,
        revision: i64,
        created_at: DateTime<Utc>,
    }
}

#[derive(Debug, Clone)]
pub(crate) struct ServiceAccountStore {
    db: Db,
}

impl ServiceAccountStore {
    pub(crate) const fn new(db: Db) -> Self {
        Self { db }
    }

    /// Creates an account; the revision in `account` is replaced by the one taken.
    pub(crate) async fn create(
        &self,
        account: &ServiceAccount,
        change: &Change,
    ) -> Result<ServiceAccount, StoreError> {
        const SQL: &str = "INSERT INTO service_accounts (id, name, description, secret_hash, disabled, revision, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING *";
        let mut tx = self.db.begin_write().await?;
        let revision = revision::take(&mut tx).await?;
        let created: ServiceAccount = on_tx!(&mut tx, conn => sqlx::query(SQL)
            .bind(account.id.as_uuid()).bind(&account.name).bind(&account.description)
            .bind(&account.secret_hash).bind(account.disabled).bind(revision).bind(account.created_at)
            .try_map(read).fetch_one(conn).await?);
        change.commit(tx, revision).await?;
        Ok(created)
    }

    /// Creates an account as the operator's settings describe it, with what it may do, and remembers the seed.
    pub(crate) async fn create_seeded(
        &self,
        account: &ServiceAccount,
        grant: &Grant,
        [created, granted]: [&Change; 2],
    ) -> Result<(), StoreError> {
        const ACCOUNT: &str = "INSERT INTO service_accounts (id, name, description, secret_hash, disabled, revision, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)";
        const SEED: &str = "INSERT INTO service_account_seeds (id, secret_hash) VALUES ($1, $2)";
        let mut tx = self.db.begin_write().await?;
        let revision = revision::take(&mut tx).await?;
        on_tx!(&mut tx, conn => sqlx::query(ACCOUNT)
            .bind(account.id.as_uuid()).bind(&account.name).bind(&account.description)
            .bind(&account.secret_hash).bind(account.disabled).bind(revision).bind(account.created_at)
            .execute(conn).await.map(drop)?);
        on_tx!(&mut tx, conn => sqlx::query(SEED).bind(account.id.as_uuid()).bind(&account.secret_hash)
            .execute(conn).await.map(drop)?);
        grant.insert(&mut tx).await?;
        created.audit.write(Conn::from(&mut tx)).await?;
        granted.commit(tx, revision).await
    }

    /// The hash of the secret that the account was last seeded with, which outlives the account.
    pub(crate) async fn seeded(&self, id: ServiceAccountId) -> Result<Option<Vec<u8>>, StoreError> {
        const SQL: &str = "SELECT secret_hash FROM service_account_seeds WHERE id = $1";
        Ok(on_db!(&self.db, pool => sqlx::query_scalar(SQL).bind(id.as_uuid()).fetch_optional(pool).await?))
    }

    /// Remembers the seed of an account that is there, and changes nothing about it.
    pub(crate) async fn remember_seed(&self, id: ServiceAccountId, hash: &[u8]) -> Result<(), StoreError> {
        const SQL: &str =
            "INSERT INTO service_account_seeds (id, secret_hash) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING";
        on_db!(&self.db, pool => sqlx::query(SQL).bind(id.as_uuid()).bind(hash).execute(pool).await.map(drop)?);
        Ok(())
    }

    /// Replaces the secret because the operator seeds another one than `last`; nothing happens if somebody else has
    /// done so meanwhile.
    pub(crate) async fn seed_secret(
        &self,
        id: ServiceAccountId,
        (last, next): (&[u8], &[u8]),
        change: &Change,
    ) -> Result<(), StoreError> {
        const SEED: &str =
            "UPDATE service_account_seeds SET secret_hash = $3 WHERE id = $1 AND secret_hash = $2";
        let mut tx = self.db.begin_write().await?;
        let revision = revision::take(&mut tx).await?;
        let changed = on_tx!(&mut tx, conn => sqlx::query(SEED).bind(id.as_uuid()).bind(last).bind(next)
            .execute(conn).await?.rows_affected());
        if changed == 0 {
            return Ok(());
        }
        replace_secret(&mut tx, id, next, revision).await?;
        change.commit(tx, revision).await
    }

    pub(crate) async fn get(&self, id: ServiceAccountId) -> Result<Option<ServiceAccount>, StoreError> {
        const SQL: &str = "SELECT * FROM service_accounts WHERE id = $1";
        Ok(
            on_db!(&self.db, pool => sqlx::query(SQL).bind(id.as_uuid()).try_map(read).fetch_optional(pool).await?),
        )
    }

    pub(crate) async fn find(&self, name: &str) -> Result<Option<ServiceAccount>, StoreError> {
        const SQL: &str = "SELECT * FROM service_accounts WHERE name = $1";
        Ok(on_db!(&self.db, pool => sqlx::query(SQL).bind(name).try_map(read).fetch_optional(pool).await?))
    }

    pub(crate) async fn list(
        &self,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<ServiceAccount>, StoreError> {
        const SQL: &str = "SELECT * FROM service_accounts WHERE id > $1 ORDER BY id LIMIT $2";
        let after = after.unwrap_or(Uuid::nil());
        Ok(
            on_db!(&self.db, pool => sqlx::query(SQL).bind(after).bind(limit).try_map(read).fetch_all(pool).await?),
        )
    }

    pub(crate) async fn update(
        &self,
        id: ServiceAccountId,
        expected: i64,
        (description, disabled): (Option<&str>, Option<bool>),
        change: &Change,
    ) -> Result<ServiceAccount, StoreError> {
        const SQL: &str = "UPDATE service_accounts SET description = COALESCE($3, description), \
             disabled = COALESCE($4, disabled), revision = $5 WHERE id = $1 AND revision = $2 RETURNING *";
        let mut tx = self.db.begin_write().await?;
        let revision = revision::take(&mut tx).await?;
        let updated: Option<ServiceAccount> = on_tx!(&mut tx, conn => sqlx::query(SQL)
            .bind(id.as_uuid()).bind(expected).bind(description).bind(disabled).bind(revision)
            .try_map(read).fetch_optional(conn).await?);
        if updated.is_some() {
            change.commit(tx, revision).await?;
        }
        match updated {
            Some(account) => Ok(account),
            None => match self.get(id).await? {
                Some(current) => Err(StoreError::Stale { current: current.revision }),
                None => Err(StoreError::NotFound),
            },
        }
    }

    /// Replaces the secret; the old one stops working with the commit.
    pub(crate) async fn set_secret(
        &self,
        id: ServiceAccountId,
        secret_hash: &[u8],
        change: &Change,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin_write().await?;
        let revision = revision::take(&mut tx).await?;
        replace_secret(&mut tx, id, secret_hash, revision).await?;
        change.commit(tx, revision).await
    }

    pub(crate) async fn delete(&self, id: ServiceAccountId, change: &Change) -> Result<(), StoreError> {
        const GRANTS: &str = "DELETE FROM grants WHERE principal = $1";
        const ACCOUNT: &str = "DELETE FROM service_accounts WHERE id = $1";
        let mut tx = self.db.begin_write().await?;
        let revision = revision::take(&mut tx).await?;
        on_tx!(&mut tx, conn => sqlx::query(GRANTS).bind(format!("service-account:{id}")).execute(conn).await?.rows_affected());
        if on_tx!(&mut tx, conn => sqlx::query(ACCOUNT).bind(id.as_uuid()).execute(conn).await?.rows_affected())
            == 0
        {
            return Err(StoreError::NotFound);
        }
        change.commit(tx, revision).await?;
        Ok(())
    }
}

async fn replace_secret(
    tx: &mut Tx,
    id: ServiceAccountId,
    secret_hash: &[u8],
    revision: i64,
) -> Result<(), StoreError> {
    const SQL: &str = "UPDATE service_accounts SET secret_hash = $2, revision = $3 WHERE id = $1";
    let changed = on_tx!(tx, conn => sqlx::query(SQL).bind(id.as_uuid()).bind(secret_hash).bind(revision)
        .execute(conn).await?.rows_affected());
    if changed == 0 { Err(StoreError::NotFound) } else { Ok(()) }
}
