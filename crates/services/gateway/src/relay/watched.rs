use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::BoxError;
use bytes::Bytes;
use http_body::Frame;
use tokio::time::Instant;

use crate::metrics::{GatewayMetrics, Shed};

/// Streaming answers, so that those are found whose reader does not read.
///
/// A body is asked for more only when its connection has room, so a slow reader is never buffered; but nobody asks a
/// body whose reader has stopped, and what stands open behind it would stay. A watch lets go of such bodies from outside.
#[derive(Debug)]
pub(crate) struct Readers {
    open: Arc<Mutex<HashMap<u64, Weak<dyn Watch>>>>,
    next: AtomicU64,
    begun: Instant,
    patience: Duration,
    metrics: GatewayMetrics,
}

trait Watch: Send + Sync + fmt::Debug {
    /// Since when what the body gave has not been sent, in milliseconds; 0 while the body is waited for.
    fn unread_since(&self) -> u64;
    /// Drops what is behind the body.
    fn let_go(&self);
}

/// A body that can be dropped while its connection still holds it.
pub(crate) struct Watched<B> {
    slot: Arc<Slot<B>>,
    number: u64,
    open: Arc<Mutex<HashMap<u64, Weak<dyn Watch>>>>,
    begun: Instant,
}

struct Slot<B> {
    body: Mutex<Option<B>>,
    unread_since: AtomicU64,
}

impl<B> fmt::Debug for Slot<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("unread_since", &self.unread_since).finish_non_exhaustive()
    }
}

/// The connection is cut, so that an agent that reads again sees that something is missing.
#[derive(Debug, thiserror::Error)]
#[error("the reader was too slow")]
pub(crate) struct TooSlow;

impl Readers {
    pub(crate) fn new(patience: Duration, metrics: GatewayMetrics) -> Self {
        Self { open: Arc::default(), next: AtomicU64::new(0), begun: Instant::now(), patience, metrics }
    }

    pub(crate) fn watch<B>(&self, body: B) -> Watched<B>
    where
        B: Send + 'static,
    {
        let slot = Arc::new(Slot { body: Mutex::new(Some(body)), unread_since: AtomicU64::new(0) });
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let watch: Arc<dyn Watch> = slot.clone();
        locked(&self.open).insert(number, Arc::downgrade(&watch));
        Watched { slot, number, open: Arc::clone(&self.open), begun: self.begun }
    }

    /// Drops what stands open for readers that have not read for too long.
    pub(crate) fn let_go_of_slow(&self, now: Instant) {
        let long_ago = millis(now, self.begun).saturating_sub(millis_of(self.patience));
        let open: Vec<Arc<dyn Watch>> = locked(&self.open).values().filter_map(Weak::upgrade).collect();
        for watch in open {
            if (1..=long_ago).contains(&watch.unread_since()) {
                self.metrics.shed(Shed::SlowReader);
                watch.let_go();
            }
        }
    }
}

impl<B: Send> Watch for Slot<B> {
    fn unread_since(&self) -> u64 {
        self.unread_since.load(Ordering::Relaxed)
    }

    fn let_go(&self) {
        self.unread_since.store(0, Ordering::Relaxed);
        // Dropped after the lock: dropping a body may do more than a moment's work.
        let body = locked(&self.body).take();
        drop(body);
    }
}

impl<B> http_body::Body for Watched<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut body = locked(&self.slot.body);
        let Some(inner) = &mut *body else { return Poll::Ready(Some(Err(Box::new(TooSlow)))) };
        let next = Pin::new(inner).poll_frame(cx);
        let unread = if matches!(next, Poll::Ready(Some(Ok(_)))) {
            millis(Instant::now(), self.begun).max(1)
        } else {
            0
        };
        self.slot.unread_since.store(unread, Ordering::Relaxed);
        next.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        locked(&self.slot.body).as_ref().is_some_and(B::is_end_stream)
    }
}

impl<B> Drop for Watched<B> {
    fn drop(&mut self) {
        locked(&self.open).remove(&self.number);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn millis(now: Instant, since: Instant) -> u64 {
    millis_of(now.saturating_duration_since(since))
}

fn millis_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
