//! Answers on their way to the agent: JSON held back until it is sound, events as they come.

mod events;
mod json;
mod remote;
mod reopen;
mod resume;
mod session_stream;
mod watched;

pub(crate) use events::{EventRelay, RelayParts};
pub(crate) use json::json_response;
pub(crate) use remote::{lost_response, remote_response};
pub(crate) use reopen::Reopen;
pub(crate) use resume::resume_response;
pub(crate) use session_stream::SessionStream;
pub(crate) use watched::Readers;

use axum::body::Body;
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use http_body_util::Empty;
use portico_mcp_types::ACCEL_BUFFERING;

use crate::call::Call;
use crate::engine::Engine;

/// An answer that streams events, until its reader does not keep up.
pub(crate) fn events_response<B>(engine: &Engine, body: B) -> Response
where
    B: http_body::Body<Data = bytes::Bytes> + Send + Unpin + 'static,
    B::Error: Into<axum::BoxError>,
{
    let mut response = Response::new(Body::new(engine.readers.watch(body)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

/// Ends a cancelled request without an answer, which the agent would not read (2025-11-25, Cancellation).
pub(crate) fn cancelled_response(engine: &Engine, mut call: Call) -> Response {
    call.cancelled();
    events_response(engine, Empty::<bytes::Bytes>::new())
}

/// An answer of one JSON message that is there already.
pub(crate) fn whole_response(status: StatusCode, message: bytes::Bytes) -> Response {
    let mut response = Response::new(Body::from(message));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// 202 without content: a notification or response was taken (2025-11-25, Sending Messages).
pub(crate) fn accepted() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}
