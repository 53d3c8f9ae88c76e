//! `portico restore`: the databases of a backup, put back.
//!
//! Every database is built beside the one that it replaces, and takes its place at the end: whatever fails on the way
//! leaves things as they were.

mod load;
mod target;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use portico_clock::SystemClock;
use portico_db::{Conn, Db, Migration, Schema, migrate};
use portico_ids::SystemRng;
use portico_process::DataDirLock;
use portico_sealing::Sealer;
use secrecy::ExposeSecret as _;
use serde_json::json;

use self::target::Target;
use crate::backup::archive::{SchemaHeader, check_ring};
use crate::backup::places::{PlaceArguments, Places, Service};
use crate::backup::reader::Backup;
use crate::connection::login_file::write_private;
use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The backup
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    #[command(flatten)]
    places: PlaceArguments,
    /// Replace databases that hold something; old SQLite files are kept under another name, old Postgres schemas are not
    #[arg(long)]
    force: bool,
    /// Only see that the backup is whole and that the key ring fits it
    #[arg(long, conflicts_with = "force")]
    check: bool,
}

pub(crate) async fn run(arguments: Arguments, output: Output) -> Result<()> {
    let places = arguments.places.places()?;
    let backup = Backup::open(&arguments.from)?;
    let sealer = Sealer::new(&places.ring()?, Arc::new(SystemRng));
    check_ring(&backup.header, &backup.trailer, &sealer)?;
    let schemas = Service::ALL.map(|service| known_schema(&backup, service));
    let schemas = schemas.into_iter().collect::<Result<Vec<_>>>()?;
    if arguments.check {
        let answer =
            json!({ "file": arguments.from, "whole": true, "ring": "fits", "rows": backup.trailer.rows });
        output.value(&answer, || {
            format!(
                "{} is whole ({} rows, {}) and the key ring opens it",
                arguments.from.display(),
                backup.trailer.rows,
                backup.header.created_at
            )
        });
        return Ok(());
    }
    // Held to the end: nobody starts on a half of it.
    let _lock = places.data_dir().map(DataDirLock::acquire).transpose()?;
    let mut targets = Vec::new();
    for service in Service::ALL {
        let target = Target::find(&places, service).await?;
        target.refuse_use().await?;
        if !arguments.force && !target.is_empty().await? {
            bail!(
                "the database of the {} holds something already: restore into an empty one, or say --force to replace it",
                service.name()
            );
        }
        targets.push(target);
    }
    build(&backup, &targets, &schemas, (&sealer, output)).await?;
    let kept = target::take_over(targets).await?;
    write_files(&backup, &places, &sealer)?;
    report(&arguments.from, &backup, &kept, output);
    Ok(())
}

/// Answers what the backup has of a service, if this program knows its schema.
fn known_schema(backup: &Backup, service: Service) -> Result<SchemaHeader> {
    let found = backup.header.schemas.iter().find(|schema| schema.service == service.name());
    let found = found.with_context(|| format!("the backup has no database of the {}", service.name()))?;
    let newest = service.schema().postgres.iter().map(|migration| migration.version).max().unwrap_or(0);
    if found.version > newest {
        bail!(
            "the backup's {} has the schema version {}, newer than this program's ({newest}): restore with portico {}",
            service.name(),
            found.version,
            backup.header.program
        );
    }
    Ok(found.clone())
}

/// Fills a new database for every service.
async fn build(
    backup: &Backup,
    targets: &[Target],
    schemas: &[SchemaHeader],
    (sealer, output): (&Sealer, Output),
) -> Result<()> {
    let mut built = Vec::new();
    for (target, header) in targets.iter().zip(schemas) {
        let (schema, db) = target.make_new().await?;
        migrate(&db, &up_to(&schema, header.version)).await?;
        built.push((target.service, schema, db));
    }
    let dbs: Vec<(Service, Db)> = built.iter().map(|(service, _, db)| (*service, db.clone())).collect();
    load::rows(backup, &dbs, output).await?;
    for (service, schema, db) in built {
        migrate(&db, &schema).await?;
        make_servable(service, &db, sealer).await?;
        db.close().await;
    }
    Ok(())
}

/// The same schema as it was at an earlier version: rows of that time fit into it.
fn up_to(schema: &Schema, version: i64) -> Schema {
    let part = |all: &'static [Migration]| {
        let known = all.iter().filter(|migration| migration.version <= version).count();
        &all[..known]
    };
    Schema { postgres: part(schema.postgres), sqlite: part(schema.sqlite), ..*schema }
}

/// Lets the service look at what it got: whether its sealed rows open, and that no follower takes it for the old one.
async fn make_servable(service: Service, db: &Db, sealer: &Sealer) -> Result<()> {
    let mut tx = db.begin_write().await?;
    let tools = (&SystemClock as _, &SystemRng as _);
    match service {
        Service::AuthServer => portico_auth_server::after_restore(Conn::from(&mut tx), sealer, tools).await?,
        Service::Registry => portico_registry::after_restore(Conn::from(&mut tx), sealer, tools).await?,
    }
    Ok(tx.commit().await?)
}

/// Puts back what `portico dev` keeps beside its databases, and the key ring if it was named elsewhere.
fn write_files(backup: &Backup, places: &Places, sealer: &Sealer) -> Result<()> {
    let (Some(data_dir), Some(ring)) = (places.data_dir(), places.ring_in_data_dir()) else { return Ok(()) };
    for file in &backup.header.files {
        let known =
            places.state_file().is_some_and(|path| path.file_name().is_some_and(|name| *name == *file.name));
        if !known {
            return Err(anyhow!(
                "the backup has a file {}, which this program does not know",
                file.name.escape_default()
            ));
        }
        write_private(&data_dir.join(&file.name), file.open(sealer)?.expose_secret())?;
    }
    if !ring.exists() {
        let text = std::fs::read(&places.keys)
            .with_context(|| format!("{} cannot be read", places.keys.display()))?;
        write_private(&ring, &text)?;
    }
    Ok(())
}

fn report(from: &std::path::Path, backup: &Backup, kept: &[PathBuf], output: Output) {
    let answer = json!({
        "from": from, "created_at": backup.header.created_at, "rows": backup.trailer.rows, "replaced": kept,
    });
    output.value(&answer, || {
        let done = format!(
            "restored {} rows as they were at {}\nwhat was revoked, disabled or deleted after that is back: look through it \
             before you open the doors",
            backup.trailer.rows, backup.header.created_at
        );
        let kept = kept.iter().map(|path| format!("the database before it is {}", path.display()));
        std::iter::once(done).chain(kept).collect::<Vec<_>>().join("\n")
    });
}

#[cfg(test)]
mod tests;
