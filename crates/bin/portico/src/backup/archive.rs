//! The form of a backup: lines of JSON.
//!
//! The first line is the [`Header`]. A table is a [`Mark`] and then one array for each row. The last line is the
//! [`Trailer`] with the SHA-256 of every byte before it, sealed with the key ring: nobody else can make or change a
//! backup that restores.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use portico_db::{Db, check_schema};
use portico_sealing::{Aad, Sealer};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};

use super::places::Service;
use super::tables::{self, Table};

/// The form that this program writes, and the newest that it reads.
pub(crate) const FORMAT: u32 = 1;
/// What a canary holds.
const CANARY: &[u8] = b"portico backup";

/// What is in a backup.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Header {
    /// The form of the lines; a reader refuses a newer one.
    #[serde(rename = "portico_backup")]
    pub(crate) format: u32,
    pub(crate) created_at: DateTime<Utc>,
    /// The release that wrote it.
    pub(crate) program: String,
    pub(crate) deployment_id: String,
    /// A known value sealed with each key of the ring, by key id: opening it proves that a ring has the key.
    pub(crate) canaries: BTreeMap<String, String>,
    pub(crate) schemas: Vec<SchemaHeader>,
    pub(crate) files: Vec<KeptFile>,
}

/// One service's tables.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SchemaHeader {
    pub(crate) service: String,
    /// How far the schema was migrated.
    pub(crate) version: i64,
    /// In the order in which rows can be inserted.
    pub(crate) tables: Vec<Table>,
}

/// A file beside the databases, sealed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KeptFile {
    pub(crate) name: String,
    sealed: String,
}

/// Begins the rows of a table.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mark {
    pub(crate) service: String,
    pub(crate) table: String,
}

/// The end of a backup.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Trailer {
    /// Of every byte before this line, in hexadecimal.
    pub(crate) sha256: String,
    pub(crate) rows: u64,
    /// How many values each key of the ring holds, without the keys that hold none.
    pub(crate) keys: BTreeMap<String, u64>,
    seal: String,
}

impl SchemaHeader {
    /// Describes a database, which has to be as new as this program.
    pub(crate) async fn of(service: Service, db: &Db) -> Result<Self> {
        let schema = service.schema();
        check_schema(db, schema).await.context("back up with the release that runs")?;
        let version = schema.postgres.iter().map(|migration| migration.version).max().unwrap_or(0);
        Ok(Self { service: service.name().to_owned(), version, tables: tables::of(db).await? })
    }
}

impl KeptFile {
    pub(crate) fn seal(name: String, text: &[u8], sealer: &Sealer) -> Self {
        Self { sealed: STANDARD.encode(sealer.seal(&place("file", &name), text)), name }
    }

    pub(crate) fn open(&self, sealer: &Sealer) -> Result<secrecy::SecretSlice<u8>> {
        let bytes = STANDARD.decode(&self.sealed).context("a sealed file is not base64")?;
        sealer
            .open(&place("file", &self.name), &bytes)
            .with_context(|| format!("{} does not open", self.name))
    }
}

/// Seals a known value with every key of the ring.
pub(crate) fn canaries(sealer: &Sealer) -> BTreeMap<String, String> {
    let each = sealer.seal_with_each(&place("canary", ""), CANARY);
    each.into_iter().map(|(key, canary)| (key, STANDARD.encode(canary))).collect()
}

impl Trailer {
    pub(crate) fn new(sha256: String, rows: u64, keys: BTreeMap<String, u64>, sealer: &Sealer) -> Self {
        let mut trailer = Self { sha256, rows, keys, seal: String::new() };
        trailer.seal = STANDARD.encode(sealer.seal(&place("seal", &trailer.content()), CANARY));
        trailer
    }

    /// What the seal is good for: all that the trailer says.
    fn content(&self) -> String {
        let keys = self.keys.iter().map(|(key, rows)| format!(" {key}={rows}"));
        format!("{} {}{}", self.sha256, self.rows, keys.collect::<String>())
    }
}

/// Checks that the ring opens what the backup needs, and that its holder made the backup.
pub(crate) fn check_ring(header: &Header, trailer: &Trailer, sealer: &Sealer) -> Result<()> {
    let ring = sealer.ring();
    if header.deployment_id != ring.deployment_id() {
        bail!(
            "the key ring does not fit: the backup is of deployment {}, the ring of {}",
            header.deployment_id,
            ring.deployment_id()
        );
    }
    for (key, rows) in &trailer.keys {
        let canary = header.canaries.get(key).and_then(|canary| STANDARD.decode(canary).ok());
        let opened = canary.map(|canary| sealer.open(&place("canary", ""), &canary));
        match opened {
            Some(Ok(value)) if value.expose_secret() == CANARY => {}
            _ => bail!(
                "the key ring does not fit: {rows} values of the backup are sealed with {key}, which the ring does not hold; \
                 use the ring as it was at {}",
                header.created_at
            ),
        }
    }
    let seal = STANDARD.decode(&trailer.seal).context("the backup's seal is not base64")?;
    sealer.open(&place("seal", &trailer.content()), &seal).map(drop).context(
        "the backup's seal does not open: it was changed, or made without this deployment's key ring",
    )
}

fn place<'a>(field: &'a str, row: &'a str) -> Aad<'a> {
    Aad { table: "portico.backup", row, field, version: 1 }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
