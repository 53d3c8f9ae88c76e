//! Answers on their way to the agent: JSON held back until it is sound, events as they come.

mod events;
mod json;
mod reopen;
mod resume;

pub(crate) use events::{EventRelay, RelayParts, SessionStream};
pub(crate) use json::json_response;
pub(crate) use reopen::Reopen;
pub(crate) use resume::resume_response;

use axum::body::Body;
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use portico_mcp_types::ACCEL_BUFFERING;

/// An answer that streams events.
pub(crate) fn events_response<B>(body: B) -> Response
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    let mut response = Response::new(Body::new(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
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
