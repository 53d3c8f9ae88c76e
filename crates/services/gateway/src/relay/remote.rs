use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use portico_mcp_types::Id;
use portico_mcp_types::sse::{SseEvent, keep_alive};
use serde_json::value::RawValue;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::events::{KEEP_ALIVE, TICK, revoked};
use super::events_response;
use crate::access::Liveness;
use crate::call::Call;
use crate::engine::Engine;
use crate::refusal::{Reason, Refusal};
use crate::replicas::{RemoteStream, SILENT, State, WORD};

/// A stream whose owner is another replica.
struct Resumed {
    remote: RemoteStream,
    queue: VecDeque<Bytes>,
    ended: bool,
    /// JSON text of the id that the stream answers.
    request: Option<String>,
    call: Call,
    /// Of the token that came to resume, which need not be that of the call.
    liveness: Liveness,
    draining: CancellationToken,
    tick: Interval,
    /// When the owner was last heard of and told, and something last sent to the agent.
    heard: Instant,
    told: Instant,
    sent: Instant,
}

/// Goes on with the stream of a call that runs on another replica.
pub(crate) fn remote_response(
    engine: &Arc<Engine>,
    (remote, request): (RemoteStream, Option<String>),
    call: Call,
    liveness: Liveness,
) -> Response {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let now = Instant::now();
    let draining = engine.tasks.shutdown_token();
    let resumed = Resumed {
        remote,
        queue: VecDeque::new(),
        ended: false,
        request,
        call,
        liveness,
        draining,
        tick,
        heard: now,
        told: now,
        sent: now,
    };
    let events = stream::unfold(resumed, |mut resumed| async move {
        let bytes = resumed.next().await?;
        Some((Ok::<_, Infallible>(bytes), resumed))
    });
    events_response(engine, Body::from_stream(events))
}

impl Resumed {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.queue.pop_front() {
                self.call.response_bytes += bytes.len();
                self.sent = Instant::now();
                return Some(bytes);
            }
            if self.ended {
                self.call.done();
                return None;
            }
            tokio::select! {
                piece = self.remote.next() => self.take(piece),
                _ = self.tick.tick() => self.on_tick(),
                // The agent comes back for the rest, to a replica that stays.
                () = self.draining.cancelled() => self.ended = true,
            }
        }
    }

    fn take(&mut self, piece: Option<(State, Bytes)>) {
        self.heard = Instant::now();
        match piece {
            Some((State::Open, events)) => self.queue.extend((!events.is_empty()).then_some(events)),
            Some((State::Ended, events)) => {
                self.queue.extend((!events.is_empty()).then_some(events));
                self.ended = true;
            }
            Some((State::Gone, _)) => {
                self.queue.extend(self.request.take().map(|request| lost_event(&request, &mut self.call)));
                self.ended = true;
            }
            Some((State::Standing, _)) | None => self.ended = true,
        }
    }

    fn on_tick(&mut self) {
        if !self.liveness.may_go_on() {
            self.call.refused(&revoked());
            self.ended = true;
        } else if self.heard.elapsed() > SILENT {
            // The agent comes back, and then it is seen whether the owner lives.
            self.ended = true;
        } else if self.told.elapsed() > WORD {
            self.told = Instant::now();
            self.remote.stay();
        }
        if self.sent.elapsed() > KEEP_ALIVE {
            self.queue.push_back(keep_alive());
        }
    }
}

/// Answers an agent that came back for a call which nobody knows any more.
pub(crate) fn lost_response(engine: &Engine, request: &str, mut call: Call) -> Response {
    let event = lost_event(request, &mut call);
    events_response(engine, http_body_util::Full::new(event))
}

/// Stands in the place of an answer that nobody has any more, so that its agent does not come back for ever.
pub(super) fn lost_event(request: &str, call: &mut Call) -> Bytes {
    let refusal = Refusal::new(
        Reason::UpstreamLost,
        "the gateway that served this call is gone, or its answer was not fetched in time; whether the call was carried \
         out is not known",
    );
    call.refused(&refusal);
    let id: Result<&RawValue, _> = serde_json::from_str(request);
    let body = refusal.body(id.map_or(Id::Absent, Id::Present), call.correlation.as_str());
    let event = SseEvent { event: Some(Bytes::from_static(b"message")), ..SseEvent::message(body) };
    event.encode()
}
