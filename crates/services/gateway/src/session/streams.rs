use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::event_id::{EventId, Origin};

/// Events that a session keeps for `Last-Event-ID`, over all its streams.
const KEPT_EVENTS: usize = 64;
/// Bytes of such events.
const KEPT_BYTES: usize = 256 * 1024;
/// How long an event is kept.
const KEPT_FOR: Duration = Duration::from_mins(1);
/// Streams that a session knows before it forgets those that ended and of which nothing is kept. More than can be kept,
/// so that not every new stream looks through all of them.
const MAX_STREAMS: usize = 2 * KEPT_EVENTS;

/// Bytes of such events over all sessions of this replica; what comes above is not kept.
const ALL_KEPT_BYTES: usize = 256 * 1024 * 1024;

/// What the kept events of all sessions take together.
#[derive(Debug, Default)]
pub(super) struct Budget(AtomicUsize);

impl Budget {
    /// Takes room for an event, if there is some.
    fn take(&self, bytes: usize) -> bool {
        let taken = |used: usize| used.checked_add(bytes).filter(|used| *used <= ALL_KEPT_BYTES);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The streams of one session that this replica owns, and the last events that went out on them.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    /// Cancelled with the session; every stream ends with it.
    ended: CancellationToken,
    replica: Arc<str>,
    budget: Arc<Budget>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u32,
    kept: VecDeque<Kept>,
    bytes: usize,
    open: HashMap<u32, Stream>,
}

#[derive(Debug)]
struct Kept {
    id: EventId,
    event: Bytes,
    at: Instant,
}

#[derive(Debug)]
struct Stream {
    /// Begun by GET: it never ends by itself.
    standalone: bool,
    /// JSON text of the id whose answer comes here, until the stream has ended.
    request: Option<String>,
    /// Cancelled when the agent wants no answer any more, or goes on with the stream elsewhere.
    cancelled: CancellationToken,
    ended: bool,
    /// The newest event's number.
    last: u32,
    grown: Arc<Notify>,
}

impl Inner {
    /// Lets go of what is too old or too much; gives how many bytes that were.
    fn trim(&mut self, now: Instant) -> usize {
        let before = self.bytes;
        while self.kept.len() > KEPT_EVENTS
            || self.bytes > KEPT_BYTES
            || self.kept.front().is_some_and(|oldest| now.duration_since(oldest.at) > KEPT_FOR)
        {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.bytes -= oldest.event.len();
        }
        before - self.bytes
    }

    fn forget_old(&mut self) {
        let kept: HashSet<u32> = self.kept.iter().map(|kept| kept.id.stream).collect();
        self.open.retain(|number, stream| kept.contains(number) || !(stream.ended || stream.standalone));
    }
}

/// What there is to resume.
#[derive(Debug)]
pub(crate) enum Replay {
    /// Nothing is known of this stream any more.
    Unknown,
    /// A GET stream: these events were missed, then it goes on with live ones.
    Standalone(Vec<Bytes>, u32),
    /// The stream of a POST: these events were missed.
    Call {
        missed: Vec<Bytes>,
        /// The newest of them, or the one that was asked from.
        last: u32,
        ended: bool,
        grown: Arc<Notify>,
    },
}

impl Streams {
    pub(super) fn new(ended: CancellationToken, replica: Arc<str>, budget: Arc<Budget>) -> Self {
        Self { ended, replica, budget, inner: Mutex::default() }
    }

    /// Opens the stream of a request, or one that belongs to none; its first event has the number 0.
    pub(crate) fn open(&self, request: Option<&str>) -> u32 {
        let mut inner = self.inner();
        if inner.open.len() >= MAX_STREAMS {
            inner.forget_old();
        }
        let number = inner.next;
        inner.next = inner.next.wrapping_add(1);
        let stream = Stream {
            standalone: request.is_none(),
            request: request.map(str::to_owned),
            cancelled: self.ended.child_token(),
            ended: false,
            last: 0,
            grown: Arc::default(),
        };
        inner.open.insert(number, stream);
        number
    }

    /// Cancelled with the request of this stream.
    pub(crate) fn cancellation(&self, stream: u32) -> CancellationToken {
        self.inner().open.get(&stream).map(|open| open.cancelled.clone()).unwrap_or_default()
    }

    /// What the ids of this stream's events say besides their numbers.
    pub(crate) fn origin(&self, stream: u32) -> Origin {
        let inner = self.inner();
        Origin::new(&self.replica, inner.open.get(&stream).and_then(|open| open.request.as_deref()))
    }

    /// Cancels the request with this id, if its answer is still to come here; tells whether there was one.
    pub(crate) fn cancel(&self, request: &str) -> bool {
        let mut found = false;
        for open in self.inner().open.values().filter(|open| open.request.as_deref() == Some(request)) {
            open.cancelled.cancel();
            found = true;
        }
        found
    }

    /// Ends whoever serves a GET stream, because its agent has come back for it: servers allow one reader only.
    pub(crate) fn take_over(&self, stream: u32) {
        if let Some(open) = self.inner().open.get_mut(&stream).filter(|open| open.standalone) {
            std::mem::replace(&mut open.cancelled, self.ended.child_token()).cancel();
        }
    }

    /// Whether an answer is still to come here, or a GET stream was begun here.
    pub(crate) fn in_use(&self) -> bool {
        self.inner().open.values().any(|open| !open.ended)
    }

    /// Keeps an event that goes out, for those who may have missed it.
    pub(crate) fn keep(&self, id: EventId, event: Bytes) {
        let now = Instant::now();
        let mut inner = self.inner();
        if event.len() <= KEPT_BYTES && self.budget.take(event.len()) {
            inner.bytes += event.len();
            inner.kept.push_back(Kept { id, event, at: now });
        }
        self.budget.give_back(inner.trim(now));
        if let Some(stream) = inner.open.get_mut(&id.stream) {
            stream.last = id.number;
            stream.grown.notify_waiters();
        }
    }

    /// Lets go of events that nobody has come back for in time, also when no more come.
    pub(super) fn forget_late(&self, now: Instant) {
        let mut inner = self.inner();
        let freed = inner.trim(now);
        if freed > 0 {
            self.budget.give_back(freed);
            let kept: HashSet<u32> = inner.kept.iter().map(|kept| kept.id.stream).collect();
            inner.open.retain(|number, stream| !stream.ended || kept.contains(number));
        }
    }

    /// Nothing more comes on this stream.
    pub(crate) fn end(&self, stream: u32) {
        let mut inner = self.inner();
        let kept = inner.kept.iter().rev().any(|kept| kept.id.stream == stream);
        if let Some(open) = inner.open.get_mut(&stream) {
            (open.ended, open.request) = (true, None);
            open.grown.notify_waiters();
        }
        if !kept {
            inner.open.remove(&stream);
        }
    }

    /// What came on the stream of `after` since then; never what went out on another one. Of a call whose answer was missed
    /// and is not kept, nothing is known any more.
    pub(crate) fn since(&self, after: EventId) -> Replay {
        let now = Instant::now();
        let inner = self.inner();
        let Some(stream) = inner.open.get(&after.stream) else { return Replay::Unknown };
        let missed: Vec<(u32, Bytes)> = inner
            .kept
            .iter()
            .filter(|k| k.id.stream == after.stream && k.id.number > after.number)
            .filter(|k| now.duration_since(k.at) <= KEPT_FOR)
            .map(|k| (k.id.number, k.event.clone()))
            .collect();
        let last = missed.last().map_or(after.number, |(number, _)| *number);
        let missed = missed.into_iter().map(|(_, event)| event).collect();
        if stream.standalone {
            return Replay::Standalone(missed, stream.last.max(last));
        }
        let is_lost = stream.ended && stream.last > last && !stream.cancelled.is_cancelled();
        if is_lost {
            return Replay::Unknown;
        }
        Replay::Call { missed, last, ended: stream.ended, grown: Arc::clone(&stream.grown) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.budget.give_back(self.inner().bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missed(streams: &Streams, stream: u32, number: u32) -> usize {
        match streams.since(EventId { stream, number }) {
            Replay::Unknown => 0,
            Replay::Standalone(missed, _) | Replay::Call { missed, .. } => missed.len(),
        }
    }

    #[tokio::test]
    async fn a_stream_is_replayed_from_its_own_events_only() {
        let streams = Streams::default();
        let (a, b) = (streams.open(Some("1")), streams.open(Some("2")));
        for number in 1..=3 {
            streams.keep(EventId { stream: a, number }, Bytes::from_static(b"a"));
            streams.keep(EventId { stream: b, number }, Bytes::from_static(b"b"));
        }
        assert_eq!((missed(&streams, a, 0), missed(&streams, a, 1), missed(&streams, a, 3)), (3, 2, 0));
        assert!(matches!(streams.since(EventId { stream: 77, number: 0 }), Replay::Unknown));
    }

    #[tokio::test(start_paused = true)]
    async fn the_ring_is_bounded_in_events_bytes_and_time() {
        let streams = Streams::default();
        let stream = streams.open(Some("1"));
        for number in 1..=200 {
            streams.keep(EventId { stream, number }, Bytes::from(vec![0; 100]));
        }
        assert_eq!(missed(&streams, stream, 0), KEPT_EVENTS);
        for number in 201..=210 {
            streams.keep(EventId { stream, number }, Bytes::from(vec![0; 60 * 1024]));
        }
        assert_eq!(missed(&streams, stream, 0), 4);
        tokio::time::advance(KEPT_FOR + Duration::from_secs(1)).await;
        assert_eq!(missed(&streams, stream, 0), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_came_back_for_is_let_go_although_nothing_more_comes() {
        let budget = Arc::new(Budget::default());
        let streams = Streams::new(CancellationToken::new(), "r".into(), Arc::clone(&budget));
        let (ended, live) = (streams.open(Some("1")), streams.open(Some("2")));
        for stream in [ended, live] {
            streams.keep(EventId { stream, number: 1 }, Bytes::from(vec![0; 100 * 1024]));
        }
        streams.end(ended);
        tokio::time::advance(KEPT_FOR + Duration::from_secs(1)).await;
        streams.forget_late(Instant::now());
        assert_eq!((streams.inner().bytes, budget.0.load(Ordering::Relaxed)), (0, 0));
        assert_eq!(streams.inner().open.keys().copied().collect::<Vec<_>>(), [live]);
    }

    #[tokio::test(start_paused = true)]
    async fn all_sessions_together_keep_no_more_than_the_budget() {
        let budget = Arc::new(Budget::default());
        let event = Bytes::from(vec![0; KEPT_BYTES]);
        let most = ALL_KEPT_BYTES / KEPT_BYTES;
        let new = || Streams::new(CancellationToken::new(), "r".into(), Arc::clone(&budget));
        let mut all: Vec<_> = (0..=most).map(|_| new()).collect();
        for streams in &all {
            let stream = streams.open(Some("1"));
            streams.keep(EventId { stream, number: 1 }, event.clone());
            streams.end(stream);
        }
        assert_eq!(budget.0.load(Ordering::Relaxed), ALL_KEPT_BYTES);
        let answer = all[most].since(EventId { stream: 0, number: 0 });
        assert!(matches!(answer, Replay::Unknown), "whoever comes back is told that the answer is lost");
        all.clear();
        assert_eq!(budget.0.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_no_longer_kept_is_lost_and_one_that_was_received_is_not() {
        let streams = Streams::default();
        let stream = streams.open(Some("1"));
        streams.keep(EventId { stream, number: 1 }, Bytes::from_static(b"progress"));
        streams.keep(EventId { stream, number: 2 }, Bytes::from(vec![0; KEPT_BYTES + 1]));
        streams.end(stream);
        for number in 0..2 {
            assert!(matches!(streams.since(EventId { stream, number }), Replay::Unknown), "{number}");
        }
        let clean = streams.since(EventId { stream, number: 2 });
        assert!(matches!(clean, Replay::Call { missed, ended: true, .. } if missed.is_empty()));
        let small = streams.open(Some("2"));
        streams.keep(EventId { stream: small, number: 1 }, Bytes::from_static(b"answer"));
        streams.end(small);
        assert_eq!(missed(&streams, small, 0), 1);
        tokio::time::advance(KEPT_FOR + Duration::from_secs(1)).await;
        assert!(matches!(streams.since(EventId { stream: small, number: 0 }), Replay::Unknown));
        // A cancelled call has no answer that could be lost.
        let cancelled = streams.open(Some("3"));
        streams.keep(EventId { stream: cancelled, number: 1 }, Bytes::from_static(b"progress"));
        streams.cancel("3");
        streams.end(cancelled);
        tokio::time::advance(KEPT_FOR + Duration::from_secs(1)).await;
        assert!(matches!(
            streams.since(EventId { stream: cancelled, number: 0 }),
            Replay::Call { ended: true, .. }
        ));
    }

    #[tokio::test]
    async fn streams_that_ended_long_ago_are_forgotten_and_live_ones_are_not() {
        let streams = Streams::default();
        let live = streams.open(Some("1"));
        for _ in 0..10 * MAX_STREAMS {
            let stream = streams.open(Some("1"));
            streams.keep(EventId { stream, number: 1 }, Bytes::from_static(b"x"));
            streams.end(stream);
        }
        assert!(streams.inner().open.len() <= 2 * MAX_STREAMS);
        assert!(matches!(
            streams.since(EventId { stream: live, number: 0 }),
            Replay::Call { ended: false, .. }
        ));
    }

    #[test]
    fn only_the_running_request_of_that_id_is_cancelled() {
        let streams = Streams::default();
        let (number, text) = (streams.open(Some("1")), streams.open(Some("\"1\"")));
        streams.cancel("1");
        assert!(streams.cancellation(number).is_cancelled());
        assert!(!streams.cancellation(text).is_cancelled());
        streams.keep(EventId { stream: text, number: 1 }, Bytes::from_static(b"x"));
        streams.end(text);
        streams.cancel("\"1\"");
        assert!(!streams.cancellation(text).is_cancelled());
    }
}
