//! What discovery has seen, at rest.

use portico_db::{Conn, FromRow, Row, StoreError, on_tx, read};
use portico_ids::ServerId;
use sqlx::QueryBuilder;

use crate::domain::capability::Capability;
use crate::domain::names::CapabilityKind;

/// How many rows one statement inserts; both drivers bound the number of parameters.
const INSERT_CHUNK: usize = 500;

impl FromRow for Capability {
    fn from_row(row: &Row<'_>) -> sqlx::Result<Self> {
        Ok(Self {
            server_id: row.id("server_id")?,
            kind: row.parse("kind")?,
            name: row.get("name")?,
            title: row.get("title")?,
            description: row.get("description")?,
            definition: row.get("definition")?,
            seen_at: row.get("seen_at")?,
        })
    }
}

/// Replaces everything that is known of a server; each (kind, name) must be there once.
pub(crate) async fn replace(
    mut conn: Conn<'_>,
    server_id: ServerId,
    capabilities: &[Capability],
) -> Result<(), StoreError> {
    const CLEAR: &str = "DELETE FROM capabilities WHERE server_id = $1";
    on_tx!(conn.reborrow(), c => sqlx::query(CLEAR).bind(server_id.as_uuid()).execute(c).await.map(drop)?);
    for chunk in capabilities.chunks(INSERT_CHUNK) {
        on_tx!(conn.reborrow(), c => {
            let mut query = QueryBuilder::new("INSERT INTO capabilities (server_id, kind, name, title, description, definition, seen_at) ");
            query.push_values(chunk, |mut row, capability| {
                row.push_bind(capability.server_id.as_uuid())
                    .push_bind(capability.kind.as_str())
                    .push_bind(&capability.name)
                    .push_bind(&capability.title)
                    .push_bind(&capability.description)
                    .push_bind(&capability.definition)
                    .push_bind(capability.seen_at);
            });
            query.build().execute(c).await.map(drop)?;
        });
    }
    Ok(())
}

/// Which capabilities to list, by server, kind and name.
#[derive(Debug, Clone, Default)]
pub(crate) struct CapabilityPage {
    pub(crate) after: Option<(ServerId, CapabilityKind, String)>,
    pub(crate) limit: i64,
    pub(crate) server_id: Option<ServerId>,
    pub(crate) kind: Option<CapabilityKind>,
}

pub(crate) async fn list(conn: Conn<'_>, page: &CapabilityPage) -> Result<Vec<Capability>, StoreError> {
    Ok(on_tx!(conn, c => {
        let mut query = QueryBuilder::new("SELECT * FROM capabilities WHERE 1 = 1");
        if let Some(server_id) = page.server_id {
            query.push(" AND server_id = ").push_bind(server_id.as_uuid());
        }
        if let Some(kind) = page.kind {
            query.push(" AND kind = ").push_bind(kind.as_str());
        }
        if let Some((server_id, kind, name)) = &page.after {
            query.push(" AND (server_id, kind, name) > (").push_bind(server_id.as_uuid());
            query.push(", ").push_bind(kind.as_str()).push(", ").push_bind(name).push(")");
        }
        query.push(" ORDER BY server_id, kind, name LIMIT ").push_bind(page.limit);
        query.build().try_map(read).fetch_all(c).await?
    }))
}

struct Seen(ServerId, CapabilityKind, String);

impl FromRow for Seen {
    fn from_row(row: &Row<'_>) -> sqlx::Result<Self> {
        Ok(Self(row.id("server_id")?, row.parse("kind")?, row.get("name")?))
    }
}

/// Reads the names of everything that the given servers offer.
pub(crate) async fn names(
    conn: Conn<'_>,
    servers: &[ServerId],
) -> Result<Vec<(ServerId, CapabilityKind, String)>, StoreError> {
    if servers.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<Seen> = on_tx!(conn, c => {
        let mut query = QueryBuilder::new("SELECT server_id, kind, name FROM capabilities WHERE server_id IN (");
        let mut list = query.separated(", ");
        for id in servers {
            list.push_bind(id.as_uuid());
        }
        query.push(") ORDER BY kind, name, server_id").build().try_map(read).fetch_all(c).await?
    });
    Ok(rows.into_iter().map(|Seen(server_id, kind, name)| (server_id, kind, name)).collect())
}
