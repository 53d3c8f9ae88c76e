//! One stream, from opening it to losing it.

use std::future::Future;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use tokio::time::{Instant, timeout, timeout_at};
use tonic::Status;

use super::{Batch, Clocks, Follower};
use crate::frame::{Frame, FrameCodec};

const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Three heartbeats.
const SILENCE: Duration = Duration::from_secs(15);

/// Why a stream is given up.
#[derive(Debug, thiserror::Error)]
pub(super) enum Interrupted {
    #[error("the stream could not be opened in time")]
    OpenTimeout,
    #[error("{} ({})", .0.message(), .0.code())]
    Status(#[from] Status),
    #[error("the server ended the stream")]
    Ended,
    #[error("the server was silent for {} seconds", SILENCE.as_secs())]
    Silent,
    #[error("the server sent frames in an order that makes no sense: {0}")]
    Protocol(&'static str),
}

/// A batch of which the end has not arrived.
struct Pending<I> {
    snapshot: bool,
    items: Vec<(String, I)>,
    removed: Vec<String>,
}

impl<C: FrameCodec> Follower<C> {
    /// Opens a stream and applies its batches until it is lost.
    pub(super) async fn session<O, F, S>(&mut self, open: &mut O) -> Interrupted
    where
        O: FnMut(i64) -> F,
        F: Future<Output = Result<S, Status>>,
        S: Stream<Item = Result<C::Message, Status>> + Unpin,
    {
        let stream = match timeout(OPEN_TIMEOUT, open(self.revision)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(status)) => return status.into(),
            Err(_) => return Interrupted::OpenTimeout,
        };
        self.status.set_connected(true);
        self.clocks = Clocks::default();
        match self.read(stream).await {
            Ok(never) => match never {},
            Err(interrupted) => interrupted,
        }
    }

    async fn read<S>(&mut self, mut stream: S) -> Result<std::convert::Infallible, Interrupted>
    where
        S: Stream<Item = Result<C::Message, Status>> + Unpin,
    {
        let mut pending: Option<Pending<C::Item>> = None;
        loop {
            let silent_at = Instant::now() + SILENCE;
            let message = loop {
                let write_at = self.archive.as_ref().and_then(super::Archive::write_at);
                let wake_at = write_at.map_or(silent_at, |at| at.min(silent_at));
                match timeout_at(wake_at, stream.next()).await {
                    Ok(message) => break message,
                    Err(_) if Instant::now() >= silent_at => return Err(Interrupted::Silent),
                    Err(_) => self.archive_copy().await,
                }
            };
            let message = message.ok_or(Interrupted::Ended)??;
            // A newer server may send frames of kinds that mean nothing here; they still prove that it lives.
            let Some(frame) = C::decode(message) else { continue };
            self.take(frame, &mut pending)?;
            self.archive_copy().await;
        }
    }

    fn take(
        &mut self,
        frame: Frame<C::Item>,
        pending: &mut Option<Pending<C::Item>>,
    ) -> Result<(), Interrupted> {
        match frame {
            Frame::Begin { snapshot } => {
                if pending.is_some() {
                    return Err(Interrupted::Protocol("a batch inside a batch"));
                }
                if !snapshot && !self.status.has_copy() {
                    return Err(Interrupted::Protocol("a change before the first snapshot"));
                }
                *pending = Some(Pending { snapshot, items: Vec::new(), removed: Vec::new() });
            }
            Frame::Put { items, removed } => {
                let batch = pending.as_mut().ok_or(Interrupted::Protocol("items outside a batch"))?;
                batch.items.extend(items.into_iter().map(|item| (C::key(&item).to_owned(), item)));
                batch.removed.extend(removed);
            }
            Frame::End { revision } => {
                let batch = pending.take().ok_or(Interrupted::Protocol("an end without a beginning"))?;
                // Only a snapshot may go back: the server's database was restored.
                if !batch.snapshot && revision < self.revision {
                    return Err(Interrupted::Protocol("a change that is older than the copy"));
                }
                let Pending { snapshot, items, removed } = batch;
                self.apply_batch(Batch { snapshot, items, removed, revision });
            }
            Frame::Heartbeat { revision, sent_at } => {
                if pending.is_some() {
                    return Err(Interrupted::Protocol("a heartbeat inside a batch"));
                }
                if !self.status.has_copy() {
                    return Err(Interrupted::Protocol("a heartbeat before the first snapshot"));
                }
                self.confirm(revision.max(self.revision));
                if let Some(sent_at) = sent_at {
                    self.status.set_skew(self.clocks.compare(sent_at, self.clock.now()));
                }
            }
        }
        Ok(())
    }

    fn apply_batch(&mut self, batch: Batch<C::Item>) {
        if let Some(archive) = &mut self.archive {
            archive.record(&batch);
        }
        let revision = batch.revision;
        (self.apply)(batch);
        self.confirm(revision);
    }

    fn confirm(&mut self, revision: i64) {
        self.revision = revision;
        self.status.confirm(revision, self.clock.now());
        self.backoff.reset();
    }

    async fn archive_copy(&mut self) {
        if let Some(archive) = &mut self.archive
            && archive.write_at().is_some_and(|at| at <= Instant::now())
        {
            archive.flush(&self.status).await;
        }
    }
}
