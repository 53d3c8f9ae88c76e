use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use hyper::body::Incoming;
use portico_mcp_types::sse::{Decoder, SseEvent, keep_alive};
use portico_mcp_types::{Envelope, Id, Kind};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::reopen::Reopen;
use super::session_stream::SessionStream;
use crate::access::Liveness;
use crate::call::Call;
use crate::engine::Engine;
use crate::refusal::{Reason, Refusal};
use crate::rewrite::Rewrite;
use crate::session_era::Setting;
use crate::upstream::{Load, lost, not_mcp, too_large};

/// How often a stream looks whether it may go on.
pub(super) const TICK: Duration = Duration::from_secs(1);
/// How long a call may go on whose agent is away.
const ALONE: Duration = Duration::from_mins(10);
/// Bounds of the time that a server may ask to be left alone before its stream is asked for again.
const SHORTEST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// How long a stream may be silent before a comment keeps it open.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What a relay is made of.
#[derive(Debug)]
pub(crate) struct RelayParts {
    pub(crate) engine: Arc<Engine>,
    pub(crate) upstream: Incoming,
    pub(crate) load: Load,
    /// JSON text of the id whose response ends the stream; `None` for a GET stream.
    pub(crate) request: Option<String>,
    /// `None` in the stateless era.
    pub(crate) stream: Option<SessionStream>,
    /// What the response agrees to.
    pub(crate) setting: Option<Setting>,
    pub(crate) rewrite: Rewrite,
    pub(crate) call: Call,
    /// Whether the caller may still receive.
    pub(crate) liveness: Liveness,
    /// How to go on when the server closes the connection but not the stream.
    pub(crate) reopen: Option<Reopen>,
    /// Events that go out first.
    pub(crate) first: Vec<Bytes>,
}

/// Passes events on, one by one, to an agent that may leave and come back.
///
/// In the session era a disconnect is no cancellation: the relay goes on without its agent and what comes is kept for
/// `Last-Event-ID`. In the stateless era dropping it drops the server's stream, which is the cancellation.
#[derive(Debug)]
pub(crate) struct EventRelay(Option<Box<Relay>>);

#[derive(Debug)]
struct Relay {
    parts: RelayParts,
    decoder: Decoder,
    queue: VecDeque<Bytes>,
    state: State,
    last_upstream_id: Option<Bytes>,
    retry: Option<u64>,
    tick: Pin<Box<Sleep>>,
    /// `None` in the stateless era.
    cancelled: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    heard: Instant,
    sent: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The server closed the connection and can be asked again.
    Suspended,
    Ended,
}

impl EventRelay {
    pub(crate) fn new(parts: RelayParts) -> Self {
        let now = Instant::now();
        let decoder = Decoder::new(parts.engine.upstream.settings.max_event_bytes);
        parts.engine.recorder.metrics.streams.inc();
        let queue = parts.first.iter().cloned().collect();
        let cancelled = parts.stream.as_ref().map(|stream| stream.cancelled.clone().cancelled_owned());
        Self(Some(Box::new(Relay {
            parts,
            decoder,
            queue,
            state: State::Open,
            last_upstream_id: None,
            retry: None,
            tick: Box::pin(tokio::time::sleep(TICK)),
            cancelled: cancelled.map(Box::pin),
            heard: now,
            sent: now,
        })))
    }
}

impl http_body::Body for EventRelay {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(relay) = &mut self.0 else { return Poll::Ready(None) };
        relay.poll_next(cx).map(|next| next.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|relay| relay.state != State::Open && relay.queue.is_empty())
    }
}

impl Drop for EventRelay {
    fn drop(&mut self) {
        let Some(relay) = self.0.take() else { return };
        if relay.goes_on_alone() {
            let tasks = relay.parts.engine.tasks.clone();
            tasks.spawn_short("gateway.stream", relay.run());
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.parts.engine.recorder.metrics.streams.dec();
        if let Some(stream) = &self.parts.stream
            && self.parts.request.is_some()
        {
            stream.session.streams.end(stream.stream);
        }
    }
}

impl Relay {
    /// Whether an answer is still to come that its agent may fetch later.
    fn goes_on_alone(&self) -> bool {
        self.parts.stream.is_some() && self.parts.request.is_some() && self.state != State::Ended
    }

    /// Goes on without the agent, for a while.
    async fn run(mut self: Box<Self>) {
        let cancelled = self.parts.stream.as_ref().map(|stream| stream.cancelled.clone()).unwrap_or_default();
        let ran = cancelled.run_until_cancelled(tokio::time::timeout(ALONE, self.run_on())).await;
        match ran {
            None => self.cancel(),
            Some(Err(_)) => self.fail(&lost()),
            Some(Ok(())) => {}
        }
    }

    async fn run_on(&mut self) {
        loop {
            while std::future::poll_fn(|cx| self.poll_next(cx)).await.is_some() {}
            if self.state != State::Suspended {
                return;
            }
            let wait = Duration::from_millis(self.retry.unwrap_or(1_000));
            tokio::time::sleep(wait.clamp(SHORTEST_RETRY, LONGEST_RETRY)).await;
            let last = self.last_upstream_id.clone();
            let opened = match (&self.parts.reopen, last) {
                (Some(reopen), Some(last)) => reopen.open(&self.parts.engine, &last).await,
                _ => Err(lost()),
            };
            match opened {
                Ok((upstream, load)) => {
                    (self.parts.upstream, self.parts.load) = (upstream, load);
                    self.decoder = Decoder::new(self.parts.engine.upstream.settings.max_event_bytes);
                    self.state = State::Open;
                    self.heard = Instant::now();
                }
                Err(refusal) => self.fail(&refusal),
            }
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if self.state != State::Ended
                && self.cancelled.as_mut().is_some_and(|cancelled| cancelled.as_mut().poll(cx).is_ready())
            {
                self.cancel();
            }
            // First, so that a server that never pauses cannot hide a revocation (RS-26).
            while self.state == State::Open && self.tick.as_mut().poll(cx).is_ready() {
                self.tick.as_mut().reset(Instant::now() + TICK);
                self.on_tick();
            }
            if let Some(bytes) = self.queue.pop_front() {
                self.sent = Instant::now();
                return Poll::Ready(Some(bytes));
            }
            if self.state != State::Open {
                return Poll::Ready(None);
            }
            match self.decoder.next_event() {
                Ok(Some(event)) => {
                    self.take(&event);
                    continue;
                }
                Ok(None) => {}
                Err(_) => {
                    self.fail(&too_large());
                    continue;
                }
            }
            match http_body::Body::poll_frame(Pin::new(&mut self.parts.upstream), cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.heard = Instant::now();
                        self.decoder.push(&data);
                    }
                }
                Poll::Ready(Some(Err(_)) | None) => self.upstream_closed(),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn take(&mut self, event: &SseEvent) {
        if event.id.is_some() {
            self.last_upstream_id.clone_from(&event.id);
        }
        if let Some(retry) = event.retry {
            self.retry = Some(retry);
        }
        if event.data.is_empty() {
            // A priming event of the server: Portico primes its own streams, only the waiting time is passed on.
            if let (Some(retry), Some(stream)) = (event.retry, &self.parts.stream) {
                self.queue.push_back(stream.retry(retry));
            }
            return;
        }
        let Ok(envelope) = Envelope::parse(&event.data) else {
            self.fail(&not_mcp());
            return;
        };
        let ends = match envelope.kind {
            Kind::Response => {
                if self.parts.request.as_deref() != Some(envelope.id.as_json()) {
                    tracing::warn!(
                        endpoint = self.parts.call.endpoint,
                        "a server answered a request that was not sent"
                    );
                    return;
                }
                if envelope.result.is_some()
                    && let (Some(setting), Some(stream)) = (self.parts.setting.take(), &self.parts.stream)
                {
                    setting.keep_soon(&self.parts.engine, &stream.session);
                }
                true
            }
            // The stateless era has no requests of servers (2026-07-28, Receiving Messages).
            Kind::Request if self.parts.stream.is_none() => return,
            Kind::Request | Kind::Notification => false,
        };
        match self.parts.rewrite.apply(&event.data) {
            Ok(message) => self.send(message, ends),
            Err(refusal) => self.fail(&refusal),
        }
    }

    fn send(&mut self, message: Bytes, ends: bool) {
        self.parts.call.response_bytes += message.len();
        if ends {
            self.parts.call.done();
        }
        self.put(message);
        if ends {
            self.end();
        }
    }

    /// Numbers an event, keeps it and queues it.
    fn put(&mut self, message: Bytes) {
        let mut event = SseEvent::message(message);
        event.event = Some(Bytes::from_static(b"message"));
        self.queue.push_back(match &mut self.parts.stream {
            Some(stream) => stream.put(event),
            None => event.encode(),
        });
    }

    fn end(&mut self) {
        self.state = State::Ended;
        if let Some(stream) = &self.parts.stream
            && self.parts.request.is_some()
        {
            stream.session.streams.end(stream.stream);
        }
    }

    /// Ends the stream without an answer, which the agent would not read (2025-11-25, Cancellation); a stream of the
    /// server's own ends so with its session, or when the agent goes on with it elsewhere.
    fn cancel(&mut self) {
        if self.parts.request.is_some() {
            self.parts.call.cancelled();
        } else {
            self.parts.call.done();
        }
        self.end();
    }

    fn upstream_closed(&mut self) {
        if self.parts.request.is_none() {
            self.parts.call.done();
            self.end();
        } else if self.parts.stream.is_some()
            && self.last_upstream_id.is_some()
            && self.parts.reopen.is_some()
        {
            self.state = State::Suspended;
        } else {
            self.fail(&lost());
        }
    }

    /// Ends the stream with an error in the place of the response.
    fn fail(&mut self, refusal: &Refusal) {
        self.parts.call.refused(refusal);
        if let Some(request) = &self.parts.request {
            let id: Result<&serde_json::value::RawValue, _> = serde_json::from_str(request);
            let body = refusal.body(id.map_or(Id::Absent, Id::Present), self.parts.call.correlation.as_str());
            self.put(body);
        }
        self.end();
    }

    fn on_tick(&mut self) {
        let draining = self.parts.engine.tasks.shutdown_token().is_cancelled();
        let standing = self.parts.request.is_none() || self.parts.liveness.is_standing();
        let may_go_on = self.parts.liveness.may_go_on();
        if !may_go_on && !standing {
            self.fail(&revoked());
            return;
        }
        let departed = self.parts.load.departed().is_cancelled();
        if !may_go_on || ((draining || departed) && standing) {
            self.close_standing();
            return;
        }
        let idle = Duration::from_millis(self.parts.engine.upstream.settings.idle_timeout_ms);
        if !standing && self.heard.elapsed() > idle {
            self.fail(&lost());
        } else if self.sent.elapsed() > KEEP_ALIVE {
            self.sent = Instant::now();
            self.queue.push_back(keep_alive());
        }
    }

    /// Ends a stream on our own account; a listen stream ends with its result (2026-07-28, Graceful Closure).
    fn close_standing(&mut self) {
        self.parts.call.done();
        if let Some(result) = self.parts.liveness.closing_message(self.parts.request.as_deref()) {
            self.put(result);
        }
        self.end();
    }
}

/// Nothing goes on for a caller that lost its access meanwhile (RS-26).
pub(super) fn revoked() -> Refusal {
    Refusal::new(
        Reason::TokenInvalid,
        "access was withdrawn during the call: sign in again, or ask an administrator for a grant",
    )
}
