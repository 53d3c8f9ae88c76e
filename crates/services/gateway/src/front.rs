//! The door: every request to an MCP route passes here, in this order.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, AUTHORIZATION, CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderValue, Method, Request};
use portico_mcp_types::{Body as Message, CallParams, Id, Kind, PROTOCOL_VERSION, SESSION_ID};
use portico_telemetry::{CORRELATION_HEADER, CorrelationId, TraceContext, is_exported};
use portico_transport::PeerAddr;
use tracing::Instrument;

use crate::access::{Agent, Place};
use crate::admission::{declared_too_large, expose, preflight, read_body, require_accept, require_json};
use crate::call::Call;
use crate::classify::{Class, classify};
use crate::engine::Engine;
use crate::metadata;
use crate::refusal::{Reason, Refusal};
use crate::{session_era, stateless};

/// A refused call with its record.
pub(crate) type Refused = (Refusal, Call);

/// What a handler makes of an admitted request.
pub(crate) type Served = Result<Response, Refused>;

/// Serves `/mcp` and `/{name}/mcp`.
pub(crate) async fn serve(State(engine): State<Arc<Engine>>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let recorder = &engine.recorder;
    let correlation = CorrelationId::from_headers(&head.headers, &*recorder.clock, &*recorder.rng);
    let mut call = Call::begin(Arc::clone(recorder), correlation.clone(), head.method.as_str());
    let span = begin_span(&mut call, &TraceContext::from_headers(&head.headers));
    if let Some(PeerAddr(address)) = head.extensions.get() {
        call.peer = address.ip().to_string();
    }
    let origin = engine.guard.check_origin(&head.headers);
    let allowed_origin = origin.as_ref().ok().cloned().flatten();
    // Before the token is verified: with few places left this has to be cheap.
    let admitted = origin.and_then(|_| engine.load.enter(head.headers.contains_key(AUTHORIZATION)));
    let served = async {
        match admitted {
            Ok(place) => {
                call.place = Some(place);
                admit(&engine, &head, body, call).await
            }
            Err(refusal) => Err((refusal, call)),
        }
    };
    let mut response = match served.instrument(span).await {
        Ok(response) => response,
        Err((refusal, mut call)) => {
            call.refused(&refusal);
            refusal.response(Id::Absent, correlation.as_str())
        }
    };
    let headers = response.headers_mut();
    headers.insert(CORRELATION_HEADER, correlation.header_value());
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    expose(headers, allowed_origin.as_ref());
    response
}

/// Host, route, token, role, rate; then the body.
async fn admit(engine: &Arc<Engine>, head: &Parts, body: Body, mut call: Call) -> Served {
    if let Err(refusal) = engine.guard.check_host(&head.uri, &head.headers) {
        return Err((refusal, call));
    }
    let Some(place) = place(engine, head.uri.path()) else {
        return Err((unknown_endpoint(), call));
    };
    place.name().clone_into(&mut call.endpoint);
    if head.method == Method::OPTIONS {
        call.forget();
        return Ok(preflight(&head.headers, head.headers.get(http::header::ORIGIN)));
    }
    let snapshot = engine.catalogue.snapshot();
    let principal = match engine.access.identify(&head.headers, &head.uri, &place) {
        Ok(principal) => principal,
        Err(refusal) => return Err((refusal, call)),
    };
    let subject = principal.id.to_string();
    call.principal.clone_from(&subject);
    call.client_id.clone_from(&principal.client_id);
    // Before it takes from the limits of its principal.
    if let Err(refusal) = engine.upstream.hop.check(&head.headers) {
        return Err((refusal, call));
    }
    let agent = match engine.access.admit((principal, subject), place, snapshot) {
        Ok(agent) => Arc::new(agent),
        Err(refusal) => return Err((refusal, call)),
    };
    let open = match engine.access.open(&agent.principal) {
        Ok(open) => Arc::new(open),
        Err(refusal) => return Err((refusal, call)),
    };
    call.admit(Arc::clone(&open));
    let served = match head.method {
        Method::POST => post(engine, head, body, agent, call).await,
        Method::GET => session_era::get(engine, head, agent, call).await,
        Method::DELETE => session_era::delete(engine, head, agent, call).await,
        _ => Err((Refusal::new(Reason::MethodNotAllowed, "send POST, GET or DELETE"), call)),
    };
    served.map(|answer| engine.readers.deliver(answer, open))
}

/// The endpoint behind a path; a trailing slash is tolerated and never redirected (RS-13).
fn place(engine: &Engine, path: &str) -> Option<Place> {
    let path = path.strip_suffix('/').unwrap_or(path);
    if path == "/mcp" {
        return Some(Place::Root { audience: format!("{}/mcp", engine.guard.origin()) });
    }
    let name = path.strip_prefix('/')?.strip_suffix("/mcp")?;
    engine.catalogue.snapshot().endpoint(name).cloned().map(Place::Endpoint)
}

async fn post(engine: &Arc<Engine>, head: &Parts, body: Body, agent: Arc<Agent>, mut call: Call) -> Served {
    let limit = engine.settings.requests.max_body_bytes;
    let shape = require_json(&head.headers)
        .and_then(|()| require_accept(&head.headers, &["application/json", "text/event-stream"]))
        .and_then(|()| declared_too_large(&head.headers, limit));
    if let Err(refusal) = shape {
        return Err((refusal, call));
    }
    let body = match read_body(body, limit, engine.body_timeout()).await {
        Ok(body) => body,
        Err(refusal) => return Err((refusal, call)),
    };
    call.request_bytes = body.len();
    let message = match Message::parse(&body) {
        Ok(message) => message,
        Err(error) => return Err((error.into(), call)),
    };
    let session = text(head, &SESSION_ID);
    let envelope = match message {
        Message::One(envelope) => envelope,
        Message::Batch(messages) => {
            let Some(session) = session else { return Err((batch_without_session(), call)) };
            return session_era::batch(engine, head, &agent, (session, &body, messages), call).await;
        }
    };
    call.action = match envelope.kind {
        Kind::Response => "response".to_owned(),
        Kind::Request | Kind::Notification => bounded(envelope.method()),
    };
    let params = match CallParams::parse(envelope.params) {
        Ok(params) => params,
        Err(error) => return Ok(answered(&error.into(), envelope.id, call)),
    };
    call.name = name_of(&params);
    let meta = TraceContext::from_meta(
        params.meta.text("traceparent").as_deref(),
        params.meta.text("tracestate").as_deref(),
        params.meta.text("baggage").as_deref(),
    );
    tracing::Span::current().record("mcp.method", call.action.as_str());
    let span = if meta.is_empty() { call.span.clone() } else { go_on_from(&mut call, meta, head) };
    let inbound = Inbound { head, agent: &agent, body: &body, envelope: &envelope, params: &params };
    let dispatched = async {
        match classify(&envelope, &params, text(head, &PROTOCOL_VERSION), session) {
            Ok(Class::Stateless) => stateless::serve(engine, &inbound, call).await,
            Ok(Class::Initialize) => session_era::initialize(engine, &inbound, call).await,
            Ok(Class::Session(session)) => session_era::message(engine, &inbound, session, call).await,
            Err(refusal) => Err((refusal, call)),
        }
    };
    let served = dispatched.instrument(span).await;
    Ok(served.unwrap_or_else(|(refusal, call)| answered(&refusal, envelope.id, call)))
}

/// The call's part of the caller's trace.
fn begin_span(call: &mut Call, caller: &TraceContext) -> tracing::Span {
    let span = tracing::info_span!(
        parent: None,
        "gateway.call",
        mcp.method = tracing::field::Empty,
        correlation_id = call.correlation.as_str()
    );
    caller.adopt(&span);
    call.trace = caller.outgoing(&span);
    if is_exported(&span) {
        call.span = span.clone();
    }
    span
}

/// Takes in the trace context of `_meta`. A trace that only `_meta` tells of is known when admission is over: the message
/// is part of it, and linked to its admission.
fn go_on_from(call: &mut Call, meta: TraceContext, head: &Parts) -> tracing::Span {
    let admission = std::mem::take(&mut call.trace);
    let told_late =
        meta.traceparent().is_some() && TraceContext::from_headers(&head.headers).traceparent().is_none();
    if told_late && is_exported(&call.span) {
        let span = begin_span(call, &meta.or(admission.clone()));
        admission.link(&span);
        span.record("mcp.method", call.action.as_str());
        return span;
    }
    call.trace = meta.or(admission).outgoing(&call.span);
    call.span.clone()
}

/// One message of an admitted caller.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inbound<'a> {
    pub(crate) head: &'a Parts,
    pub(crate) agent: &'a Arc<Agent>,
    pub(crate) body: &'a bytes::Bytes,
    pub(crate) envelope: &'a portico_mcp_types::Envelope<'a>,
    pub(crate) params: &'a CallParams<'a>,
}

impl Inbound<'_> {
    /// A header as text.
    pub(crate) fn header(&self, name: &http::HeaderName) -> Option<&str> {
        text(self.head, name)
    }
}

/// Refuses a request under its own id.
fn answered(refusal: &Refusal, id: Id<'_>, mut call: Call) -> Response {
    call.refused(refusal);
    refusal.response(id, call.correlation.as_str())
}

/// A header as text; one that stands twice or cannot be read is empty, which equals nothing that is asked for.
pub(crate) fn text<'a>(head: &'a Parts, name: &http::HeaderName) -> Option<&'a str> {
    let mut values = head.headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => None,
        (Some(only), None) => Some(only.to_str().unwrap_or("")),
        (Some(_), Some(_)) => Some(""),
    }
}

/// Names in records are cut: they come from the caller.
pub(crate) fn bounded(name: &str) -> String {
    name.chars().take(128).collect()
}

pub(crate) fn name_of(params: &CallParams<'_>) -> String {
    let name = params.text("name").ok().flatten().or_else(|| params.text("uri").ok().flatten());
    name.as_deref().map(bounded).unwrap_or_default()
}

/// The stateless era has no batches either (2026-07-28, Sending Messages).
fn batch_without_session() -> Refusal {
    Refusal::new(
        Reason::InvalidMessage,
        "batches exist only in sessions of revision 2025-03-26; send one message",
    )
}

fn unknown_endpoint() -> Refusal {
    Refusal::new(Reason::UnknownEndpoint, "there is no endpoint at this path; check the name in the URL")
}

/// Serves protected-resource metadata (RFC 9728 §3).
pub(crate) async fn resource_metadata(State(engine): State<Arc<Engine>>, request: Request<Body>) -> Response {
    let correlation =
        CorrelationId::from_headers(request.headers(), &*engine.recorder.clock, &*engine.recorder.rng);
    let path = request.uri().path().strip_prefix(metadata::WELL_KNOWN).unwrap_or("");
    let trust = engine.verifier.trust().load();
    let document = engine.guard.check_host(request.uri(), request.headers()).map(|()| {
        let issuer = trust.issuer().unwrap_or(engine.guard.origin());
        metadata::document(engine.guard.origin(), issuer, path, &engine.catalogue.snapshot())
    });
    let mut response = match document {
        Ok(Some(document)) => metadata::response(document),
        Ok(None) => portico_transport::problem(
            http::StatusCode::NOT_FOUND,
            "unknown_resource",
            "no protected resource has this path",
            Some(correlation.as_str()),
        ),
        Err(refusal) => portico_transport::problem(
            refusal.reason.status(),
            refusal.reason.as_str(),
            refusal.message().to_owned(),
            Some(correlation.as_str()),
        ),
    };
    let headers = response.headers_mut();
    headers.insert(CORRELATION_HEADER, correlation.header_value());
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}
