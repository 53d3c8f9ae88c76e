//! Endpoints and their members at rest.

use std::collections::BTreeMap;

use portico_db::{Conn, FromRow, Row, StoreError, on_tx, read};
use portico_ids::{EndpointId, EndpointName, ServerId};
use sqlx::QueryBuilder;
use sqlx::types::Json;

use super::Position;
use super::servers::missing_or_stale;
use crate::domain::endpoint::{Endpoint, EndpointDetails, Member};

/// Reads an endpoint without its members, which are in a table of their own.
impl FromRow for Endpoint {
    fn from_row(row: &Row<'_>) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.id("id")?,
            name: row.parse("name")?,
            details: EndpointDetails {
                description: row.get("description")?,
                visibility: row.parse("visibility")?,
                names: row.parse("names")?,
                members: Vec::new(),
            },
            owner: row.parse("owner")?,
            created_at: row.get("created_at")?,
            updated_at: row.get("updated_at")?,
            revision: row.get("revision")?,
        })
    }
}

struct MemberRow {
    endpoint_id: EndpointId,
    member: Member,
}

impl FromRow for MemberRow {
    fn from_row(row: &Row<'_>) -> sqlx::Result<Self> {
        let member = Member {
            server_id: row.id("server_id")?,
            alias: row.get("alias")?,
            tools: row.json("tools")?,
            prompts: row.json("prompts")?,
            resources: row.json("resources")?,
        };
        Ok(Self { endpoint_id: row.id("endpoint_id")?, member })
    }
}

pub(crate) async fn get(mut conn: Conn<'_>, id: EndpointId) -> Result<Option<Endpoint>, StoreError> {
    const SQL: &str = "SELECT * FROM endpoints WHERE id = $1";
    let found: Vec<Endpoint> =
        on_tx!(conn.reborrow(), c => sqlx::query(SQL).bind(id.as_uuid()).try_map(read).fetch_all(c).await?);
    Ok(with_members(conn, found).await?.pop())
}

pub(crate) async fn by_name(mut conn: Conn<'_>, name: &EndpointName) -> Result<Option<Endpoint>, StoreError> {
    const SQL: &str = "SELECT * FROM endpoints WHERE name = $1";
    let found: Vec<Endpoint> =
        on_tx!(conn.reborrow(), c => sqlx::query(SQL).bind(name.as_str()).try_map(read).fetch_all(c).await?);
    Ok(with_members(conn, found).await?.pop())
}

/// Reads every endpoint that a server stands behind.
pub(crate) async fn containing(mut conn: Conn<'_>, server_id: ServerId) -> Result<Vec<Endpoint>, StoreError> {
    const SQL: &str = "SELECT * FROM endpoints WHERE id IN (SELECT endpoint_id FROM endpoint_members WHERE server_id = $1) \
                       ORDER BY created_at, id";
    let found = on_tx!(conn.reborrow(), c => sqlx::query(SQL).bind(server_id.as_uuid()).try_map(read).fetch_all(c).await?);
    with_members(conn, found).await
}

/// Reads a page of endpoints, oldest first.
pub(crate) async fn list(
    mut conn: Conn<'_>,
    after: Option<Position>,
    limit: i64,
) -> Result<Vec<Endpoint>, StoreError> {
    let found = on_tx!(conn.reborrow(), c => {
        let mut query = QueryBuilder::new("SELECT * FROM endpoints WHERE 1 = 1");
        if let Some(after) = after {
            query.push(" AND (created_at, id) > (").push_bind(after.created_at).push(", ").push_bind(after.id).push(")");
        }
        query.push(" ORDER BY created_at, id LIMIT ").push_bind(limit);
        query.build().try_map(read).fetch_all(c).await?
    });
    with_members(conn, found).await
}

/// How many endpoints' members one statement reads; both drivers bound the number of parameters.
const MEMBERS_OF: usize = 500;

/// Fills in the members of endpoints that were just read.
pub(super) async fn with_members(
    mut conn: Conn<'_>,
    mut endpoints: Vec<Endpoint>,
) -> Result<Vec<Endpoint>, StoreError> {
    let mut members: BTreeMap<EndpointId, Vec<Member>> = BTreeMap::new();
    for chunk in endpoints.chunks(MEMBERS_OF) {
        let rows: Vec<MemberRow> = on_tx!(conn.reborrow(), c => {
            let mut query = QueryBuilder::new("SELECT * FROM endpoint_members WHERE endpoint_id IN (");
            let mut list = query.separated(", ");
            for endpoint in chunk {
                list.push_bind(endpoint.id.as_uuid());
            }
            query.push(") ORDER BY endpoint_id, position").build().try_map(read).fetch_all(c).await?
        });
        for row in rows {
            members.entry(row.endpoint_id).or_default().push(row.member);
        }
    }
    for endpoint in &mut endpoints {
        endpoint.details.members = members.remove(&endpoint.id).unwrap_or_default();
    }
    Ok(endpoints)
}

/// Adds an endpoint; a name that is taken is [`StoreError::AlreadyExists`].
pub(crate) async fn insert(mut conn: Conn<'_>, endpoint: &Endpoint) -> Result<(), StoreError> {
    const SQL: &str = "INSERT INTO endpoints (id, name, description, visibility, names, owner, created_at, updated_at, \
                       revision, feed_revision) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)";
    let details = &endpoint.details;
    on_tx!(conn.reborrow(), c => sqlx::query(SQL)
        .bind(endpoint.id.as_uuid())
        .bind(endpoint.name.as_str())
        .bind(&details.description)
        .bind(details.visibility.as_str())
        .bind(details.names.as_str())
        .bind(endpoint.owner.to_string())
        .bind(endpoint.created_at)
        .bind(endpoint.updated_at)
        .bind(endpoint.revision)
        .execute(c)
        .await
        .map(drop)?);
    insert_members(conn, endpoint).await
}

/// Writes the details of an endpoint that stands at `expected`.
pub(crate) async fn update(mut conn: Conn<'_>, endpoint: &Endpoint, expected: i64) -> Result<(), StoreError> {
    const SQL: &str = "UPDATE endpoints SET description = $2, visibility = $3, names = $4, updated_at = $5, revision = $6, \
                       feed_revision = $6 WHERE id = $1 AND revision = $7";
    const CLEAR: &str = "DELETE FROM endpoint_members WHERE endpoint_id = $1";
    let details = &endpoint.details;
    let done = on_tx!(conn.reborrow(), c => sqlx::query(SQL)
        .bind(endpoint.id.as_uuid())
        .bind(&details.description)
        .bind(details.visibility.as_str())
        .bind(details.names.as_str())
        .bind(endpoint.updated_at)
        .bind(endpoint.revision)
        .bind(expected)
        .execute(c)
        .await?
        .rows_affected());
    if done == 0 {
        return Err(missing_or_stale(get(conn, endpoint.id).await?.map(|current| current.revision)));
    }
    on_tx!(conn.reborrow(), c => sqlx::query(CLEAR).bind(endpoint.id.as_uuid()).execute(c).await.map(drop)?);
    insert_members(conn, endpoint).await
}

async fn insert_members(mut conn: Conn<'_>, endpoint: &Endpoint) -> Result<(), StoreError> {
    const SQL: &str = "INSERT INTO endpoint_members (endpoint_id, position, server_id, alias, tools, prompts, resources) \
                       VALUES ($1, $2, $3, $4, $5, $6, $7)";
    for (position, member) in (0_i64..).zip(&endpoint.details.members) {
        on_tx!(conn.reborrow(), c => sqlx::query(SQL)
            .bind(endpoint.id.as_uuid())
            .bind(position)
            .bind(member.server_id.as_uuid())
            .bind(&member.alias)
            .bind(Json(&member.tools))
            .bind(Json(&member.prompts))
            .bind(Json(&member.resources))
            .execute(c)
            .await
            .map(drop)?);
    }
    Ok(())
}

pub(crate) async fn delete(conn: Conn<'_>, id: EndpointId) -> Result<(), StoreError> {
    const SQL: &str = "DELETE FROM endpoints WHERE id = $1";
    on_tx!(conn, c => sqlx::query(SQL).bind(id.as_uuid()).execute(c).await.map(drop)?);
    Ok(())
}
