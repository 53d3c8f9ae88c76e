//! A service's database, once the migrator was there. Programs without one depend neither on this nor on a driver.

#[cfg(feature = "testing")]
pub mod testing;

use std::convert::Infallible;
use std::time::Duration;

use portico_db::{
    Db, DbSettings, Schema, SchemaMismatch, Wait, WaitError, check_compatible, revision, wait_for_database,
};
use portico_launch::{Ground, Problems};
use portico_process::ReadinessCheck;
use secrecy::ExposeSecret as _;

/// Why a service has no database.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// It does not answer, or refuses.
    #[error("the database of the {schema} cannot be used")]
    Open {
        /// Whose.
        schema: &'static str,
        /// What it ran into.
        #[source]
        source: Box<WaitError>,
    },
    /// Its tables are not those of this program.
    #[error(transparent)]
    Schema(#[from] SchemaMismatch),
}

/// How often it is looked whether the database answers.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long an answer may take.
const LOOK_LIMIT: Duration = Duration::from_secs(4);

/// Notes if no database is named or its URL cannot be read; whether it answers shows at the start.
pub fn check_database(problems: &mut Problems, key: &str, settings: DbSettings) -> Option<DbSettings> {
    let what = "give postgres://user:password@host:5432/database, inline or as { file = \"…\" }";
    let url = problems.need(key, settings.url.as_ref(), what)?;
    let url = problems.accept(key, url.load())?;
    if !["postgres://", "postgresql://", "sqlite:"]
        .iter()
        .any(|scheme| url.expose_secret().starts_with(scheme))
    {
        problems.add(key, "must begin with postgres:// or sqlite://");
        return None;
    }
    Some(settings)
}

/// Waits for the database and checks that this program can work on its tables: migrating is the migrator's.
///
/// The check `database` follows whether it answers.
pub async fn database(
    settings: &DbSettings,
    schema: &Schema,
    limit: Duration,
    ground: &Ground,
) -> Result<Db, DatabaseError> {
    let wait = Wait { limit, ..Wait::default() };
    let check = ground.readiness.check("database");
    check.not_ready("waiting for the database");
    let db = wait_for_database(settings, schema, &wait)
        .await
        .map_err(|source| DatabaseError::Open { schema: schema.name, source: Box::new(source) })?;
    check_compatible(&db, schema).await?;
    check.ready();
    let shutdown = ground.tasks.shutdown_token();
    ground.tasks.spawn::<_, Infallible>("database.look", {
        let db = db.clone();
        async move {
            shutdown.run_until_cancelled(look(db, check)).await;
            Ok(())
        }
    });
    Ok(db)
}

/// Tells readiness whether the database answers. One missed answer is no outage.
async fn look(db: Db, check: ReadinessCheck) {
    let mut missed = 0;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if matches!(tokio::time::timeout(LOOK_LIMIT, revision::current(&db)).await, Ok(Ok(_))) {
            missed = 0;
            check.ready();
        } else {
            missed += 1;
            if missed > 1 {
                check.not_ready("the database does not answer: see that it runs and can be reached");
            }
        }
    }
}
