//! `portico backup`: a copy of every service's database in one file, taken while the services run.
//!
//! The copy is logical: rows, in a form that both databases read, so that a backup of SQLite restores into Postgres
//! and the other way round. Each service's rows are those of one moment. No key is in it: what was sealed stays sealed,
//! and a backup is worth nothing without the key ring.

pub(crate) mod archive;
pub(crate) mod places;
pub(crate) mod reader;
pub(crate) mod tables;
pub(crate) mod value;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use chrono::{DateTime, Utc};
use clap::Args;
use portico_clock::{Clock as _, SystemClock};
use portico_db::{Db, Tx};
use portico_ids::SystemRng;
use portico_sealing::Sealer;
use serde_json::json;

use self::archive::{FORMAT, Header, KeptFile, SchemaHeader, Trailer, canaries};
use self::places::{PlaceArguments, Places, Service};
use self::writer::Writer;
use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) places: PlaceArguments,
    /// The file to write, or a directory for one that is named after the time; nothing is ever overwritten
    #[arg(long, value_name = "FILE|DIR")]
    pub(crate) out: PathBuf,
}

/// What one service's part of a backup is.
pub(crate) struct Part {
    pub(crate) service: Service,
    pub(crate) db: Db,
    pub(crate) header: SchemaHeader,
}

pub(crate) async fn run(arguments: Arguments, output: Output) -> Result<()> {
    let places = arguments.places.places()?;
    let sealer = Sealer::new(&places.ring()?, Arc::new(SystemRng));
    let now = SystemClock.now();
    let path = if arguments.out.is_dir() { arguments.out.join(file_name(now)) } else { arguments.out };
    let mut parts = Vec::new();
    for service in Service::ALL {
        let db = places.open_existing(service).await?;
        let header = SchemaHeader::of(service, &db).await?;
        parts.push(Part { service, db, header });
    }
    let files = kept_files(&places, &sealer)?;
    let trailer = write(&path, (parts, files), (&sealer, now), output).await?;
    let deployment_id = sealer.ring().deployment_id();
    let answer = json!({
        "file": path, "created_at": now, "deployment_id": deployment_id, "rows": trailer.rows,
        "sha256": trailer.sha256, "keys": trailer.keys.keys().collect::<Vec<_>>(),
    });
    output.value(&answer, || {
        let keys: Vec<&str> = trailer.keys.keys().map(String::as_str).collect();
        format!(
            "wrote {} ({} rows)\nto restore it, the key ring of deployment {} is needed, with {}: keep that elsewhere",
            path.display(),
            trailer.rows,
            deployment_id,
            if keys.is_empty() { "any key".to_owned() } else { keys.join(", ") }
        )
    });
    Ok(())
}

/// Writes the file: what the parts are, then their rows.
pub(crate) async fn write(
    path: &Path,
    (parts, files): (Vec<Part>, Vec<KeptFile>),
    (sealer, now): (&Sealer, DateTime<Utc>),
    output: Output,
) -> Result<Trailer> {
    let mut writer = Writer::create(path, sealer)?;
    writer.header(&Header {
        format: FORMAT,
        created_at: now,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        deployment_id: sealer.ring().deployment_id().to_owned(),
        canaries: canaries(sealer),
        schemas: parts.iter().map(|part| part.header.clone()).collect(),
        files,
    })?;
    for part in &parts {
        let rows = copy(part, &mut writer).await?;
        output.note(&format!("{}: {rows} rows in {} tables", part.service.name(), part.header.tables.len()));
        part.db.close().await;
    }
    writer.finish()
}

fn file_name(now: DateTime<Utc>) -> String {
    now.format("portico-%Y-%m-%dT%H-%M-%SZ.backup").to_string()
}

/// Copies one service's rows as they are at one moment.
async fn copy(part: &Part, writer: &mut Writer) -> Result<u64> {
    let mut tx: Tx = part.db.begin_read().await?;
    let mut rows = 0;
    for table in &part.header.tables {
        writer.table(part.service.name(), table)?;
        let copied = tables::read_rows(&mut tx, table, |row| writer.row(&row)).await;
        rows += copied
            .with_context(|| format!("{} of the {} cannot be copied", table.name, part.service.name()))?;
    }
    Ok(rows)
}

/// Seals the files of `portico dev` that a restored one needs: who administers it is in them.
fn kept_files(places: &Places, sealer: &Sealer) -> Result<Vec<KeptFile>> {
    let Some(path) = places.state_file().filter(|path| path.exists()) else { return Ok(Vec::new()) };
    let text = std::fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(vec![KeptFile::seal(file_stem(&path), &text, sealer)])
}

fn file_stem(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
