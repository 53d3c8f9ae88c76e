//! What a restore writes to: a new database beside the old one, and the moment in which it takes its place.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use portico_clock::{Clock as _, SystemClock};
use portico_db::{Db, Schema, on_db, scalar};
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{AssertSqlSafe, PgPool};

use crate::backup::places::{Location, Places, Service};
use crate::backup::tables::{self, quoted};
use crate::backup::value::Kind;

/// What SQLite keeps beside a database while it is in use.
const COMPANIONS: [&str; 3] = ["", "-wal", "-shm"];

/// The place of one service's database.
pub(super) struct Target {
    pub(super) service: Service,
    location: Location,
    /// The database that is there now, opened; nothing if there is none.
    present: Option<Db>,
}

impl Target {
    /// Looks what is there; makes nothing.
    pub(super) async fn find(places: &Places, service: Service) -> Result<Self> {
        let location = places.location(service);
        let there = match &location {
            Location::Sqlite(path) => path.exists(),
            Location::Postgres(_) => true,
        };
        let opened =
            async { anyhow::Ok(if there { Some(location.open(service.schema()).await?) } else { None }) };
        let present = opened.await;
        let present =
            present.with_context(|| format!("the database of the {} cannot be opened", service.name()))?;
        Ok(Self { service, location, present })
    }

    /// Refuses a Postgres schema that a service is connected to. A data directory has a lock for that.
    pub(super) async fn refuse_use(&self) -> Result<()> {
        const SQL: &str = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() \
             AND application_name = $1 AND pid <> pg_backend_pid()";
        let Some(Db::Postgres(pool)) = &self.present else { return Ok(()) };
        let name = format!("portico-{}", self.service.schema().name);
        let users: i64 = sqlx::query(SQL).bind(name).try_map(scalar).fetch_one(pool).await?;
        if users > 0 {
            bail!(
                "{users} connections of the {} are open: stop every replica of it, and whatever else uses its database, first",
                self.service.name()
            );
        }
        Ok(())
    }

    /// Whether no table holds more than what its migration put there.
    pub(super) async fn is_empty(&self) -> Result<bool> {
        let Some(db) = &self.present else { return Ok(true) };
        for table in tables::of(db).await? {
            // A counter: one row whose id is 1.
            let counter = table
                .columns
                .iter()
                .zip(&table.kinds)
                .any(|(name, kind)| name == "id" && *kind == Kind::Integer);
            let rest = if counter { "WHERE id <> 1" } else { "" };
            let sql = AssertSqlSafe(format!(
                "SELECT COUNT(*) FROM (SELECT 1 FROM {} {rest} LIMIT 1) found",
                quoted(&table.name)
            ));
            let found: i64 = on_db!(db, pool => sqlx::query(sql).try_map(scalar).fetch_one(pool).await?);
            if found > 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes an empty database beside the one that is there, in place of what an interrupted restore may have left.
    pub(super) async fn make_new(&self) -> Result<(Schema, Db)> {
        let schema = self.service.schema();
        match &self.location {
            Location::Sqlite(path) => {
                let beside = beside(path);
                for companion in COMPANIONS {
                    remove(&with(&beside, companion))?;
                }
                Ok((*schema, Location::Sqlite(beside).open(schema).await?))
            }
            Location::Postgres(url) => {
                // A schema's name is a part of the program; this one is the program's for as long as it runs.
                let name: &'static str = new_name(schema).leak();
                let new = Schema { name, ..*schema };
                let db = Location::Postgres(url.clone()).open(&new).await?;
                if let Db::Postgres(pool) = &db {
                    let sql = AssertSqlSafe(format!("DROP SCHEMA IF EXISTS {} CASCADE", quoted(name)));
                    sqlx::raw_sql(sql).execute(pool).await?;
                }
                Ok((new, db))
            }
        }
    }
}

/// Lets the new databases take the places of the old ones, and answers where old files are now.
pub(super) async fn take_over(targets: Vec<Target>) -> Result<Vec<PathBuf>> {
    let mut kept = Vec::new();
    let mut schemas: Vec<(SecretString, PgPool, Vec<&'static Schema>)> = Vec::new();
    for target in targets {
        let Target { service, location, present } = target;
        match (location, present) {
            (Location::Sqlite(path), present) => {
                if let Some(db) = present {
                    db.close().await;
                    kept.extend(set_aside(&path)?);
                }
                std::fs::rename(beside(&path), &path)
                    .with_context(|| format!("{} cannot be written", path.display()))?;
            }
            (Location::Postgres(url), Some(Db::Postgres(pool))) => {
                let same =
                    schemas.iter_mut().find(|(known, ..)| known.expose_secret() == url.expose_secret());
                match same {
                    Some((.., names)) => names.push(service.schema()),
                    None => schemas.push((url, pool, vec![service.schema()])),
                }
            }
            (Location::Postgres(_), _) => bail!("the database of the {} is not Postgres", service.name()),
        }
    }
    for (_, pool, names) in schemas {
        replace_schemas(&pool, &names).await?;
    }
    Ok(kept)
}

/// Renames the new schemas of one database in one transaction.
async fn replace_schemas(pool: &PgPool, schemas: &[&'static Schema]) -> Result<()> {
    let mut tx = pool.begin().await?;
    for schema in schemas {
        let (old, new) = (quoted(schema.name), quoted(&new_name(schema)));
        let sql = format!("DROP SCHEMA IF EXISTS {old} CASCADE; ALTER SCHEMA {new} RENAME TO {old}");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *tx).await.with_context(|| {
            format!("the restored schema cannot take the place of {old}; nothing was replaced")
        })?;
    }
    Ok(tx.commit().await?)
}

fn new_name(schema: &Schema) -> String {
    format!("{}_restoring", schema.name)
}

fn beside(path: &Path) -> PathBuf {
    with(path, ".restoring")
}

fn with(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Gives an old database another name, and answers it.
fn set_aside(path: &Path) -> Result<Option<PathBuf>> {
    if !path.exists() {
        return Ok(None);
    }
    let aside = with(path, &SystemClock.now().format(".before-%Y%m%dT%H%M%SZ").to_string());
    for companion in COMPANIONS {
        let (from, to) = (with(path, companion), with(&aside, companion));
        match std::fs::rename(&from, &to) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("{} cannot be renamed", from.display()));
            }
            _ => {}
        }
    }
    Ok(Some(aside))
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", path.display()))
        }
        _ => Ok(()),
    }
}
