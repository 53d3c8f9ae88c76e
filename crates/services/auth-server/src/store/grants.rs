//! Grants: principal → role → endpoint.

use chrono::{DateTime, Utc};
use portico_db::{Conn, Db, StoreError, Tx, on_db, on_tx, read, revision};
use portico_ids::{GrantId, PrincipalId, RoleId};
use sqlx::QueryBuilder;
use uuid::Uuid;

use super::administrators::{RemovalError, is_administrator, keep_one};
use super::change::Change;
use super::row::record;
use crate::domain::entitlement::EVERYWHERE;

record! {
    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Grant {
        id: GrantId = id,
        principal: String,
        role_id: RoleId = id,
        role_name: String,
        endpoint: String,
        created_at: DateTime<Utc>,
    }
}

const SELECT: &str = "SELECT g.id, g.principal, g.role_id, r.name AS role_name, g.endpoint, g.created_at \
     FROM grants g JOIN roles r ON r.id = g.role_id";

#[derive(Debug, Clone)]
pub(crate) struct GrantStore {
    db: Db,
}

impl GrantStore {
    pub(crate) const fn new(db: Db) -> Self {
        Self { db }
    }

    pub(crate) async fn create(&self, grant: &Grant, change: &Change) -> Result<(), StoreError> {
        let mut tx = self.db.begin_write().await?;
        let revision = revision::take(&mut tx).await?;
        grant.insert(&mut tx).await?;
        change.commit(tx, revision).await
    }

    pub(crate) async fn get(&self, id: GrantId) -> Result<Option<Grant>, StoreError> {
        Ok(on_db!(&self.db, pool => {
            let mut query = QueryBuilder::new(SELECT);
            query.push(" WHERE g.id = ").push_bind(id.as_uuid());
            query.build().try_map(read).fetch_optional(pool).await?
        }))
    }

    pub(crate) async fn list(
        &self,
        principal: Option<&str>,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<Grant>, StoreError> {
        Ok(on_db!(&self.db, pool => {
            let mut query = QueryBuilder::new(SELECT);
            query.push(" WHERE g.id > ").push_bind(after.unwrap_or(Uuid::nil()));
            if let Some(principal) = principal {
                query.push(" AND g.principal = ").push_bind(principal.to_owned());
            }
            query.push(" ORDER BY g.id LIMIT ").push_bind(limit);
            query.build().try_map(read).fetch_all(pool).await?
        }))
    }

    /// Everything that a principal holds.
    pub(crate) async fn of(&self, principal: &str) -> Result<Vec<Grant>, StoreError> {
        self.list(Some(principal), None, i64::from(u16::MAX)).await
    }

    /// The principals that hold a role.
    pub(crate) async fn holders(&self, role: RoleId) -> Result<Vec<String>, StoreError> {
        const SQL: &str = "SELECT DISTINCT principal FROM grants WHERE role_id = $1";
        Ok(on_db!(&self.db, pool => sqlx::query_scalar(SQL).bind(role.as_uuid()).fetch_all(pool).await?))
    }

    pub(crate) async fn delete(&self, grant: &Grant, change: &Change) -> Result<(), RemovalError> {
        const SQL: &str = "DELETE FROM grants WHERE id = $1";
        let mut tx = self.db.begin_write().await?;
        let revision = revision::take(&mut tx).await?;
        if is_administrator(grant.role_id)
            && grant.endpoint == EVERYWHERE
            && let Ok(PrincipalId::User(user)) = grant.principal.parse()
        {
            keep_one(Conn::from(&mut tx), user).await?;
        }
        let deleted = on_tx!(&mut tx, conn => sqlx::query(SQL).bind(grant.id.as_uuid()).execute(conn).await?.rows_affected());
        if deleted == 0 {
            return Err(StoreError::NotFound.into());
        }
        change.commit(tx, revision).await?;
        Ok(())
    }
}

impl Grant {
    pub(super) async fn insert(&self, tx: &mut Tx) -> Result<(), StoreError> {
        const SQL: &str =
            "INSERT INTO grants (id, principal, role_id, endpoint, created_at) VALUES ($1, $2, $3, $4, $5)";
        on_tx!(tx, conn => sqlx::query(SQL)
            .bind(self.id.as_uuid())
            .bind(&self.principal)
            .bind(self.role_id.as_uuid())
            .bind(&self.endpoint)
            .bind(self.created_at)
            .execute(conn)
            .await?
            .rows_affected());
        Ok(())
    }
}
