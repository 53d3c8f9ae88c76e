use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use portico_mcp_types::sse::keep_alive;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::events::{KEEP_ALIVE, TICK, revoked};
use super::events_response;
use super::remote::lost_event;
use crate::access::Liveness;
use crate::call::Call;
use crate::engine::Engine;
use crate::session::{EventId, Replay, Session};

struct Resumed {
    session: Arc<Session>,
    at: EventId,
    /// JSON text of the id that the stream answers.
    request: Option<String>,
    queue: VecDeque<Bytes>,
    ended: bool,
    call: Call,
    /// Of the token that came to resume, which need not be that of the call.
    liveness: Liveness,
    draining: CancellationToken,
    sent: Instant,
}

/// Goes on with the stream of a call whose agent was away: what it missed, then what comes until the answer.
pub(crate) fn resume_response(
    engine: &Engine,
    session: Arc<Session>,
    (at, request): (EventId, Option<String>),
    (call, liveness): (Call, Liveness),
) -> Response {
    let draining = engine.tasks.shutdown_token();
    let resumed = Resumed {
        session,
        at,
        request,
        queue: VecDeque::new(),
        ended: false,
        call,
        liveness,
        draining,
        sent: Instant::now(),
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
            if !self.ended && !self.liveness.may_go_on() {
                self.call.refused(&revoked());
                return None;
            }
            if self.ended {
                self.call.done();
                return None;
            }
            let Replay::Call { missed, last, ended, grown } = self.session.streams.since(self.at) else {
                // More came between two looks than is kept.
                self.ended = true;
                self.queue.extend(self.request.take().map(|request| lost_event(&request, &mut self.call)));
                continue;
            };
            if !missed.is_empty() || ended {
                (self.at.number, self.ended) = (last, ended);
                self.queue.extend(missed);
                continue;
            }
            // Registered before looking once more: what comes in between is not lost.
            let mut growth = std::pin::pin!(grown.notified_owned());
            growth.as_mut().enable();
            if !matches!(self.session.streams.since(self.at), Replay::Call { missed, ended: false, .. } if missed.is_empty())
            {
                continue;
            }
            tokio::select! {
                () = &mut growth => {}
                () = tokio::time::sleep(TICK) => {
                    if self.sent.elapsed() > KEEP_ALIVE {
                        self.queue.push_back(keep_alive());
                    }
                }
                () = self.draining.cancelled() => {
                    self.call.done();
                    return None;
                }
            }
        }
    }
}
