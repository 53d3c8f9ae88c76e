//! Roles: named groups of permissions and Cedar policies.

use portico_db::{Db, StoreError, on_db, on_tx, read, revision};
use portico_ids::RoleId;
use sqlx::types::Json;
use uuid::Uuid;

use super::change::Change;
use super::row::record;

record! {
    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Role {
        id: RoleId = id,
        name: String,
        description: String,
        policies: String,
        permissions: Vec<String> = json,
        builtin: bool,
        revision: i64,
    }
}

#[derive(Debug, Clone)]
pub(crate) struct RoleStore {
    db: Db,
}

impl RoleStore {
    pub(crate) const fn new(db: Db) -> Self {
        Self { db }
    }

    /// Creates a role; the revision in `role` is replaced by the one taken.
    pub(crate) async fn create(&self, role: &Role, change: &Change) -> Result<Role, StoreError> {
        const SQL: &str = "INSERT INTO roles (id, name, description, policies, permissions, builtin, revision) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING *";
        let mut tx = self.db.begin_write().await?;
        let revision = revision::take(&mut tx).await?;
        let created: Role = on_tx!(&mut tx, conn => sqlx::query(SQL)
            .bind(role.id.as_uuid()).bind(&role.name).bind(&role.description).bind(&role.policies)
            .bind(Json(&role.permissions)).bind(role.builtin).bind(revision)
            .try_map(read).fetch_one(conn).await?);
        change.commit(tx, revision).await?;
        Ok(created)
    }

    pub(crate) async fn get(&self, id: RoleId) -> Result<Option<Role>, StoreError> {
        const SQL: &str = "SELECT * FROM roles WHERE id = $1";
        Ok(
            on_db!(&self.db, pool => sqlx::query(SQL).bind(id.as_uuid()).try_map(read).fetch_optional(pool).await?),
        )
    }

    pub(crate) async fn find(&self, name: &str) -> Result<Option<Role>, StoreError> {
        const SQL: &str = "SELECT * FROM roles WHERE name = $1";
        Ok(on_db!(&self.db, pool => sqlx::query(SQL).bind(name).try_map(read).fetch_optional(pool).await?))
    }

    pub(crate) async fn list(&self, after: Option<Uuid>, limit: i64) -> Result<Vec<Role>, StoreError> {
        const SQL: &str = "SELECT * FROM roles WHERE id > $1 ORDER BY id LIMIT $2";
        let after = after.unwrap_or(Uuid::nil());
        Ok(
            on_db!(&self.db, pool => sqlx::query(SQL).bind(after).bind(limit).try_map(read).fetch_all(pool).await?),
        )
    }

    /// Replaces what a role says, if `role.revision` is still its revision.
    pub(crate) async fn update(&self, role: &Role, change: &Change) -> Result<Role, StoreError> {
        const SQL: &str = "UPDATE roles SET description = $3, policies = $4, permissions = $5, revision = $6 \
             WHERE id = $1 AND revision = $2 RETURNING *";
        let mut tx = self.db.begin_write().await?;
        let revision = revision::take(&mut tx).await?;
        let updated: Option<Role> = on_tx!(&mut tx, conn => sqlx::query(SQL)
            .bind(role.id.as_uuid()).bind(role.revision).bind(&role.description).bind(&role.policies)
            .bind(Json(&role.permissions)).bind(revision)
            .try_map(read).fetch_optional(conn).await?);
        if updated.is_some() {
            change.commit(tx, revision).await?;
        }
        match updated {
            Some(role) => Ok(role),
            None => match self.get(role.id).await? {
                Some(current) => Err(StoreError::Stale { current: current.revision }),
                None => Err(StoreError::NotFound),
            },
        }
    }

    /// Deletes a role and the grants of it.
    pub(crate) async fn delete(&self, id: RoleId, change: &Change) -> Result<(), StoreError> {
        const SQL: &str = "DELETE FROM roles WHERE id = $1";
        let mut tx = self.db.begin_write().await?;
        let revision = revision::take(&mut tx).await?;
        if on_tx!(&mut tx, conn => sqlx::query(SQL).bind(id.as_uuid()).execute(conn).await?.rows_affected())
            == 0
        {
            return Err(StoreError::NotFound);
        }
        change.commit(tx, revision).await?;
        Ok(())
    }
}
