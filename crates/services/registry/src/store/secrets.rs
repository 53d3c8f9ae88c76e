//! Secrets at rest: sealed before they get here. A deleted one keeps its version, so that versions only grow.

use chrono::{DateTime, Utc};
use portico_db::{Conn, FromRow, Row, StoreError, on_tx, read, scalar};
use sqlx::QueryBuilder;

use crate::domain::secret::{Secret, SecretRef};

impl FromRow for Secret {
    fn from_row(row: &Row<'_>) -> sqlx::Result<Self> {
        let reference: String = row.get("ref")?;
        Ok(Self {
            reference: SecretRef::stored(reference),
            version: row.get("version")?,
            owner: row.parse("owner")?,
            created_at: row.get("created_at")?,
            updated_at: row.get("updated_at")?,
        })
    }
}

/// A secret with its value, still sealed.
#[derive(Debug)]
pub(crate) struct SealedSecret {
    pub(crate) reference: SecretRef,
    pub(crate) version: i64,
    pub(crate) sealed: Vec<u8>,
}

impl FromRow for SealedSecret {
    fn from_row(row: &Row<'_>) -> sqlx::Result<Self> {
        let reference: String = row.get("ref")?;
        Ok(Self {
            reference: SecretRef::stored(reference),
            version: row.get("version")?,
            sealed: row.get("sealed")?,
        })
    }
}

pub(crate) async fn get(conn: Conn<'_>, reference: &SecretRef) -> Result<Option<Secret>, StoreError> {
    const SQL: &str = "SELECT ref, version, owner, created_at, updated_at FROM secrets WHERE ref = $1 AND sealed IS NOT NULL";
    Ok(on_tx!(conn, c => sqlx::query(SQL).bind(reference.as_str()).try_map(read).fetch_optional(c).await?))
}

/// Reads a page of secrets in the order of their references.
pub(crate) async fn list(conn: Conn<'_>, after: Option<&str>, limit: i64) -> Result<Vec<Secret>, StoreError> {
    const SQL: &str = "SELECT ref, version, owner, created_at, updated_at FROM secrets \
                       WHERE sealed IS NOT NULL AND ref > $1 ORDER BY ref LIMIT $2";
    Ok(
        on_tx!(conn, c => sqlx::query(SQL).bind(after.unwrap_or_default()).bind(limit).try_map(read).fetch_all(c).await?),
    )
}

/// Reads the named secrets with their values; those that do not exist are left out.
pub(crate) async fn sealed(
    conn: Conn<'_>,
    references: &[SecretRef],
) -> Result<Vec<SealedSecret>, StoreError> {
    if references.is_empty() {
        return Ok(Vec::new());
    }
    Ok(on_tx!(conn, c => {
        let mut query = QueryBuilder::new("SELECT ref, version, sealed FROM secrets WHERE sealed IS NOT NULL AND ref IN (");
        let mut list = query.separated(", ");
        for reference in references {
            list.push_bind(reference.as_str());
        }
        query.push(")").build().try_map(read).fetch_all(c).await?
    }))
}

/// Answers the version that the next value of this secret gets. Writers are serial, so nobody else gets the same.
pub(crate) async fn next_version(conn: Conn<'_>, reference: &SecretRef) -> Result<i64, StoreError> {
    const SQL: &str = "SELECT version FROM secrets WHERE ref = $1";
    let current: Option<i64> =
        on_tx!(conn, c => sqlx::query(SQL).bind(reference.as_str()).try_map(scalar).fetch_optional(c).await?);
    Ok(current.unwrap_or(0) + 1)
}

/// Writes a value that was sealed for `secret.version`.
pub(crate) async fn put(conn: Conn<'_>, secret: &Secret, sealed: &[u8]) -> Result<(), StoreError> {
    const SQL: &str = "INSERT INTO secrets (ref, version, sealed, owner, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6) \
                       ON CONFLICT (ref) DO UPDATE SET version = excluded.version, sealed = excluded.sealed, \
                       owner = excluded.owner, created_at = excluded.created_at, updated_at = excluded.updated_at";
    on_tx!(conn, c => sqlx::query(SQL)
        .bind(secret.reference.as_str())
        .bind(secret.version)
        .bind(sealed)
        .bind(secret.owner.to_string())
        .bind(secret.created_at)
        .bind(secret.updated_at)
        .execute(c)
        .await
        .map(drop)?);
    Ok(())
}

/// Forgets the value. The version moves on, so that followers notice.
pub(crate) async fn delete(
    conn: Conn<'_>,
    reference: &SecretRef,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    const SQL: &str =
        "UPDATE secrets SET sealed = NULL, version = version + 1, updated_at = $2 WHERE ref = $1";
    on_tx!(conn, c => sqlx::query(SQL).bind(reference.as_str()).bind(now).execute(c).await.map(drop)?);
    Ok(())
}
