//! What the catalogue's followers get: rows that changed after a revision.

use std::collections::BTreeMap;

use portico_db::{Conn, FromRow, Row, StoreError, on_tx, read};

use super::endpoints::with_members;
use crate::domain::endpoint::Endpoint;
use crate::domain::instance::Instance;
use crate::domain::secret::SecretRef;
use crate::domain::server::Server;

/// Rows whose catalogue items changed.
#[derive(Debug)]
pub(crate) struct Changed {
    pub(crate) servers: Vec<Server>,
    pub(crate) instances: Vec<Instance>,
    pub(crate) endpoints: Vec<Endpoint>,
    /// Versions of the secrets that the instances refer to. A deleted secret has one too: it moved on, so that
    /// a follower drops the value.
    pub(crate) secret_versions: BTreeMap<SecretRef, i64>,
}

struct Version(SecretRef, i64);

impl FromRow for Version {
    fn from_row(row: &Row<'_>) -> sqlx::Result<Self> {
        Ok(Self(SecretRef::stored(row.get("ref")?), row.get("version")?))
    }
}

/// Reads everything that changed after `since`; 0 reads everything.
pub(crate) async fn changed(mut conn: Conn<'_>, since: i64) -> Result<Changed, StoreError> {
    const SERVERS: &str = "SELECT * FROM servers WHERE feed_revision > $1 ORDER BY feed_revision, id";
    const INSTANCES: &str = "SELECT * FROM instances WHERE feed_revision > $1 ORDER BY feed_revision, id";
    const ENDPOINTS: &str = "SELECT * FROM endpoints WHERE feed_revision > $1 ORDER BY feed_revision, id";
    const VERSIONS: &str = "SELECT ref, version FROM secrets WHERE ref IN (SELECT instance_secrets.ref FROM instance_secrets \
                            JOIN instances ON instances.id = instance_secrets.instance_id WHERE feed_revision > $1)";
    let servers =
        on_tx!(conn.reborrow(), c => sqlx::query(SERVERS).bind(since).try_map(read).fetch_all(c).await?);
    let instances =
        on_tx!(conn.reborrow(), c => sqlx::query(INSTANCES).bind(since).try_map(read).fetch_all(c).await?);
    let endpoints =
        on_tx!(conn.reborrow(), c => sqlx::query(ENDPOINTS).bind(since).try_map(read).fetch_all(c).await?);
    let versions: Vec<Version> =
        on_tx!(conn.reborrow(), c => sqlx::query(VERSIONS).bind(since).try_map(read).fetch_all(c).await?);
    let secret_versions =
        versions.into_iter().map(|Version(reference, version)| (reference, version)).collect();
    Ok(Changed { servers, instances, endpoints: with_members(conn, endpoints).await?, secret_versions })
}
