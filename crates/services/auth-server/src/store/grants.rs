//! Grants: principal → role → endpoint.

use chrono::{DateTime, Utc};
use portico_db::{Conn, Db, StoreError, Tx, on_db, on_tx, read, revision};
use portico_ids::{EndpointId, GrantId, PrincipalId, RoleId};
use sqlx::QueryBuilder;
use uuid::Uuid;

use super::administrators::{RemovalError, is_administrator, keep_one};
use super::change::Change;
use super::row::record;
use crate::domain::entitlement::EVERYWHERE;

record! {
    /// `endpoint_id` is the endpoint that had the name then; none if it holds everywhere or has not been looked up yet.
    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Grant {
        id: GrantId = id,
        principal: String,
        role_id: RoleId = id,
        role_name: String,
        endpoint: String,
        endpoint_id: Option<Uuid>,
        created_at: DateTime<Utc>,
    }
}

const SELECT: &str = "SELECT g.id, g.principal, g.role_id, r.name AS role_name, g.endpoint, g.endpoint_id, \
     g.created_at \
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
        // What was given for an earlier endpoint of this name is worth nothing, and would be in the way.
        const REPLACE: &str = "DELETE FROM grants WHERE principal = $1 AND role_id = $2 AND endpoint = $3 \
             AND endpoint_id <> $4";
        let mut tx = self.db.begin_write().await?;
        let revision = revision::take(&mut tx).await?;
        on_tx!(&mut tx, conn => sqlx::query(REPLACE)
            .bind(&grant.principal)
            .bind(grant.role_id.as_uuid())
            .bind(&grant.endpoint)
            .bind(grant.endpoint_id)
            .execute(conn)
            .await
            .map(drop)?);
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

    /// The grants for one endpoint.
    pub(crate) async fn on(&self, endpoint: EndpointId) -> Result<Vec<Grant>, StoreError> {
        Ok(on_db!(&self.db, pool => {
            let mut query = QueryBuilder::new(SELECT);
            query.push(" WHERE g.endpoint_id = ").push_bind(endpoint.as_uuid()).push(" ORDER BY g.id");
            query.build().try_map(read).fetch_all(pool).await?
        }))
    }

    /// The grants for endpoints that have not been looked up.
    pub(crate) async fn unbound(&self) -> Result<Vec<Grant>, StoreError> {
        Ok(on_db!(&self.db, pool => {
            let mut query = QueryBuilder::new(SELECT);
            query.push(" WHERE g.endpoint_id IS NULL AND g.endpoint <> ").push_bind(EVERYWHERE);
            query.build().try_map(read).fetch_all(pool).await?
        }))
    }

    /// The endpoints that grants are for, by the name that each had.
    pub(crate) async fn endpoints(&self) -> Result<Vec<(String, EndpointId)>, StoreError> {
        const SQL: &str = "SELECT DISTINCT endpoint, endpoint_id FROM grants WHERE endpoint_id IS NOT NULL";
        let rows: Vec<(String, Uuid)> = on_db!(&self.db, pool => sqlx::query_as(SQL).fetch_all(pool).await?);
        Ok(rows.into_iter().map(|(name, id)| (name, EndpointId::from(id))).collect())
    }

    /// Notes which endpoint a grant is for. Nothing is decided by that, so there is no audit row.
    pub(crate) async fn bind(&self, grant: GrantId, endpoint: EndpointId) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE grants SET endpoint_id = $2 WHERE id = $1 AND endpoint_id IS NULL";
        let (grant, endpoint) = (grant.as_uuid(), endpoint.as_uuid());
        on_db!(&self.db, pool => sqlx::query(SQL).bind(grant).bind(endpoint).execute(pool).await.map(drop)?);
        Ok(())
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
    /// What the audit calls it.
    pub(crate) fn described(&self) -> String {
        format!("{} on {}", self.role_name, self.endpoint)
    }

    pub(super) async fn insert(&self, tx: &mut Tx) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO grants (id, principal, role_id, endpoint, endpoint_id, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6)";
        on_tx!(tx, conn => sqlx::query(SQL)
            .bind(self.id.as_uuid())
            .bind(&self.principal)
            .bind(self.role_id.as_uuid())
            .bind(&self.endpoint)
            .bind(self.endpoint_id)
            .bind(self.created_at)
            .execute(conn)
            .await?
            .rows_affected());
        Ok(())
    }
}
