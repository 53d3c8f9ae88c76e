//! Serving a watch stream.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use portico_process::Tasks;
use prost::Message;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::frame::{Frame, FrameCodec};

/// Largest encoded size of a `Put`.
const CHUNK: usize = 256 * 1024;
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long a watcher may leave a frame untaken.
const PROGRESS: Duration = Duration::from_secs(30);
/// How long the source may take.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Commits that follow one another this closely become one batch.
const GATHER: Duration = Duration::from_millis(20);

/// What changed since a revision.
#[derive(Debug, Clone)]
pub struct Changes<I> {
    /// Whether `items` is everything, because the changes since the revision are no longer known.
    pub snapshot: bool,
    /// New values.
    pub items: Vec<I>,
    /// Keys of items that no longer exist.
    pub removed: Vec<String>,
    /// The revision that this leads to.
    pub revision: i64,
}

/// Where a watch stream's content comes from.
pub trait FeedSource<I>: Send + Sync + 'static {
    /// Reads what changed since a revision; everything if `since` is `None`, too long ago, or of the future.
    fn changes(&self, since: Option<i64>) -> impl Future<Output = Result<Changes<I>, Status>> + Send;

    /// Tells the time, so that followers can compare their clocks.
    fn now(&self) -> DateTime<Utc>;
}

/// What one watcher asked for.
#[derive(Debug)]
pub struct Watch<S> {
    /// Where the content comes from.
    pub source: Arc<S>,
    /// The request's `since_revision`; 0 for everything.
    pub since: i64,
    /// Changes whenever the content may have changed; the value does not matter.
    pub wake: watch::Receiver<i64>,
}

/// The stream that a watch method answers with.
pub type FeedStream<M> = ReceiverStream<Result<M, Status>>;

/// Serves one watcher until it goes away, is silent for too long, or the process shuts down.
#[must_use]
pub fn serve<C, S>(watch: Watch<S>, tasks: &Tasks) -> FeedStream<C::Message>
where
    C: FrameCodec,
    S: FeedSource<C::Item>,
{
    // One frame: whatever the watcher has not taken is not read from the source either.
    let (sender, receiver) = mpsc::channel(1);
    let shutdown = tasks.shutdown_token();
    tasks.spawn_short("feed.watcher", async move {
        let watcher = Watcher::<C> { sender, shutdown };
        if let Err(Gone::Failed(status)) = watcher.run(watch).await {
            // A watcher that waits hears why; one that is full learns it from the end of the stream.
            let _ = watcher.sender.try_send(Err(status));
        }
    });
    ReceiverStream::new(receiver)
}

/// Why a watcher is no longer served.
enum Gone {
    /// It closed the stream, or took nothing for too long.
    Left,
    Failed(Status),
}

struct Watcher<C: FrameCodec> {
    sender: mpsc::Sender<Result<C::Message, Status>>,
    shutdown: CancellationToken,
}

impl<C: FrameCodec> Watcher<C> {
    async fn run<S: FeedSource<C::Item>>(&self, watch: Watch<S>) -> Result<(), Gone> {
        let Watch { source, since, mut wake } = watch;
        let mut last = (since > 0).then_some(since);
        let mut greeted = false;
        let mut beat_at = Instant::now();
        loop {
            // Marked as seen before reading: a change in between wakes again.
            wake.borrow_and_update();
            let changes = timeout(READ_TIMEOUT, source.changes(last))
                .await
                .map_err(|_| Gone::Failed(Status::unavailable("the feed cannot be read in time: try again")))?
                .map_err(Gone::Failed)?;
            let revision = changes.revision;
            let empty = !changes.snapshot && changes.items.is_empty() && changes.removed.is_empty();
            if !empty || !greeted {
                self.send_batch(changes).await?;
                beat_at = Instant::now() + HEARTBEAT;
            }
            greeted = true;
            last = Some(revision);
            self.wait(&*source, revision, &mut wake, &mut beat_at).await?;
        }
    }

    /// Sends heartbeats until there may be something new.
    async fn wait<S: FeedSource<C::Item>>(
        &self,
        source: &S,
        revision: i64,
        wake: &mut watch::Receiver<i64>,
        beat_at: &mut Instant,
    ) -> Result<(), Gone> {
        loop {
            tokio::select! {
                // Commits that change nothing here must not keep a heartbeat from its time.
                biased;
                () = self.sender.closed() => return Err(Gone::Left),
                () = self.shutdown.cancelled() => return Err(Gone::Failed(ending())),
                () = sleep_until(*beat_at) => {
                    self.send(Frame::Heartbeat { revision, sent_at: Some(source.now()) }).await?;
                    *beat_at = Instant::now() + HEARTBEAT;
                }
                changed = wake.changed() => {
                    changed.map_err(|_| Gone::Failed(letting_go()))?;
                    sleep(GATHER).await;
                    return Ok(());
                }
            }
        }
    }

    async fn send_batch(&self, changes: Changes<C::Item>) -> Result<(), Gone> {
        self.send(Frame::Begin { snapshot: changes.snapshot }).await?;
        let (mut items, mut removed, mut size) = (Vec::new(), Vec::new(), 0);
        for key in changes.removed {
            let more = field_size(key.len());
            if size + more > CHUNK && size > 0 {
                self.send(Frame::Put { items: Vec::new(), removed: std::mem::take(&mut removed) }).await?;
                size = 0;
            }
            size += more;
            removed.push(key);
        }
        for item in changes.items {
            let more = field_size(item.encoded_len());
            if size + more > CHUNK && size > 0 {
                let (items, removed) = (std::mem::take(&mut items), std::mem::take(&mut removed));
                self.send(Frame::Put { items, removed }).await?;
                size = 0;
            }
            size += more;
            items.push(item);
        }
        if size > 0 {
            self.send(Frame::Put { items, removed }).await?;
        }
        self.send(Frame::End { revision: changes.revision }).await
    }

    async fn send(&self, frame: Frame<C::Item>) -> Result<(), Gone> {
        let sending = self.sender.send(Ok(C::encode(frame)));
        tokio::select! {
            sent = timeout(PROGRESS, sending) => {
                let Ok(sent) = sent else {
                    tracing::warn!("a watcher took nothing for {} seconds: it is cut", PROGRESS.as_secs());
                    return Err(Gone::Left);
                };
                sent.map_err(|_| Gone::Left)
            }
            () = self.shutdown.cancelled() => Err(Gone::Failed(ending())),
        }
    }
}

fn ending() -> Status {
    Status::unavailable("the service is shutting down: connect again")
}

fn letting_go() -> Status {
    Status::unavailable("this replica cannot tell what is new: connect again, to another one")
}

/// Bytes of a length-delimited field: tag, length (at most 10 bytes), content.
fn field_size(content: usize) -> usize {
    1 + prost::length_delimiter_len(content) + content
}

#[cfg(test)]
mod tests;
