//! Reading a backup: once to see that it is whole, then row by row.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use aws_lc_rs::digest::{Context as Digest, SHA256};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::archive::{FORMAT, Header, Mark, Trailer, hex};
use super::value::Value;

/// A backup that was read to its end and is whole.
#[derive(Debug)]
pub(crate) struct Backup {
    path: PathBuf,
    pub(crate) header: Header,
    pub(crate) trailer: Trailer,
}

/// What of a header is the same in every form.
#[derive(Deserialize)]
struct AnyHeader {
    #[serde(rename = "portico_backup")]
    format: u32,
    program: String,
}

/// One line between header and trailer.
#[derive(Debug)]
pub(crate) enum Line {
    Table(Mark),
    Row(Vec<Value>),
}

impl Backup {
    /// Reads the whole file and compares its checksum.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut lines = Lines::open(path)?;
        let first = lines.next()?.with_context(|| damaged(path))?;
        let any: AnyHeader =
            parse(&first).with_context(|| format!("{} is no backup of Portico", path.display()))?;
        if any.format > FORMAT {
            bail!(
                "{} was written by portico {}, in a form ({}) that is newer than this program's ({FORMAT}): use that release",
                path.display(),
                any.program,
                any.format
            );
        }
        let header: Header = parse(&first).with_context(|| damaged(path))?;
        let mut digest = Digest::new(&SHA256);
        let mut last = first;
        while let Some(line) = lines.next()? {
            digest.update(&last);
            last = line;
        }
        let trailer: Trailer = parse(&last)
            .with_context(|| format!("{} is cut short: the end of the backup is missing", path.display()))?;
        ensure!(hex(digest.finish().as_ref()) == trailer.sha256, damaged(path));
        Ok(Self { path: path.to_owned(), header, trailer })
    }

    /// Hands over every line between the header and the trailer, in order.
    pub(crate) fn lines(&self) -> Result<BackupLines> {
        let mut lines = Lines::open(&self.path)?;
        lines.next()?;
        Ok(BackupLines { lines, rows: 0, expected: self.trailer.rows })
    }
}

/// The lines of a backup.
pub(crate) struct BackupLines {
    lines: Lines,
    rows: u64,
    expected: u64,
}

impl BackupLines {
    /// Answers the next line; nothing behind the last row.
    pub(crate) fn next(&mut self) -> Result<Option<Line>> {
        let Some(text) = self.lines.next()? else { bail!(damaged(&self.lines.path)) };
        if text.first() == Some(&b'[') {
            self.rows += 1;
            return Ok(Some(Line::Row(parse(&text)?)));
        }
        if let Ok(mark) = parse::<Mark>(&text) {
            return Ok(Some(Line::Table(mark)));
        }
        // What is neither is the trailer, whose place was checked when the file was opened.
        ensure!(self.rows == self.expected, damaged(&self.lines.path));
        Ok(None)
    }
}

struct Lines {
    path: PathBuf,
    file: BufReader<File>,
}

impl Lines {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
        Ok(Self { path: path.to_owned(), file: BufReader::new(file) })
    }

    fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let read = self.file.read_until(b'\n', &mut line);
        let read = read.with_context(|| format!("{} cannot be read", self.path.display()))?;
        Ok((read > 0).then_some(line))
    }
}

fn parse<T: DeserializeOwned>(line: &[u8]) -> Result<T> {
    Ok(serde_json::from_slice(line)?)
}

fn damaged(path: &Path) -> String {
    format!("{} is damaged: its checksum is not that of its content; use another copy", path.display())
}
