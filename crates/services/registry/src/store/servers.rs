//! Server definitions at rest.

use portico_db::{Conn, FromRow, Row, StoreError, on_tx, read};
use portico_ids::{EndpointName, ServerId};
use sqlx::QueryBuilder;
use sqlx::types::Json;

use super::Position;
use crate::domain::server::{Server, ServerDetails};

impl FromRow for Server {
    fn from_row(row: &Row<'_>) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.id("id")?,
            name: row.parse("name")?,
            details: ServerDetails {
                description: row.get("description")?,
                version: row.get("version")?,
                tags: row.json("tags")?,
                docker_image_url: row.get("docker_image_url")?,
                status: row.parse("status")?,
                visibility: row.parse("visibility")?,
                env_schema: row.json("env_schema")?,
            },
            owner: row.parse("owner")?,
            created_at: row.get("created_at")?,
            updated_at: row.get("updated_at")?,
            revision: row.get("revision")?,
        })
    }
}

pub(crate) async fn get(conn: Conn<'_>, id: ServerId) -> Result<Option<Server>, StoreError> {
    const SQL: &str = "SELECT * FROM servers WHERE id = $1";
    Ok(on_tx!(conn, c => sqlx::query(SQL).bind(id.as_uuid()).try_map(read).fetch_optional(c).await?))
}

pub(crate) async fn by_name(conn: Conn<'_>, name: &EndpointName) -> Result<Option<Server>, StoreError> {
    const SQL: &str = "SELECT * FROM servers WHERE name = $1";
    Ok(on_tx!(conn, c => sqlx::query(SQL).bind(name.as_str()).try_map(read).fetch_optional(c).await?))
}

/// Reads the named servers, in no particular order; unknown ids are left out.
pub(crate) async fn by_ids(conn: Conn<'_>, ids: &[ServerId]) -> Result<Vec<Server>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    Ok(on_tx!(conn, c => {
        let mut query = QueryBuilder::new("SELECT * FROM servers WHERE id IN (");
        let mut list = query.separated(", ");
        for id in ids {
            list.push_bind(id.as_uuid());
        }
        query.push(")").build().try_map(read).fetch_all(c).await?
    }))
}

/// Which servers to list, oldest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServerPage {
    pub(crate) after: Option<Position>,
    pub(crate) limit: i64,
    pub(crate) tag: Option<String>,
}

pub(crate) async fn list(conn: Conn<'_>, page: &ServerPage) -> Result<Vec<Server>, StoreError> {
    Ok(on_tx!(conn, c => {
        let mut query = QueryBuilder::new("SELECT * FROM servers WHERE 1 = 1");
        if let Some(tag) = &page.tag {
            query.push(" AND id IN (SELECT server_id FROM server_tags WHERE tag = ").push_bind(tag).push(")");
        }
        if let Some(after) = page.after {
            query.push(" AND (created_at, id) > (").push_bind(after.created_at).push(", ").push_bind(after.id).push(")");
        }
        query.push(" ORDER BY created_at, id LIMIT ").push_bind(page.limit);
        query.build().try_map(read).fetch_all(c).await?
    }))
}

/// Adds a server; a name that is taken is [`StoreError::AlreadyExists`].
pub(crate) async fn insert(mut conn: Conn<'_>, server: &Server) -> Result<(), StoreError> {
    const SQL: &str = "INSERT INTO servers (id, name, description, version, docker_image_url, status, visibility, tags, \
                       env_schema, owner, created_at, updated_at, revision, feed_revision) \
                       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13)";
    let details = &server.details;
    on_tx!(conn.reborrow(), c => sqlx::query(SQL)
        .bind(server.id.as_uuid())
        .bind(server.name.as_str())
        .bind(&details.description)
        .bind(&details.version)
        .bind(&details.docker_image_url)
        .bind(details.status.as_str())
        .bind(details.visibility.as_str())
        .bind(Json(&details.tags))
        .bind(Json(&details.env_schema))
        .bind(server.owner.to_string())
        .bind(server.created_at)
        .bind(server.updated_at)
        .bind(server.revision)
        .execute(c)
        .await
        .map(drop)?);
    index_tags(conn, server).await
}

/// Writes the details of a server that stands at `expected`.
pub(crate) async fn update(mut conn: Conn<'_>, server: &Server, expected: i64) -> Result<(), StoreError> {
    const SQL: &str = "UPDATE servers SET description = $2, version = $3, docker_image_url = $4, status = $5, \
                       visibility = $6, tags = $7, env_schema = $8, updated_at = $9, revision = $10, feed_revision = $10 \
                       WHERE id = $1 AND revision = $11";
    const CLEAR_TAGS: &str = "DELETE FROM server_tags WHERE server_id = $1";
    let details = &server.details;
    let done = on_tx!(conn.reborrow(), c => sqlx::query(SQL)
        .bind(server.id.as_uuid())
        .bind(&details.description)
        .bind(&details.version)
        .bind(&details.docker_image_url)
        .bind(details.status.as_str())
        .bind(details.visibility.as_str())
        .bind(Json(&details.tags))
        .bind(Json(&details.env_schema))
        .bind(server.updated_at)
        .bind(server.revision)
        .bind(expected)
        .execute(c)
        .await?
        .rows_affected());
    if done == 0 {
        return Err(missing_or_stale(get(conn, server.id).await?.map(|current| current.revision)));
    }
    on_tx!(conn.reborrow(), c => sqlx::query(CLEAR_TAGS).bind(server.id.as_uuid()).execute(c).await.map(drop)?);
    index_tags(conn, server).await
}

async fn index_tags(mut conn: Conn<'_>, server: &Server) -> Result<(), StoreError> {
    const SQL: &str = "INSERT INTO server_tags (tag, server_id) VALUES ($1, $2)";
    for tag in &server.details.tags {
        on_tx!(conn.reborrow(), c => sqlx::query(SQL).bind(tag).bind(server.id.as_uuid()).execute(c).await.map(drop)?);
    }
    Ok(())
}

/// Removes a server with its instances, tags and capabilities; endpoints must have let go of it before.
pub(crate) async fn delete(conn: Conn<'_>, id: ServerId) -> Result<(), StoreError> {
    const SQL: &str = "DELETE FROM servers WHERE id = $1";
    on_tx!(conn, c => sqlx::query(SQL).bind(id.as_uuid()).execute(c).await.map(drop)?);
    Ok(())
}

/// Why a compare-and-set changed nothing.
pub(super) fn missing_or_stale(current: Option<i64>) -> StoreError {
    current.map_or(StoreError::NotFound, |current| StoreError::Stale { current })
}
