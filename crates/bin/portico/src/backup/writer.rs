//! Writing a backup.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use aws_lc_rs::digest::{Context as Digest, SHA256};
use portico_sealing::Sealer;
use serde::Serialize;

use super::archive::{Header, Mark, Trailer};
use super::tables::Table;
use super::value::Value;

/// Writes beside the file and gives it its name when all is there.
pub(super) struct Writer {
    path: PathBuf,
    partial: PathBuf,
    file: BufWriter<File>,
    digest: Digest,
    rows: u64,
    sealer: Sealer,
    /// What values begin with that a key of the ring has sealed.
    prefixes: Vec<(String, Vec<u8>)>,
    keys: BTreeMap<String, u64>,
}

impl Writer {
    pub(super) fn create(path: &Path, sealer: &Sealer) -> Result<Self> {
        if path.exists() {
            bail!("{} is there already: no backup is overwritten", path.display());
        }
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        match std::fs::remove_file(&partial) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("{} cannot be removed", partial.display()));
            }
            _ => {}
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial);
        let file = file.with_context(|| format!("{} cannot be written", partial.display()))?;
        let prefixes = sealer.ring().key_ids().into_iter().map(|id| {
            let prefix = Sealer::prefix(&id);
            (id, prefix)
        });
        Ok(Self {
            path: path.to_owned(),
            partial,
            file: BufWriter::new(file),
            digest: Digest::new(&SHA256),
            rows: 0,
            prefixes: prefixes.collect(),
            sealer: sealer.clone(),
            keys: BTreeMap::new(),
        })
    }

    pub(super) fn header(&mut self, header: &Header) -> Result<()> {
        self.line(header)
    }

    pub(super) fn table(&mut self, service: &str, table: &Table) -> Result<()> {
        self.line(&Mark { service: service.to_owned(), table: table.name.clone() })
    }

    pub(super) fn row(&mut self, row: &[Value]) -> Result<()> {
        for value in row {
            let Value::Bytes { bytes } = value else { continue };
            if let Some((id, _)) = self.prefixes.iter().find(|(_, prefix)| bytes.starts_with(prefix)) {
                *self.keys.entry(id.clone()).or_default() += 1;
            }
        }
        self.rows += 1;
        self.line(&row)
    }

    /// Writes the end, makes it durable, and gives the file its name.
    pub(super) fn finish(mut self) -> Result<Trailer> {
        let sha256 = super::archive::hex(self.digest.clone().finish().as_ref());
        let trailer = Trailer::new(sha256, self.rows, std::mem::take(&mut self.keys), &self.sealer);
        self.line(&trailer)?;
        let failed = || format!("{} cannot be written", self.path.display());
        let file =
            self.file.into_inner().map_err(std::io::IntoInnerError::into_error).with_context(failed)?;
        file.sync_all().with_context(failed)?;
        std::fs::rename(&self.partial, &self.path).with_context(failed)?;
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new("."))).and_then(|d| d.sync_all()).with_context(failed)?;
        Ok(trailer)
    }

    fn line(&mut self, line: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.digest.update(&text);
        self.file.write_all(&text).with_context(|| format!("{} cannot be written", self.partial.display()))
    }
}
