//! A follower's last copy on disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use bytes::Bytes;
use portico_sealing::{Aad, OpenError, Sealer};
use prost::Message;
use secrecy::ExposeSecret;

/// What a copy begins with; another layout gets another number.
const MAGIC: &[u8; 8] = b"PFEED\0\0\x01";

/// Where and how a follower keeps its last copy.
#[derive(Debug, Clone)]
pub enum DiskCopy {
    /// With a checksum, readable by anybody who may read the file.
    Plain(PathBuf),
    /// Sealed with the deployment's key: nobody else can read or change it.
    Sealed(PathBuf, Sealer),
}

/// Why a copy cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    #[error("the file cannot be read or written")]
    Io(#[from] io::Error),
    #[error("the file is damaged or not a copy of a feed")]
    Damaged,
    #[error("the file is the copy of another feed, {0}")]
    OtherFeed(String),
    /// The file was sealed by another deployment or with a key that is gone.
    #[error(transparent)]
    Sealed(#[from] OpenError),
}

/// What is kept of a feed.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Copy {
    #[prost(string, tag = "1")]
    pub(crate) feed: String,
    #[prost(int64, tag = "2")]
    pub(crate) revision: i64,
    /// When the server last confirmed the content, in microseconds.
    #[prost(int64, tag = "3")]
    pub(crate) confirmed_at: i64,
    /// The items, encoded.
    #[prost(bytes = "bytes", repeated, tag = "4")]
    pub(crate) items: Vec<Bytes>,
}

impl DiskCopy {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Plain(path) | Self::Sealed(path, _) => path,
        }
    }

    /// Reads the copy; `None` if there is none yet. Blocks.
    pub(crate) fn read(&self, feed: &str) -> Result<Option<Copy>, DiskError> {
        let stored = match std::fs::read(self.path()) {
            Ok(stored) => stored,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let copy = match self {
            Self::Plain(_) => unframe(&stored)?,
            Self::Sealed(_, sealer) => unframe(sealer.open(&aad(feed), &stored)?.expose_secret())?,
        };
        if copy.feed == feed { Ok(Some(copy)) } else { Err(DiskError::OtherFeed(copy.feed)) }
    }

    /// Replaces the copy: a reader, or a process that dies in between, sees the old one or the new one. Blocks.
    pub(crate) fn write(&self, copy: &Copy) -> Result<(), DiskError> {
        let framed = frame(copy);
        let stored = match self {
            Self::Plain(_) => framed,
            Self::Sealed(_, sealer) => sealer.seal(&aad(&copy.feed), &framed),
        };
        let path = self.path();
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        // What a killed process left behind may have other permissions.
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(&stored)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            File::open(directory)?.sync_all()?;
        }
        Ok(())
    }
}

fn aad(feed: &str) -> Aad<'_> {
    Aad { table: "feed", row: feed, field: "copy", version: 1 }
}

fn frame(copy: &Copy) -> Vec<u8> {
    let mut framed = Vec::with_capacity(MAGIC.len() + SHA256_OUTPUT_LEN + copy.encoded_len());
    let content = copy.encode_to_vec();
    framed.extend_from_slice(MAGIC);
    framed.extend_from_slice(digest(&SHA256, &content).as_ref());
    framed.extend_from_slice(&content);
    framed
}

fn unframe(framed: &[u8]) -> Result<Copy, DiskError> {
    let framed = framed.strip_prefix(MAGIC).ok_or(DiskError::Damaged)?;
    let (sum, content) = framed.split_at_checked(SHA256_OUTPUT_LEN).ok_or(DiskError::Damaged)?;
    if digest(&SHA256, content).as_ref() != sum {
        return Err(DiskError::Damaged);
    }
    Copy::decode(content).map_err(|_| DiskError::Damaged)
}

#[cfg(test)]
mod tests;
