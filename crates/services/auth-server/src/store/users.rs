//! People and what they sign in with.

use chrono::{DateTime, Utc};
use portico_db::{Conn, Db, StoreError, Tx, on_db, on_tx, read, revision};
use portico_ids::UserId;
use uuid::Uuid;

use super::administrators::{RemovalError, keep_one};
use super::change::Change;
use super::grants::Grant;
use super::row::record;

record! {
    #[derive(Debug, Clone, PartialEq, Eq)]
    struct User {
        id: UserId = id,
        username: String,
        display_name: String,
        email: String,
        disabled: bool,
        epoch: i64,
        revision: i64,
        created_at: DateTime<Utc>,
        updated_at: DateTime<Utc>,
    }
}

/// A person as asked for; the hash is in PHC form.
#[derive(Debug)]
pub(crate) struct NewUser {
    pub(crate) id: UserId,
    pub(crate) username: String,
    pub(crate) display_name: String,
    pub(crate) email: String,
    pub(crate) password_hash: String,
}

/// What an update may change; `None` stays.
#[derive(Debug, Default)]
pub(crate) struct UserUpdate {
    pub(crate) display_name: Option<String>,
    pub(crate) email: Option<String>,
    pub(crate) disabled: Option<bool>,
}

#[derive(Debug, Clone)]
pub(crate) struct UserStore {
    db: Db,
}

impl UserStore {
    pub(crate) const fn new(db: Db) -> Self {
        Self { db }
    }

    pub(crate) async fn create(&self, new: &NewUser, change: &Change) -> Result<User, StoreError> {
        let mut tx = self.db.begin_write().await?;
        let revision = revision::take(&mut tx).await?;
        let user = insert(&mut tx, new, (revision, change.audit.occurred_at)).await?;
        change.commit(tx, revision).await?;
        Ok(user)
    }

    /// Creates a person who may administer, if nobody may yet.
    pub(crate) async fn create_first_administrator(
        &self,
        new: &NewUser,
        grant: &Grant,
        change: &Change,
    ) -> Result<bool, StoreError> {
        const HELD: &str = "SELECT COUNT(*) FROM grants WHERE role_id = $1";
        let mut tx = self.db.begin_write().await?;
        // The revision's row lock makes this the only seeding under way.
        let revision = revision::take(&mut tx).await?;
        let held: i64 = on_tx!(&mut tx, conn => {
            sqlx::query_scalar(HELD).bind(grant.role_id.as_uuid()).fetch_one(conn).await?
        });
        if held > 0 {
            return Ok(false);
        }
        insert(&mut tx, new, (revision, change.audit.occurred_at)).await?;
        grant.insert(&mut tx).await?;
        change.commit(tx, revision).await?;
        Ok(true)
    }

    pub(crate) async fn get(&self, id: UserId) -> Result<Option<User>, StoreError> {
        const SQL: &str = "SELECT * FROM users WHERE id = $1";
        Ok(
            on_db!(&self.db, pool => sqlx::query(SQL).bind(id.as_uuid()).try_map(read).fetch_optional(pool).await?),
        )
    }

    pub(crate) async fn find(&self, username: &str) -> Result<Option<User>, StoreError> {
        const SQL: &str = "SELECT * FROM users WHERE username = $1";
        Ok(
            on_db!(&self.db, pool => sqlx::query(SQL).bind(username).try_map(read).fetch_optional(pool).await?),
        )
    }

    pub(crate) async fn password_hash(&self, id: UserId) -> Result<Option<String>, StoreError> {
        const SQL: &str = "SELECT password_hash FROM credentials WHERE user_id = $1";
        Ok(on_db!(&self.db, pool => sqlx::query_scalar(SQL).bind(id.as_uuid()).fetch_optional(pool).await?))
    }

    pub(crate) async fn list(&self, after: Option<Uuid>, limit: i64) -> Result<Vec<User>, StoreError> {
        const SQL: &str = "SELECT * FROM users WHERE id > $1 ORDER BY id LIMIT $2";
        let after = after.unwrap_or(Uuid::nil());
        Ok(
            on_db!(&self.db, pool => sqlx::query(SQL).bind(after).bind(limit).try_map(read).fetch_all(pool).await?),
        )
    }

    /// Changes a person; being disabled ends every session and refresh token (the epoch rises).
    pub(crate) async fn update(
        &self,
        id: UserId,
        expected: i64,
        update: &UserUpdate,
        change: &Change,
    ) -> Result<User, RemovalError> {
        const SQL: &str = "UPDATE users SET display_name = COALESCE($3, display_name), email = COALESCE($4, email), \
             epoch = CASE WHEN $5 AND NOT disabled THEN epoch + 1 ELSE epoch END, \
             disabled = COALESCE($6, disabled), revision = $7, updated_at = $8 \
             WHERE id = $1 AND revision = $2 RETURNING *";
        let disables = update.disabled == Some(true);
        let mut tx = self.db.begin_write().await?;
        let revision = revision::take(&mut tx).await?;
        if disables {
            keep_one(Conn::from(&mut tx), id).await?;
        }
        let user: Option<User> = on_tx!(&mut tx, conn => sqlx::query(SQL)
            .bind(id.as_uuid()).bind(expected)
            .bind(update.display_name.as_deref()).bind(update.email.as_deref())
            .bind(disables).bind(update.disabled)
            .bind(revision).bind(change.audit.occurred_at)
            .try_map(read).fetch_optional(conn).await?);
        if user.is_some() {
            change.commit(tx, revision).await?;
        }
        match user {
            Some(user) => Ok(user),
            None => match self.get(id).await? {
                Some(current) => Err(StoreError::Stale { current: current.revision }.into()),
                None => Err(StoreError::NotFound.into()),
            },
        }
    }

    /// Replaces the password and ends every session and refresh token.
    pub(crate) async fn set_password(
        &self,
        id: UserId,
        password_hash: &str,
        change: &Change,
    ) -> Result<(), StoreError> {
        const USER: &str = "UPDATE users SET epoch = epoch + 1, revision = $2, updated_at = $3 WHERE id = $1 RETURNING epoch";
        const CREDENTIAL: &str = "INSERT INTO credentials (user_id, password_hash, changed_at) VALUES ($1, $2, $3) \
             ON CONFLICT (user_id) DO UPDATE SET password_hash = excluded.password_hash, changed_at = excluded.changed_at";
        let now = change.audit.occurred_at;
        let mut tx = self.db.begin_write().await?;
        let revision = revision::take(&mut tx).await?;
        let epoch: Option<i64> = on_tx!(&mut tx, conn => sqlx::query_scalar(USER)
            .bind(id.as_uuid()).bind(revision).bind(now).fetch_optional(conn).await?);
        if epoch.is_none() {
            return Err(StoreError::NotFound);
        }
        on_tx!(&mut tx, conn => sqlx::query(CREDENTIAL).bind(id.as_uuid()).bind(password_hash).bind(now).execute(conn).await?.rows_affected());
        change.commit(tx, revision).await?;
        Ok(())
    }

    /// Deletes a person with everything that hangs on the account.
    pub(crate) async fn delete(&self, id: UserId, change: &Change) -> Result<(), RemovalError> {
        const GRANTS: &str = "DELETE FROM grants WHERE principal = $1";
        const USER: &str = "DELETE FROM users WHERE id = $1";
        let mut tx = self.db.begin_write().await?;
        let revision = revision::take(&mut tx).await?;
        keep_one(Conn::from(&mut tx), id).await?;
        on_tx!(&mut tx, conn => sqlx::query(GRANTS).bind(format!("user:{id}")).execute(conn).await?.rows_affected());
        let deleted = on_tx!(&mut tx, conn => sqlx::query(USER).bind(id.as_uuid()).execute(conn).await?.rows_affected());
        if deleted == 0 {
            return Err(StoreError::NotFound.into());
        }
        change.commit(tx, revision).await?;
        Ok(())
    }
}

async fn insert(
    tx: &mut Tx,
    new: &NewUser,
    (revision, now): (i64, DateTime<Utc>),
) -> Result<User, StoreError> {
    const USER: &str = "INSERT INTO users (id, username, display_name, email, disabled, epoch, revision, created_at, \
         updated_at) VALUES ($1, $2, $3, $4, FALSE, 1, $5, $6, $6) RETURNING *";
    const CREDENTIAL: &str =
        "INSERT INTO credentials (user_id, password_hash, changed_at) VALUES ($1, $2, $3)";
    let user: User = on_tx!(&mut *tx, conn => sqlx::query(USER)
        .bind(new.id.as_uuid())
        .bind(&new.username)
        .bind(&new.display_name)
        .bind(&new.email)
        .bind(revision)
        .bind(now)
        .try_map(read)
        .fetch_one(conn)
        .await?);
    on_tx!(&mut *tx, conn => sqlx::query(CREDENTIAL)
        .bind(new.id.as_uuid())
        .bind(&new.password_hash)
        .bind(now)
        .execute(conn)
        .await?
        .rows_affected());
    Ok(user)
}
