//! Whether a program can work on the tables as they are.

use std::cmp::Ordering;

use sqlx::{
    AssertSqlSafe,
    migrate::{Migrate as _, MigrateError as SqlxMigrateError, Migration as SqlxMigration},
};

use super::{COMPATIBLE, HISTORY, Run, Schema};
use crate::{Db, StoreError, on_db, scalar};

/// Why this program cannot work on a schema as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaMismatch {
    /// The database lacks migrations that this program needs.
    #[error(
        "the database schema `{schema}` has version {found}, this program needs {known}: run the migrator of this \
         release first"
    )]
    Older {
        /// Whose tables.
        schema: &'static str,
        /// The version that the database has.
        found: i64,
        /// The version that this program needs.
        known: i64,
    },
    /// A newer release migrated this database.
    #[error(
        "the database schema `{schema}` has version {found}, newer than this program knows ({known}): this binary is \
         too old, run the release that migrated the database, or a newer one"
    )]
    Newer {
        /// Whose tables.
        schema: &'static str,
        /// The version that the database has.
        found: i64,
        /// The newest version that this program has.
        known: i64,
    },
    /// A migration was applied with another text.
    #[error(
        "migration {version} of schema `{schema}` was applied with another text than this program has: \
         run an official release, or restore the database from a backup"
    )]
    Altered {
        /// Whose tables.
        schema: &'static str,
        /// Which migration.
        version: i64,
    },
    /// The history cannot be read now.
    #[error("the version of the database schema `{schema}` cannot be read")]
    Unreadable {
        /// Whose tables.
        schema: &'static str,
        /// What went wrong; waiting helps if it is [`StoreError::Unavailable`].
        #[source]
        source: StoreError,
    },
}

/// How a program fits tables that it can work on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// They are those that it was written for.
    Exact,
    /// A newer release migrated them, without a step that is breaking for this program.
    Newer {
        /// The version that the database has.
        found: i64,
    },
}

/// Checks that the tables are exactly those that this program was written for, without changing anything.
pub async fn check_schema(db: &Db, schema: &Schema) -> Result<(), SchemaMismatch> {
    let run = Run { schema: schema.name, known: schema.for_driver(db) };
    let unreadable = |source| SchemaMismatch::Unreadable { schema: run.schema, source };
    let applied = on_db!(db, pool => {
        let mut conn = pool.acquire().await.map_err(|error| unreadable(error.into()))?;
        // A schema that was never migrated has no history table; reading it would only say so less clearly.
        match conn.list_applied_migrations(HISTORY).await {
            Ok(applied) => applied,
            Err(SqlxMigrateError::Execute(error)) if is_missing_table(&error) => Vec::new(),
            Err(SqlxMigrateError::Execute(error)) => return Err(unreadable(error.into())),
            Err(error) => return Err(unreadable(sqlx::Error::Migrate(Box::new(error)).into())),
        }
    });
    let found = applied.iter().map(|m| m.version).max().unwrap_or(0);
    let (schema, known) = (run.schema, run.newest());
    let altered = |migration: &&SqlxMigration| {
        migration.version <= found
            && !applied.iter().any(|a| a.version == migration.version && a.checksum == migration.checksum)
    };
    if let Some(migration) = run.migrator().iter().find(altered) {
        return Err(SchemaMismatch::Altered { schema, version: migration.version });
    }
    match found.cmp(&known) {
        Ordering::Greater => Err(SchemaMismatch::Newer { schema, found, known }),
        Ordering::Less => Err(SchemaMismatch::Older { schema, found, known }),
        Ordering::Equal => Ok(()),
    }
}

/// Checks that this program can work on the tables, without changing anything: for services, which leave migrating to
/// the migrator.
///
/// While a release replaces another one, or is taken back, programs of the older one have to start on tables of the newer one.
/// They can as long as no step that they do not know is [breaking](crate::Migration::breaking).
pub async fn check_compatible(db: &Db, schema: &Schema) -> Result<Fit, SchemaMismatch> {
    let newer = match check_schema(db, schema).await {
        Ok(()) => return Ok(Fit::Exact),
        Err(mismatch) => mismatch,
    };
    let SchemaMismatch::Newer { found, known, .. } = newer else { return Err(newer) };
    let oldest = oldest_compatible(db)
        .await
        .map_err(|source| SchemaMismatch::Unreadable { schema: schema.name, source })?;
    if oldest.is_none_or(|oldest| oldest > known) {
        return Err(newer);
    }
    tracing::warn!(
        db.schema = schema.name,
        db.version = found,
        db.known = known,
        "a newer release has migrated the tables; this program can work on them until it is replaced"
    );
    Ok(Fit::Newer { found })
}

/// Reads the oldest version whose programs can work on the tables; `None` where no migrator has left word.
async fn oldest_compatible(db: &Db) -> Result<Option<i64>, StoreError> {
    let sql = format!("SELECT version FROM {COMPATIBLE} WHERE id = 1");
    on_db!(db, pool => match sqlx::query(AssertSqlSafe(sql)).try_map(scalar).fetch_optional(pool).await {
        Err(error) if is_missing_table(&error) => Ok(None),
        version => Ok(version?),
    })
}

fn is_missing_table(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|e| {
        // 42P01 is an undefined table (PostgreSQL Appendix A); SQLite has only a text for it.
        e.code().as_deref() == Some("42P01") || e.message().starts_with("no such table")
    })
}
