//! What tests of programs with a database start from, beside [`TestDeployment`].
#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "for tests only, where a panic is the answer"
)]

use std::time::Duration;

use portico_db::{Db, DbSettings, FromRow, Row, Schema, StoreError, migrate, on_db};
use portico_launch::testing::TestDeployment;
use portico_settings::Secret;

/// The section `database`: a file that may not be there yet.
#[must_use]
pub fn database(deployment: &TestDeployment) -> DbSettings {
    let url = format!("sqlite://{}", deployment.path("service.db").display());
    DbSettings { url: Some(Secret::inline(url.into())), ..DbSettings::default() }
}

/// Migrates the database, as the migrator does.
pub async fn migrated(deployment: &TestDeployment, schema: &Schema) -> Db {
    let db = Db::open(&database(deployment), schema).await.unwrap();
    migrate(&db, schema).await.unwrap();
    db
}

/// What the audit of a service says about refused peers, once it says so `count` times: who, what, why.
pub async fn refused_peers(db: &Db, count: usize) -> Vec<(String, String, String)> {
    const SQL: &str = "SELECT principal, target, reason FROM audit \
                       WHERE action = 'peer.refused' AND outcome = 'denied' ORDER BY seq";
    let rows = async {
        loop {
            let rows: Vec<Refused> = on_db!(db, pool => {
                sqlx::query(SQL).try_map(portico_db::read).fetch_all(pool).await?
            });
            if rows.len() >= count {
                return Ok::<_, StoreError>(rows);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let rows = tokio::time::timeout(Duration::from_secs(10), rows).await.unwrap().unwrap();
    rows.into_iter().map(|Refused(who, what, why)| (who, what, why)).collect()
}

struct Refused(String, String, String);

impl FromRow for Refused {
    fn from_row(row: &Row<'_>) -> sqlx::Result<Self> {
        Ok(Self(row.get("principal")?, row.get("target")?, row.get("reason")?))
    }
}
