//! Instances at rest, and which secrets they refer to.

use portico_db::{Conn, FromRow, Row, StoreError, on_tx, read};
use portico_ids::{InstanceId, ServerId};
use sqlx::QueryBuilder;
use sqlx::types::Json;

use super::Position;
use super::servers::missing_or_stale;
use crate::domain::instance::{Health, Instance, InstanceDetails};
use crate::domain::secret::SecretRef;

impl FromRow for Instance {
    fn from_row(row: &Row<'_>) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.id("id")?,
            server_id: row.id("server_id")?,
            details: InstanceDetails {
                name: row.get("name")?,
                description: row.get("description")?,
                json_spec: row.json("json_spec")?,
            },
            health: Health {
                status: row.parse("status")?,
                reason: row.get("status_reason")?,
                protocol_versions: row.json("protocol_versions")?,
                checked_at: row.get("checked_at")?,
            },
            created_at: row.get("created_at")?,
            updated_at: row.get("updated_at")?,
            revision: row.get("revision")?,
        })
    }
}

pub(crate) async fn get(conn: Conn<'_>, id: InstanceId) -> Result<Option<Instance>, StoreError> {
    const SQL: &str = "SELECT * FROM instances WHERE id = $1";
    Ok(on_tx!(conn, c => sqlx::query(SQL).bind(id.as_uuid()).try_map(read).fetch_optional(c).await?))
}

/// Reads every instance of a server, oldest first.
pub(crate) async fn of_server(conn: Conn<'_>, server_id: ServerId) -> Result<Vec<Instance>, StoreError> {
    const SQL: &str = "SELECT * FROM instances WHERE server_id = $1 ORDER BY created_at, id";
    Ok(on_tx!(conn, c => sqlx::query(SQL).bind(server_id.as_uuid()).try_map(read).fetch_all(c).await?))
}

/// Reads every instance that refers to a secret.
pub(crate) async fn referring_to(conn: Conn<'_>, reference: &SecretRef) -> Result<Vec<Instance>, StoreError> {
    const SQL: &str =
        "SELECT * FROM instances WHERE id IN (SELECT instance_id FROM instance_secrets WHERE ref = $1)";
    Ok(on_tx!(conn, c => sqlx::query(SQL).bind(reference.as_str()).try_map(read).fetch_all(c).await?))
}

/// Which instances to list, oldest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct InstancePage {
    pub(crate) after: Option<Position>,
    pub(crate) limit: i64,
    pub(crate) server_id: Option<ServerId>,
}

pub(crate) async fn list(conn: Conn<'_>, page: &InstancePage) -> Result<Vec<Instance>, StoreError> {
    Ok(on_tx!(conn, c => {
        let mut query = QueryBuilder::new("SELECT * FROM instances WHERE 1 = 1");
        if let Some(server_id) = page.server_id {
            query.push(" AND server_id = ").push_bind(server_id.as_uuid());
        }
        if let Some(after) = page.after {
            query.push(" AND (created_at, id) > (").push_bind(after.created_at).push(", ").push_bind(after.id).push(")");
        }
        query.push(" ORDER BY created_at, id LIMIT ").push_bind(page.limit);
        query.build().try_map(read).fetch_all(c).await?
    }))
}

/// Adds an instance; a name that the server has already is [`StoreError::AlreadyExists`].
pub(crate) async fn insert(
    mut conn: Conn<'_>,
    instance: &Instance,
    secrets: &[SecretRef],
) -> Result<(), StoreError> {
    const SQL: &str = "INSERT INTO instances (id, server_id, name, description, json_spec, status, status_reason, \
                       protocol_versions, checked_at, created_at, updated_at, revision, feed_revision) \
                       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12)";
    let Instance { details, health, .. } = instance;
    on_tx!(conn.reborrow(), c => sqlx::query(SQL)
        .bind(instance.id.as_uuid())
        .bind(instance.server_id.as_uuid())
        .bind(&details.name)
        .bind(&details.description)
        .bind(Json(&details.json_spec))
        .bind(health.status.as_str())
        .bind(&health.reason)
        .bind(Json(&health.protocol_versions))
        .bind(health.checked_at)
        .bind(instance.created_at)
        .bind(instance.updated_at)
        .bind(instance.revision)
        .execute(c)
        .await
        .map(drop)?);
    refer(conn, instance.id, secrets).await
}

/// Writes the details and health of an instance that stands at `expected`.
pub(crate) async fn update(
    mut conn: Conn<'_>,
    instance: &Instance,
    secrets: &[SecretRef],
    expected: i64,
) -> Result<(), StoreError> {
    const SQL: &str = "UPDATE instances SET name = $2, description = $3, json_spec = $4, status = $5, status_reason = $6, \
                       protocol_versions = $7, checked_at = $8, updated_at = $9, revision = $10, feed_revision = $10 \
                       WHERE id = $1 AND revision = $11";
    const FORGET: &str = "DELETE FROM instance_secrets WHERE instance_id = $1";
    let Instance { details, health, .. } = instance;
    let done = on_tx!(conn.reborrow(), c => sqlx::query(SQL)
        .bind(instance.id.as_uuid())
        .bind(&details.name)
        .bind(&details.description)
        .bind(Json(&details.json_spec))
        .bind(health.status.as_str())
        .bind(&health.reason)
        .bind(Json(&health.protocol_versions))
        .bind(health.checked_at)
        .bind(instance.updated_at)
        .bind(instance.revision)
        .bind(expected)
        .execute(c)
        .await?
        .rows_affected());
    if done == 0 {
        return Err(missing_or_stale(get(conn, instance.id).await?.map(|current| current.revision)));
    }
    on_tx!(conn.reborrow(), c => sqlx::query(FORGET).bind(instance.id.as_uuid()).execute(c).await.map(drop)?);
    refer(conn, instance.id, secrets).await
}

async fn refer(mut conn: Conn<'_>, id: InstanceId, secrets: &[SecretRef]) -> Result<(), StoreError> {
    const SQL: &str = "INSERT INTO instance_secrets (ref, instance_id) VALUES ($1, $2)";
    for reference in secrets {
        on_tx!(conn.reborrow(), c => sqlx::query(SQL).bind(reference.as_str()).bind(id.as_uuid()).execute(c).await.map(drop)?);
    }
    Ok(())
}

/// Writes what the worker saw. The owner's revision stays; the catalogue item changes if a `feed_revision` is given.
pub(crate) async fn set_health(
    conn: Conn<'_>,
    id: InstanceId,
    health: &Health,
    feed_revision: Option<i64>,
) -> Result<(), StoreError> {
    const SQL: &str = "UPDATE instances SET status = $2, status_reason = $3, protocol_versions = $4, checked_at = $5, \
                       feed_revision = COALESCE($6, feed_revision) WHERE id = $1";
    on_tx!(conn, c => sqlx::query(SQL)
        .bind(id.as_uuid())
        .bind(health.status.as_str())
        .bind(&health.reason)
        .bind(Json(&health.protocol_versions))
        .bind(health.checked_at)
        .bind(feed_revision)
        .execute(c)
        .await
        .map(drop)?);
    Ok(())
}

/// Marks the catalogue items of a secret's users as changed.
pub(crate) async fn touch_users_of(
    conn: Conn<'_>,
    reference: &SecretRef,
    feed_revision: i64,
) -> Result<(), StoreError> {
    const SQL: &str = "UPDATE instances SET feed_revision = $2 WHERE id IN (SELECT instance_id FROM instance_secrets WHERE ref = $1)";
    on_tx!(conn, c => sqlx::query(SQL).bind(reference.as_str()).bind(feed_revision).execute(c).await.map(drop)?);
    Ok(())
}

pub(crate) async fn delete(conn: Conn<'_>, id: InstanceId) -> Result<(), StoreError> {
    const SQL: &str = "DELETE FROM instances WHERE id = $1";
    on_tx!(conn, c => sqlx::query(SQL).bind(id.as_uuid()).execute(c).await.map(drop)?);
    Ok(())
}
