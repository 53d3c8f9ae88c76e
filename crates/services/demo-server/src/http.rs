//! The endpoint `/mcp`: admits requests and tells the eras apart.

mod guard;
mod session_era;
mod stateless_era;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body as HttpBody, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::middleware;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures_util::Stream;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use portico_mcp_types::{
    ACCEL_BUFFERING, Body, CallParams, Envelope, Kind, META_PROTOCOL_VERSION, PROTOCOL_VERSION, Revision,
    SESSION_ID, code, method,
};

use crate::App;
use crate::json_rpc::{self, RpcError};
use crate::sessions::Session;

/// The largest request body.
const MAX_BODY: usize = 1024 * 1024;
/// How often a silent stream sends a comment.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/mcp", post(on_post).get(on_get).delete(on_delete))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn(guard::local_callers_only))
        .with_state(app)
}

async fn on_post(State(app): State<Arc<App>>, headers: HeaderMap, body: Bytes) -> Response {
    if !names_media_type(&headers, CONTENT_TYPE, "application/json") {
        return refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must be application/json");
    }
    let accepts = |media_type| names_media_type(&headers, http::header::ACCEPT, media_type);
    if !(accepts("application/json") && accepts("text/event-stream")) {
        return refusal(
            StatusCode::NOT_ACCEPTABLE,
            "Accept must list application/json and text/event-stream",
        );
    }
    match Body::parse(&body) {
        Ok(Body::One(envelope)) => on_message(app, &headers, &envelope).await,
        Ok(Body::Batch(messages)) => match session_of(&app, &headers) {
            Ok(session) => session_era::batch(&app, &session, &messages).await,
            Err(refusal) => refusal.into_response(),
        },
        Err(error) => rpc_refusal(StatusCode::BAD_REQUEST, "null", &error.into()),
    }
}

/// One message: its `_meta` says whether it stands for itself, otherwise it opens or continues a session.
async fn on_message(app: Arc<App>, headers: &HeaderMap, envelope: &Envelope<'_>) -> Response {
    let id = envelope.id.as_json();
    let params = match CallParams::parse(envelope.params) {
        Ok(params) => params,
        Err(error) => return rpc_refusal(StatusCode::BAD_REQUEST, id, &error.into()),
    };
    if params.meta.get(META_PROTOCOL_VERSION).is_some() {
        return stateless_era::message(app, headers, envelope, &params).await;
    }
    let version = headers.get(PROTOCOL_VERSION).and_then(|value| value.to_str().ok());
    if version.is_some_and(Revision::names_stateless_era) {
        let error = RpcError::invalid_params(format!("params._meta must have {META_PROTOCOL_VERSION}"));
        return rpc_refusal(StatusCode::BAD_REQUEST, id, &error);
    }
    if envelope.method() == method::INITIALIZE && envelope.kind == Kind::Request {
        return session_era::initialize(&app, id, &params);
    }
    match session_of(&app, headers) {
        Ok(session) => session_era::message(app, session, envelope, &params).await,
        Err(refusal) => refusal.into_response(),
    }
}

async fn on_get(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    if !names_media_type(&headers, http::header::ACCEPT, "text/event-stream") {
        return refusal(StatusCode::NOT_ACCEPTABLE, "Accept must list text/event-stream");
    }
    match session_of(&app, &headers) {
        Ok(session) => session_era::listen(&session, &headers),
        Err(refusal) => refusal.into_response(),
    }
}

async fn on_delete(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    if let Err(refusal) = session_of(&app, &headers) {
        return refusal.into_response();
    }
    if let Some(id) = headers.get(SESSION_ID).and_then(|value| value.to_str().ok()) {
        app.sessions.remove(id);
    }
    StatusCode::NO_CONTENT.into_response()
}

/// The session that a request belongs to: 400 without one, 404 for one that is unknown (2025-11-25, Session Management).
fn session_of(app: &App, headers: &HeaderMap) -> Result<Arc<Session>, Refusal> {
    let version = headers.get(PROTOCOL_VERSION).map(|value| value.to_str().unwrap_or_default());
    let Some(id) = headers.get(SESSION_ID) else {
        // A request of the stateless era that is no POST: there is nothing to get or to delete.
        return Err(if version.is_some_and(Revision::names_stateless_era) {
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "this revision has POST only")
        } else {
            Refusal::new(StatusCode::BAD_REQUEST, "Mcp-Session-Id is missing: open a session with initialize")
        });
    };
    let session = id.to_str().ok().and_then(|id| app.sessions.find(id));
    let Some(session) = session else {
        return Err(Refusal::new(
            StatusCode::NOT_FOUND,
            "this session is not known or has ended: initialize again",
        ));
    };
    match version {
        Some(version) if version != session.revision.as_str() => Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            format!("MCP-Protocol-Version is {version:?}, but this session speaks {}", session.revision),
        )),
        _ => Ok(session),
    }
}

/// Whether a header lists this media type; a missing `Accept` or a wildcard lists everything (RFC 9110 §12.5.1).
fn names_media_type(headers: &HeaderMap, name: HeaderName, wanted: &str) -> bool {
    let may_be_absent = name == http::header::ACCEPT;
    let mut values = headers.get_all(name).iter().peekable();
    if values.peek().is_none() {
        return may_be_absent;
    }
    values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(|entry| {
        let entry = entry.split(';').next().unwrap_or_default().trim();
        entry.eq_ignore_ascii_case(wanted) || (may_be_absent && entry == "*/*")
    })
}

/// A refusal before any request was read: a JSON-RPC error without an id to answer to.
struct Refusal {
    status: StatusCode,
    message: String,
}

impl Refusal {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response =
            rpc_refusal(self.status, "null", &RpcError::new(code::INVALID_REQUEST, self.message));
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        }
        response
    }
}

fn refusal(status: StatusCode, message: impl Into<String>) -> Response {
    Refusal::new(status, message).into_response()
}

fn rpc_refusal(status: StatusCode, id: &str, error: &RpcError) -> Response {
    json_response(status, json_rpc::error(id, error))
}

fn json_response(status: StatusCode, body: String) -> Response {
    let mut response = Response::new(HttpBody::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn event_stream(events: impl Stream<Item = Result<Event, Infallible>> + Send + 'static) -> Response {
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    let headers = [(CACHE_CONTROL, "no-cache"), (ACCEL_BUFFERING, "no")];
    (headers, Sse::new(events).keep_alive(keep_alive)).into_response()
}
