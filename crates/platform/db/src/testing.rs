//! Databases for contract suites: SQLite always, Postgres when `PORTICO_TEST_POSTGRES_URL` is set.

#![expect(clippy::missing_panics_doc, clippy::expect_used, reason = "a test that has no database has failed")]

mod server;

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use secrecy::SecretString;
use tempfile::TempDir;

use crate::{Db, DbSettings, Migration, OpenError, Schema, TABLES_POSTGRES, TABLES_SQLITE, migrate, on_db};

pub use server::{OwnPostgres, ServerTls};

/// Keeps a test's database until it is dropped.
#[derive(Debug)]
pub struct Guard {
    _dir: Option<TempDir>,
    postgres: Option<PostgresSchema>,
}

#[derive(Debug)]
struct PostgresSchema {
    url: String,
    name: &'static str,
}

/// Returns a fresh, migrated database of every driver that can be had, each with a label for assertions.
pub async fn databases(schema: &Schema) -> Vec<(&'static str, Db, Guard)> {
    let mut all = empty_databases(schema).await;
    for (_, db, schema, _) in &mut all {
        migrate(db, schema).await.expect("the schema migrates");
    }
    all.into_iter().map(|(label, db, _, guard)| (label, db, guard)).collect()
}

/// Returns databases without any table, with the schema to migrate them with: on Postgres it has a name of its
/// own, so that tests do not meet.
pub async fn empty_databases(schema: &Schema) -> Vec<(&'static str, Db, Schema, Guard)> {
    let dir = tempfile::tempdir().expect("a directory for a database");
    let sqlite = Db::sqlite_file(&dir.path().join("test.db")).await.expect("a SQLite file");
    let mut all = vec![("sqlite", sqlite, *schema, Guard { _dir: Some(dir), postgres: None })];
    if let Some(url) = postgres_url() {
        let random = RandomState::new().hash_one(std::process::id());
        let name: &'static str = format!("test_{}_{random:016x}", schema.name).leak();
        let schema = Schema { name, ..*schema };
        let settings = DbSettings {
            // All contended tests together stay below a server's usual 100.
            max_connections: 6,
            acquire_timeout_seconds: 30,
            ..DbSettings::default()
        };
        let secret = SecretString::from(url.clone());
        let db = Db::connect(&secret, &settings, &schema).await.expect("PORTICO_TEST_POSTGRES_URL answers");
        all.push((
            "postgres",
            db,
            schema,
            Guard { _dir: None, postgres: Some(PostgresSchema { url, name }) },
        ));
    }
    all
}

/// Makes a schema of the platform's tables and, as a second migration, one text for each driver.
#[must_use]
pub fn schema_with(postgres: &'static str, sqlite: &'static str) -> Schema {
    let steps = |tables, sql| -> &'static [Migration] {
        vec![
            Migration { version: 1, name: "platform", sql: tables, breaking: true },
            Migration { version: 2, name: "service", sql, breaking: true },
        ]
        .leak()
    };
    Schema { name: "suite", postgres: steps(TABLES_POSTGRES, postgres), sqlite: steps(TABLES_SQLITE, sqlite) }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test suite has no settings; this is where its one variable is read"
)]
fn postgres_url() -> Option<String> {
    std::env::var("PORTICO_TEST_POSTGRES_URL").ok().filter(|url| !url.is_empty())
}

impl Drop for Guard {
    /// Removes the Postgres schema. Dropping is not async and may happen inside a runtime, hence the thread.
    fn drop(&mut self) {
        let Some(PostgresSchema { url, name }) = self.postgres.take() else { return };
        let drop_schema = async move {
            let Ok(pool) = sqlx::PgPool::connect(&url).await else { return };
            // The test's own connections may still hold locks: its runtime waits for this and cannot end them.
            let sql = sqlx::AssertSqlSafe(format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'portico-{name}'; \
                 DROP SCHEMA IF EXISTS {name} CASCADE"
            ));
            // A schema that stays behind does no harm: its name is never used again.
            let _ = tokio::time::timeout(Duration::from_secs(5), sqlx::raw_sql(sql).execute(&pool)).await;
        };
        let thread = std::thread::spawn(move || {
            if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
                runtime.block_on(drop_schema);
            }
        });
        let _ = thread.join();
    }
}

/// Connects to a server of the test's own, with the given parameters in its URL.
pub async fn connect(server: &OwnPostgres, parameters: &str, schema: &Schema) -> Result<Db, OpenError> {
    let settings = DbSettings { max_connections: 3, acquire_timeout_seconds: 2, ..DbSettings::default() };
    Db::connect(&SecretString::from(server.url(parameters)), &settings, schema).await
}

/// Runs statements as they are, on either driver.
pub async fn raw(db: &Db, sql: &str) -> sqlx::Result<()> {
    on_db!(db, pool => sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(pool).await.map(drop))
}
