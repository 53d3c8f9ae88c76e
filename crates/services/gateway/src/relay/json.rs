use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use http_body::Frame;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

use super::{cancelled_response, whole_response};
use crate::call::Call;
use crate::engine::Engine;
use crate::refusal::Refusal;
use crate::rewrite::Rewrite;
use crate::upstream::{JsonBody, Load, Reply, lost, next_data, too_large};

/// Passes a JSON answer on: whole if it is small, so that a broken one becomes an error; else as it comes.
pub(crate) async fn json_response(
    engine: &Engine,
    reply: Reply,
    rewrite: &Rewrite,
    (mut call, cancelled): (Call, Option<&CancellationToken>),
) -> Result<Response, (Refusal, Call)> {
    let upstream = &engine.upstream;
    let idle = Duration::from_millis(upstream.settings.idle_timeout_ms);
    let whole = upstream.settings.max_event_bytes;
    let limit = if rewrite.needs_whole() { whole } else { upstream.settings.inspect_bytes };
    let Reply { status, body, load, .. } = reply;
    let read = async {
        match upstream.read_json(body, limit).await? {
            JsonBody::Begun(first, rest) if rewrite.needs_whole_after(&first) => {
                Ok(JsonBody::Whole(read_on(first, rest, whole, idle).await?))
            }
            JsonBody::Begun(..) if rewrite.needs_whole() => Err(too_large()),
            read => Ok(read),
        }
    };
    let read = match cancelled {
        Some(cancelled) => cancelled.run_until_cancelled(read).await,
        None => Some(read.await),
    };
    let Some(read) = read else { return Ok(cancelled_response(engine, call)) };
    match read {
        Ok(JsonBody::Whole(message)) => match rewrite.apply(&message) {
            Ok(message) => {
                call.response_bytes = message.len();
                call.done();
                Ok(whole_response(status, message))
            }
            Err(refusal) => Err((refusal, call)),
        },
        Ok(JsonBody::Begun(first, rest)) => {
            Ok(begun_response(engine, status, JsonRelay::new(first, rest, load, call, idle)))
        }
        Err(refusal) => Err((refusal, call)),
    }
}

/// Reads the rest of an answer that cannot be passed on as it comes.
async fn read_on(first: Bytes, mut rest: Incoming, limit: usize, idle: Duration) -> Result<Bytes, Refusal> {
    let mut read = BytesMut::from(first);
    while let Some(data) = next_data(&mut rest, idle).await? {
        if read.len() + data.len() > limit {
            return Err(too_large());
        }
        read.extend_from_slice(&data);
    }
    Ok(read.freeze())
}

fn begun_response(engine: &Engine, status: StatusCode, relay: JsonRelay) -> Response {
    let mut response = Response::new(Body::new(engine.readers.watch(relay)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

/// The rest of a JSON answer that is too large to be held back.
struct JsonRelay {
    first: Option<Bytes>,
    rest: Incoming,
    _load: Load,
    call: Call,
    idle: Duration,
    silence: Pin<Box<Sleep>>,
}

/// An answer that broke off after it had begun: the connection is cut, so that the agent sees it too.
#[derive(Debug, thiserror::Error)]
#[error("the server broke off its answer")]
struct BrokenOff;

impl JsonRelay {
    fn new(first: Bytes, rest: Incoming, load: Load, call: Call, idle: Duration) -> Self {
        Self {
            first: Some(first),
            rest,
            _load: load,
            call,
            idle,
            silence: Box::pin(tokio::time::sleep(idle)),
        }
    }

    fn pass(&mut self, data: Bytes) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        self.call.response_bytes += data.len();
        if http_body::Body::is_end_stream(&self.rest) {
            self.call.done();
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }
}

impl http_body::Body for JsonRelay {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if let Some(first) = this.first.take() {
            return this.pass(first);
        }
        loop {
            match http_body::Body::poll_frame(Pin::new(&mut this.rest), cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        let until = Instant::now() + this.idle;
                        this.silence.as_mut().reset(until);
                        return this.pass(data);
                    }
                }
                Poll::Ready(None) => {
                    this.call.done();
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(_))) => {
                    this.call.refused(&lost());
                    return Poll::Ready(Some(Err(BrokenOff)));
                }
                Poll::Pending => {
                    if this.silence.as_mut().poll(cx).is_ready() {
                        this.call.refused(&lost());
                        return Poll::Ready(Some(Err(BrokenOff)));
                    }
                    return Poll::Pending;
                }
            }
        }
    }
}
