//! When a follower's copy is written.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use prost::Message;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout};

use super::Batch;
use crate::disk::{Copy, DiskCopy, DiskError};
use crate::frame::FrameCodec;
use crate::status::FeedStatus;

/// Changes are gathered this long, so that a busy feed does not write all the time.
const GATHER: Duration = Duration::from_secs(5);
/// Without changes the copy is written this often, because it says when the server last confirmed it.
const REFRESH: Duration = Duration::from_mins(1);
/// How long a disk may hold up the feed.
const PATIENCE: Duration = Duration::from_secs(1);

/// The items as they go to disk, and when they go there next.
pub(super) struct Archive {
    name: &'static str,
    disk: DiskCopy,
    items: BTreeMap<String, Bytes>,
    write_at: Option<Instant>,
    /// A write under way that a slow disk, or a shutdown, left to itself; there is one at a time.
    writing: Option<JoinHandle<Result<(), DiskError>>>,
}

/// What was on disk.
pub(super) struct Loaded<I> {
    pub(super) batch: Batch<I>,
    pub(super) confirmed_at: DateTime<Utc>,
}

impl Archive {
    pub(super) fn new(name: &'static str, disk: DiskCopy) -> Self {
        Self { name, disk, items: BTreeMap::new(), write_at: None, writing: None }
    }

    /// When the copy wants to be written next.
    pub(super) fn write_at(&self) -> Option<Instant> {
        self.write_at
    }

    /// Takes over a batch. A snapshot is written at once.
    pub(super) fn record<I: Message>(&mut self, batch: &Batch<I>) {
        if batch.snapshot {
            self.items.clear();
        }
        for key in &batch.removed {
            self.items.remove(key);
        }
        for (key, item) in &batch.items {
            self.items.insert(key.clone(), item.encode_to_vec().into());
        }
        let due = if batch.snapshot { Instant::now() } else { Instant::now() + GATHER };
        // Until something changes, the next write is a mere refresh, which a change overtakes.
        self.write_at = Some(self.write_at.map_or(due, |at| at.min(due)));
    }

    /// Writes the copy, and waits for it as long as a disk may take. A failure is reported and tried again later: the
    /// feed goes on without.
    pub(super) async fn flush(&mut self, status: &FeedStatus) {
        let Some(confirmed_at) = status.last_contact() else { return };
        self.write_at = Some(Instant::now() + REFRESH);
        if !self.settled().await {
            return;
        }
        let copy = Copy {
            feed: self.name.to_owned(),
            revision: status.revision(),
            confirmed_at: confirmed_at.timestamp_micros(),
            items: self.items.values().cloned().collect(),
        };
        let disk = self.disk.clone();
        self.writing = Some(spawn_blocking(move || disk.write(&copy)));
        self.settled().await;
    }

    /// Waits for the write that is under way, and tells whether it has ended.
    async fn settled(&mut self) -> bool {
        let Some(writing) = &mut self.writing else { return true };
        let Ok(written) = timeout(PATIENCE, writing).await else {
            let path = self.disk.path().display();
            tracing::warn!(feed.name = self.name, file.path = %path, "writing the feed's copy takes long: not waiting");
            return false;
        };
        self.writing = None;
        match written {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                self.warn(&error, "the feed's copy cannot be written: a restart will need the server");
            }
            Err(error) => self.warn(&error, "writing the feed's copy failed"),
        }
        true
    }

    /// Reads the copy.
    pub(super) async fn load<C: FrameCodec>(&mut self) -> Option<Loaded<C::Item>> {
        let (disk, name) = (self.disk.clone(), self.name);
        let copy = match spawn_blocking(move || disk.read(name)).await {
            Ok(Ok(copy)) => copy?,
            Ok(Err(error)) => {
                self.warn(&error, "the feed's copy cannot be used: waiting for the server instead");
                return None;
            }
            Err(error) => {
                self.warn(&error, "reading the feed's copy failed");
                return None;
            }
        };
        let mut items = Vec::with_capacity(copy.items.len());
        for encoded in copy.items {
            let Ok(item) = C::Item::decode(encoded.clone()) else {
                self.items.clear();
                self.warn(
                    &DiskError::Damaged,
                    "the feed's copy cannot be used: waiting for the server instead",
                );
                return None;
            };
            let key = C::key(&item).to_owned();
            self.items.insert(key.clone(), encoded);
            items.push((key, item));
        }
        let confirmed_at = DateTime::from_timestamp_micros(copy.confirmed_at).unwrap_or_default();
        let batch = Batch { snapshot: true, items, removed: Vec::new(), revision: copy.revision };
        Some(Loaded { batch, confirmed_at })
    }

    fn warn(&self, error: &dyn std::error::Error, message: &'static str) {
        let (path, source) = (self.disk.path().display(), error.source());
        tracing::warn!(feed.name = self.name, file.path = %path, %error, source, "{message}");
    }
}

#[cfg(test)]
mod tests {
    use portico_proto_auth::TrustItem;

    use super::*;
    use crate::frame::tests::item;

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_hangs_does_not_hold_up_the_feed_and_is_written_again_when_it_is_back() {
        let directory = tempfile::tempdir().unwrap();
        let disk = DiskCopy::Plain(directory.path().join("trust.feed"));
        let mut archive = Archive::new("trust", disk.clone());
        let items = vec![("a".to_owned(), item("a", "1"))];
        archive.record::<TrustItem>(&Batch { snapshot: true, items, removed: Vec::new(), revision: 5 });
        let status = FeedStatus::default();
        status.confirm(5, DateTime::UNIX_EPOCH);

        let (back, hangs) = tokio::sync::oneshot::channel::<()>();
        let stuck = async { hangs.await.map_err(|_| DiskError::Damaged) };
        archive.writing = Some(tokio::runtime::Handle::current().spawn(stuck));
        let began = Instant::now();
        archive.flush(&status).await;
        assert_eq!(began.elapsed(), PATIENCE);
        assert_eq!(disk.read("trust").unwrap(), None, "one write at a time");

        back.send(()).unwrap();
        archive.flush(&status).await;
        assert_eq!(disk.read("trust").unwrap().map(|copy| copy.revision), Some(5));
    }
}
