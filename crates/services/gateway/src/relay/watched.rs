use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::BoxError;
use axum::body::Body;
use axum::response::Response;
use bytes::{Buf, Bytes};
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::Instant;

use crate::access::OpenCall;
use crate::metrics::{GatewayMetrics, Shed};

/// Most bytes that a connection gets at once: it keeps them for as long as their reader does not read.
const PIECE: usize = 16 * 1024;

/// Answers that are more than a piece, so that those are found whose reader does not read.
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

/// An answer that takes a place of its principal.
struct Placed {
    body: Body,
    _place: Arc<OpenCall>,
}

impl http_body::Body for Placed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

struct Slot<B> {
    body: Mutex<Option<Pieces<B>>>,
    unread_since: AtomicU64,
}

/// A body that is given piece by piece.
struct Pieces<B> {
    body: B,
    /// What is left of its last frame.
    rest: Bytes,
}

impl<B: http_body::Body<Data = Bytes> + Unpin> Pieces<B> {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) if frame.data_ref().is_some_and(|data| data.len() > PIECE) => {
                    self.rest = frame.into_data().unwrap_or_default();
                }
                next => return Poll::Ready(next),
            }
        }
        // A copy: as a part of the whole it would keep the whole.
        let piece = Bytes::copy_from_slice(&self.rest[..self.rest.len().min(PIECE)]);
        self.rest.advance(piece.len());
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    /// What is still to come, as far as the body knows it.
    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
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
        let body = Mutex::new(Some(Pieces { body, rest: Bytes::new() }));
        let slot = Arc::new(Slot { body, unread_since: AtomicU64::new(0) });
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let watch: Arc<dyn Watch> = slot.clone();
        locked(&self.open).insert(number, Arc::downgrade(&watch));
        Watched { slot, number, open: Arc::clone(&self.open), begun: self.begun }
    }

    /// Hands an answer over to its connection: it takes its principal's place until it is sent, because a connection may
    /// keep what is not read. One that streams is watched from its beginning.
    pub(crate) fn deliver(&self, answer: Response, place: Arc<OpenCall>) -> Response {
        let size = answer.body().size_hint().exact();
        if size == Some(0) {
            return answer;
        }
        answer.map(|body| {
            let large = size.is_some_and(|bytes| bytes > PIECE as u64);
            let body = if large { Body::new(self.watch(body)) } else { body };
            Body::new(Placed { body, _place: place })
        })
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
        let next = inner.poll_piece(cx);
        let unread = if matches!(next, Poll::Ready(Some(Ok(_)))) {
            millis(Instant::now(), self.begun).max(1)
        } else {
            0
        };
        self.slot.unread_since.store(unread, Ordering::Relaxed);
        next.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        locked(&self.slot.body).as_ref().is_some_and(Pieces::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        locked(&self.slot.body).as_ref().map(Pieces::size_hint).unwrap_or_default()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::OpenCalls;
    use http_body_util::{BodyExt, Full};

    fn readers() -> Readers {
        Readers::new(Duration::from_secs(30), GatewayMetrics::new(&portico_telemetry::Metrics::new()))
    }

    fn place() -> Arc<OpenCall> {
        let principal = portico_ids::PrincipalId::Service("s".into());
        Arc::new(OpenCalls::new(1).open(&principal).unwrap())
    }

    /// Memory of an answer that can be seen to be given back.
    struct Kept(Arc<Vec<u8>>);

    impl AsRef<[u8]> for Kept {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    #[tokio::test]
    async fn a_whole_answer_is_given_piece_by_piece_and_says_its_length() {
        let bytes: Vec<u8> = (0..=250).cycle().take(PIECE * 2 + 5).collect();
        let answer = readers().deliver(Response::new(Body::from(bytes.clone())), place());
        let mut body = answer.into_body();
        assert_eq!(body.size_hint().exact(), Some(bytes.len() as u64));
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(first.len(), PIECE);
        assert_eq!(body.size_hint().exact(), Some((bytes.len() - PIECE) as u64));
        let rest = body.collect().await.unwrap().to_bytes();
        assert_eq!([first, rest].concat(), bytes);
    }

    #[tokio::test]
    async fn a11_nothing_but_a_piece_is_kept_of_an_answer_that_is_not_read() {
        let readers = readers();
        let kept = Arc::new(vec![b'x'; PIECE * 4]);
        let answer = Bytes::from_owner(Kept(Arc::clone(&kept)));
        let mut body = readers.deliver(Response::new(Body::from(answer)), place()).into_body();
        let piece = body.frame().await.unwrap().unwrap();
        readers.let_go_of_slow(Instant::now() + Duration::from_secs(31));
        assert_eq!(Arc::strong_count(&kept), 1);
        assert!(
            body.frame().await.unwrap().is_err(),
            "an agent that reads again sees that something is missing"
        );
        assert_eq!(piece.into_data().unwrap().len(), PIECE);
    }

    #[tokio::test]
    async fn a_small_answer_is_not_watched_and_takes_its_place_until_it_is_sent() {
        let readers = readers();
        let place = place();
        let answer = Response::new(Body::new(Full::new(Bytes::from_static(b"{}"))));
        let body = readers.deliver(answer, Arc::clone(&place)).into_body();
        assert!(locked(&readers.open).is_empty());
        assert_eq!((body.size_hint().exact(), Arc::strong_count(&place)), (Some(2), 2));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "{}");
        assert_eq!(Arc::strong_count(&place), 1);
    }
}
