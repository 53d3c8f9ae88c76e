//! Following a watch stream.

mod archive;
mod clocks;
mod session;

use std::convert::Infallible;
use std::fmt;
use std::future::Future;

use futures_util::Stream;
use portico_clock::SharedClock;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use self::archive::Archive;
use self::clocks::Clocks;
use self::session::Interrupted;
use crate::backoff::Backoff;
use crate::disk::DiskCopy;
use crate::frame::FrameCodec;
use crate::status::FeedStatus;

/// One consistent step from revision to revision.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch<I> {
    /// Whether everything applied before is to be forgotten.
    pub snapshot: bool,
    /// New values of items, with their keys.
    pub items: Vec<(String, I)>,
    /// Keys of items that no longer exist; none of them is among `items`.
    pub removed: Vec<String>,
    /// The revision after the step.
    pub revision: i64,
}

type Apply<I> = Box<dyn FnMut(Batch<I>) + Send>;

/// Follows one watch stream: applies whole batches, reconnects, resumes, keeps the last copy on disk.
pub struct Follower<C: FrameCodec> {
    name: &'static str,
    apply: Apply<C::Item>,
    clock: SharedClock,
    status: FeedStatus,
    archive: Option<Archive>,
    backoff: Backoff,
    clocks: Clocks,
    /// The revision to resume from; 0 asks for a snapshot.
    revision: i64,
}

impl<C: FrameCodec> fmt::Debug for Follower<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower")
            .field("name", &self.name)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl<C: FrameCodec> Follower<C> {
    /// Makes a follower that hands every batch to `apply`, in order. `apply` must not block.
    pub fn new(
        name: &'static str,
        disk: Option<DiskCopy>,
        apply: impl FnMut(Batch<C::Item>) + Send + 'static,
        clock: SharedClock,
    ) -> Self {
        Self {
            name,
            apply: Box::new(apply),
            clock,
            status: FeedStatus::default(),
            archive: disk.map(|disk| Archive::new(name, disk)),
            backoff: Backoff::default(),
            clocks: Clocks::default(),
            revision: 0,
        }
    }

    /// Returns the follower's status, which goes on telling while it runs.
    #[must_use]
    pub fn status(&self) -> FeedStatus {
        self.status.clone()
    }

    /// Applies the last copy on disk and tells whether there was one. A damaged copy is ignored with a warning.
    pub async fn load(&mut self) -> bool {
        let Some(archive) = &mut self.archive else { return false };
        let Some(loaded) = archive.load::<C>().await else { return false };
        let revision = loaded.batch.revision;
        (self.apply)(loaded.batch);
        self.revision = revision;
        // A clock that was set back must not make an old copy look fresh.
        self.status.confirm(revision, loaded.confirmed_at.min(self.clock.now()));
        true
    }

    /// Follows until `token` is cancelled. `open` starts a stream from a revision (0: from nothing).
    ///
    /// The copy on disk is loaded first unless [`Self::load`] did so.
    pub async fn run<O, F, S>(mut self, mut open: O, token: CancellationToken) -> Result<(), Infallible>
    where
        O: FnMut(i64) -> F,
        F: Future<Output = Result<S, Status>>,
        S: Stream<Item = Result<C::Message, Status>> + Unpin,
    {
        if !self.status.has_copy() {
            self.load().await;
        }
        while let Some(interrupted) = token.run_until_cancelled(self.session(&mut open)).await {
            self.status.set_connected(false);
            if token.is_cancelled() {
                // In one process publisher and follower stop at the same time.
                break;
            }
            let pause = self.backoff.next(self.clock.now());
            self.report(&interrupted, pause);
            if token.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                break;
            }
        }
        self.status.set_connected(false);
        if let Some(archive) = &mut self.archive {
            archive.flush(&self.status).await;
        }
        Ok(())
    }

    fn report(&self, interrupted: &Interrupted, pause: std::time::Duration) {
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(
            feed.name = self.name,
            feed.revision = self.revision,
            feed.reconnect_ms = pause_ms,
            error = %interrupted,
            "the feed was interrupted: the last copy stays in use"
        );
    }
}

#[cfg(test)]
mod tests;
