//! Bringing a schema up to date.

use std::{borrow::Cow, time::Duration};

use sqlx::{
    AssertSqlSafe, PgPool, Row as _, SqlSafeStr, SqlitePool,
    migrate::{
        Migrate, MigrateError as SqlxMigrateError, Migration as SqlxMigration, MigrationType, Migrator,
    },
    postgres::PgRow,
};
use tokio::time::Instant;

use crate::{BeginWrite, Db, StoreError};

mod check;

pub use check::{Fit, SchemaMismatch, check_compatible, check_schema};

/// The tables `revision`, `outbox` and `idempotency` for Postgres: a service's first migration, or a part of it.
pub const TABLES_POSTGRES: &str = include_str!("../sql/postgres.sql");
/// The tables `revision`, `outbox` and `idempotency` for SQLite.
pub const TABLES_SQLITE: &str = include_str!("../sql/sqlite.sql");

/// Where sqlx keeps the history, in each service's own schema.
const HISTORY: &str = "_sqlx_migrations";
/// Which programs can work on the tables, beside the history.
const COMPATIBLE: &str = "compatible_from";
/// The tables that migrating makes for itself: a restored database gets them from its own migrations.
pub const MIGRATION_TABLES: [&str; 2] = [HISTORY, COMPATIBLE];
/// The oldest Postgres that is supported.
const OLDEST_POSTGRES: i32 = 15;
/// How long one migrator waits for another one.
const PATIENCE: Duration = Duration::from_mins(2);

/// One service's tables: the name of its Postgres schema, and what was done to it so far.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// Lower-case identifier, also the Postgres schema.
    pub name: &'static str,
    /// Oldest first.
    pub postgres: &'static [Migration],
    /// The same steps for SQLite, with the same versions.
    pub sqlite: &'static [Migration],
}

impl Schema {
    fn for_driver(&self, db: &Db) -> &'static [Migration] {
        match db {
            Db::Postgres(_) => self.postgres,
            Db::Sqlite(_) => self.sqlite,
        }
    }
}

/// One step of a schema's history; its text never changes once released.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// Its place in the history, from 1.
    pub version: i64,
    /// What it does, in a word or two.
    pub name: &'static str,
    /// Any number of statements; they run inside one transaction with all the others that are missing.
    pub sql: &'static str,
    /// Whether programs that know nothing of this step can no longer work on the tables. While a release replaces
    /// another one, programs of both run: a step that only adds what they may leave alone is not breaking.
    pub breaking: bool,
}

/// What a migration run did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The version of the schema now.
    pub version: i64,
    /// Which versions this run applied; empty if there was nothing to do.
    pub applied: Vec<i64>,
}

/// Why a schema could not be brought up to date. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// A newer release migrated this database already.
    #[error(
        "the database schema `{schema}` has version {found}, newer than this program knows ({known}): \
         run the release that migrated it, or a newer one"
    )]
    SchemaNewer {
        /// Whose tables.
        schema: &'static str,
        /// The version that the database has.
        found: i64,
        /// The newest version that this program has.
        known: i64,
    },
    /// An applied migration has another text than the one in this program.
    #[error(
        "migration {version} of schema `{schema}` was applied with another text than this program has: \
         run an official release, or restore the database from a backup"
    )]
    ChecksumMismatch {
        /// Whose tables.
        schema: &'static str,
        /// Which migration.
        version: i64,
    },
    /// The database has a migration in its past that this program does not have.
    #[error(
        "migration {version} of schema `{schema}` was applied but is not part of this program: run an official release"
    )]
    Unknown {
        /// Whose tables.
        schema: &'static str,
        /// Which migration.
        version: i64,
    },
    /// The server is older than what the statements are written for.
    #[error("this is Postgres {found}: version {OLDEST_POSTGRES} or newer is needed")]
    ServerTooOld {
        /// The server's version as it gives it.
        found: String,
    },
    /// A migration's statements failed.
    #[error("migration {version} of schema `{schema}` failed and was undone")]
    Failed {
        /// Whose tables.
        schema: &'static str,
        /// Which migration.
        version: i64,
        /// What the database says.
        #[source]
        source: sqlx::Error,
    },
    /// The database failed outside a migration's own statements.
    #[error("cannot migrate schema `{schema}`")]
    Store {
        /// Whose tables.
        schema: &'static str,
        /// What went wrong.
        #[source]
        source: StoreError,
    },
}

impl MigrateError {
    /// Returns the stable code of this error.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::SchemaNewer { .. } => "schema_newer",
            Self::ChecksumMismatch { .. } => "migration_checksum_mismatch",
            Self::Unknown { .. } => "migration_unknown",
            Self::ServerTooOld { .. } => "postgres_too_old",
            Self::Failed { .. } => "migration_failed",
            Self::Store { .. } => "database_error",
        }
    }
}

/// Applies what is missing, all of it or nothing.
///
/// Two migrators at once are safe: the second waits for the first and then finds nothing to do. So does the migrator of an
/// older release that finds tables with which its programs can live.
pub async fn migrate(db: &Db, schema: &Schema) -> Result<Migrated, MigrateError> {
    let run = Run { schema: schema.name, known: schema.for_driver(db) };
    if let Ok(Fit::Newer { found }) = check_compatible(db, schema).await {
        return Ok(Migrated { version: found, applied: Vec::new() });
    }
    match db {
        Db::Postgres(pool) => run.postgres(pool).await,
        Db::Sqlite(pool) => run.sqlite(pool).await,
    }
}

struct Run {
    schema: &'static str,
    known: &'static [Migration],
}

impl Run {
    async fn postgres(&self, pool: &PgPool) -> Result<Migrated, MigrateError> {
        let store = |e| self.store(e);
        let mut tx = pool.begin().await.map_err(store)?;
        let (number, text) = sqlx::query(
            "SELECT current_setting('server_version_num')::int, current_setting('server_version')",
        )
        .try_map(|row: PgRow| Ok((row.try_get::<i32, _>(0)?, row.try_get::<String, _>(1)?)))
        .fetch_one(&mut *tx)
        .await
        .map_err(store)?;
        if number < OLDEST_POSTGRES * 10_000 {
            return Err(MigrateError::ServerTooOld { found: text });
        }
        // Migrations may take long, and another migrator may be in the middle of one.
        let patience =
            format!("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '{}s'", PATIENCE.as_secs());
        sqlx::raw_sql(AssertSqlSafe(patience)).execute(&mut *tx).await.map_err(store)?;
        sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('portico.migrate.' || $1, 0))")
            .bind(self.schema)
            .execute(&mut *tx)
            .await
            .map_err(store)?;
        // Asked first, because CREATE SCHEMA IF NOT EXISTS wants the right to create even when it exists.
        let exists = sqlx::query("SELECT 1 FROM pg_namespace WHERE nspname = $1")
            .bind(self.schema)
            .fetch_optional(&mut *tx)
            .await
            .map_err(store)?;
        if exists.is_none() {
            let create = format!("CREATE SCHEMA \"{}\"", self.schema.replace('"', "\"\""));
            sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut *tx).await.map_err(store)?;
        }
        let migrated = self.run(&mut *tx).await?;
        sqlx::raw_sql(AssertSqlSafe(self.note_compatible())).execute(&mut *tx).await.map_err(store)?;
        tx.commit().await.map_err(store)?;
        Ok(migrated)
    }

    async fn sqlite(&self, pool: &SqlitePool) -> Result<Migrated, MigrateError> {
        let give_up_at = Instant::now() + PATIENCE;
        let mut tx = loop {
            // Each attempt waits for SQLite's busy timeout, so this loop does not spin.
            match pool.begin_write().await.map_err(StoreError::from) {
                Ok(tx) => break tx,
                Err(StoreError::Busy(_)) if Instant::now() < give_up_at => {}
                Err(source) => return Err(MigrateError::Store { schema: self.schema, source }),
            }
        };
        let migrated = self.run(&mut *tx).await?;
        let store = |e| self.store(e);
        sqlx::raw_sql(AssertSqlSafe(self.note_compatible())).execute(&mut *tx).await.map_err(store)?;
        tx.commit().await.map_err(store)?;
        Ok(migrated)
    }

    /// Runs inside the caller's transaction: the savepoints that sqlx makes for each migration nest in it.
    async fn run<C: Migrate>(&self, conn: &mut C) -> Result<Migrated, MigrateError> {
        let explain = |e| self.explain(e);
        conn.ensure_migrations_table(HISTORY).await.map_err(explain)?;
        let before = conn.list_applied_migrations(HISTORY).await.map_err(explain)?;
        self.refuse_newer(before.iter().map(|m| m.version).max().unwrap_or(0))?;
        self.migrator().run_direct(None, conn, false).await.map_err(explain)?;
        let applied: Vec<i64> =
            self.known.iter().map(|m| m.version).filter(|v| before.iter().all(|b| b.version != *v)).collect();
        tracing::info!(db.schema = self.schema, db.applied = ?applied, "schema is up to date");
        Ok(Migrated { version: self.newest(), applied })
    }

    fn migrator(&self) -> Migrator {
        let steps = self.known.iter().map(|m| {
            let (name, sql) = (Cow::Borrowed(m.name), m.sql.into_sql_str());
            SqlxMigration::new(m.version, name, MigrationType::Simple, sql, false)
        });
        let mut migrator = Migrator::with_migrations(steps.collect());
        // The transaction around the whole run is the lock: sqlx has none for SQLite.
        migrator.set_locking(false);
        migrator
    }

    /// Leaves word for older programs: from which version on they can work on these tables.
    fn note_compatible(&self) -> String {
        let oldest = self.known.iter().filter(|m| m.breaking).map(|m| m.version).max().unwrap_or(0);
        format!(
            "CREATE TABLE IF NOT EXISTS {COMPATIBLE} (id integer PRIMARY KEY CHECK (id = 1), version bigint NOT NULL);
             DELETE FROM {COMPATIBLE}; INSERT INTO {COMPATIBLE} (id, version) VALUES (1, {oldest})"
        )
    }

    fn newest(&self) -> i64 {
        self.known.iter().map(|m| m.version).max().unwrap_or(0)
    }

    fn refuse_newer(&self, found: i64) -> Result<(), MigrateError> {
        let known = self.newest();
        if found > known {
            return Err(MigrateError::SchemaNewer { schema: self.schema, found, known });
        }
        Ok(())
    }

    fn store(&self, error: sqlx::Error) -> MigrateError {
        MigrateError::Store { schema: self.schema, source: error.into() }
    }

    fn explain(&self, error: SqlxMigrateError) -> MigrateError {
        let schema = self.schema;
        match error {
            SqlxMigrateError::VersionMismatch(version) => MigrateError::ChecksumMismatch { schema, version },
            SqlxMigrateError::VersionMissing(version) => MigrateError::Unknown { schema, version },
            SqlxMigrateError::ExecuteMigration(source, version) => {
                MigrateError::Failed { schema, version, source }
            }
            SqlxMigrateError::Execute(error) => self.store(error),
            other => self.store(sqlx::Error::Migrate(Box::new(other))),
        }
    }
}

#[cfg(test)]
mod tests;
