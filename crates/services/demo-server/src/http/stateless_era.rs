//! Requests that stand for themselves, 2026-07-28.

use std::sync::Arc;

use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, HeaderName, StatusCode};
use portico_mcp_types::{
    CLIENT_CAPABILITIES, CallParams, Envelope, Kind, MCP_METHOD, MCP_NAME, META_PROTOCOL_VERSION,
    PROTOCOL_VERSION, Revision, SERVER_INFO, SUBSCRIPTION_ID, code, decode_value, method,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{event_stream, json_response, rpc_refusal};
use crate::App;
use crate::catalogue;
use crate::event_log::EventLog;
use crate::json_rpc::{self, RpcError};
use crate::resources;
use crate::tools::{self, Answer, Call, ElicitResult, Outcome, Progress};

/// The key of the one question that a call asks.
const QUESTION: &str = "booking";

pub(super) async fn message(
    app: Arc<App>,
    headers: &HeaderMap,
    envelope: &Envelope<'_>,
    params: &CallParams<'_>,
) -> Response {
    let id = envelope.id.as_json();
    let capabilities = match admitted(headers, envelope, params) {
        Ok(capabilities) => capabilities,
        Err(error) => return rpc_refusal(status_of(&error), id, &error),
    };
    match (envelope.kind, envelope.method()) {
        (Kind::Notification, _) => StatusCode::ACCEPTED.into_response(),
        (Kind::Response, _) => rpc_refusal(
            StatusCode::BAD_REQUEST,
            id,
            &RpcError::new(
                code::INVALID_REQUEST,
                "this revision has no responses from the client: see inputResponses",
            ),
        ),
        (Kind::Request, method::LISTEN) => listen(app, id, params),
        (Kind::Request, method::TOOLS_CALL) => call(app, id, params, &capabilities).await,
        (Kind::Request, method::DISCOVER) => finished(id, Ok(catalogue::discover())),
        (Kind::Request, method) => finished(id, catalogue::answer(&app, Revision::NEWEST, method, params)),
    }
}

/// Checks the version, then that headers and body agree; returns the client's capabilities.
fn admitted(
    headers: &HeaderMap,
    envelope: &Envelope<'_>,
    params: &CallParams<'_>,
) -> Result<Value, RpcError> {
    let version = params.meta.text(META_PROTOCOL_VERSION).unwrap_or_default();
    same(headers, &PROTOCOL_VERSION, &version)?;
    if version != Revision::NEWEST.as_str() {
        return Err(RpcError {
            code: code::UNSUPPORTED_VERSION,
            message: "Unsupported protocol version".to_owned(),
            data: Some(json!({ "supported": catalogue::supported_versions(), "requested": version })),
        });
    }
    if envelope.kind == Kind::Request {
        same(headers, &MCP_METHOD, envelope.method())?;
        match envelope.method() {
            method::TOOLS_CALL | method::PROMPTS_GET => same(headers, &MCP_NAME, &params.name()?)?,
            method::RESOURCES_READ => same(headers, &MCP_NAME, &params.uri()?)?,
            _ => {}
        }
    }
    let capabilities = params.meta.get(CLIENT_CAPABILITIES).map(RawValue::get);
    serde_json::from_str::<Value>(capabilities.unwrap_or("null")).ok().filter(Value::is_object).ok_or_else(
        || RpcError::invalid_params(format!("params._meta must have the object {CLIENT_CAPABILITIES}")),
    )
}

/// Refuses a header that is missing or says something else than the body (Streamable HTTP, Server Validation).
fn same(headers: &HeaderMap, name: &HeaderName, body: &str) -> Result<(), RpcError> {
    let mismatch = |what: String| RpcError::new(code::HEADER_MISMATCH, format!("Header mismatch: {what}"));
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(mismatch(format!("{name} must be there exactly once")));
    };
    let decoded = if *name == MCP_NAME {
        decode_value(value.as_bytes()).ok()
    } else {
        value.to_str().ok().map(Into::into)
    };
    match decoded {
        Some(decoded) if decoded == body => Ok(()),
        _ => Err(mismatch(format!("{name} does not match the value {body:?} in the body"))),
    }
}

/// Whether the client declared elicitation by form; an empty object means form (Elicitation, Capabilities).
pub(super) fn shows_forms(capabilities: &Value) -> bool {
    capabilities["elicitation"]
        .as_object()
        .is_some_and(|modes| modes.is_empty() || modes.contains_key("form"))
}

fn status_of(error: &RpcError) -> StatusCode {
    match error.code {
        code::METHOD_NOT_FOUND => StatusCode::NOT_FOUND,
        code::INTERNAL_ERROR => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    }
}

/// The answer with what every result of this revision has.
fn finished(id: &str, outcome: Result<Value, RpcError>) -> Response {
    let outcome = outcome.map(dressed);
    let status = outcome.as_ref().err().map_or(StatusCode::OK, status_of);
    json_response(status, json_rpc::answer(id, &outcome))
}

fn dressed(mut result: Value) -> Value {
    if result.get("resultType").is_none() {
        result["resultType"] = json!("complete");
    }
    result["_meta"][SERVER_INFO] = catalogue::server_info(Revision::NEWEST);
    result
}

async fn call(app: Arc<App>, id: &str, params: &CallParams<'_>, capabilities: &Value) -> Response {
    let log = EventLog::new();
    let call = match call_of(&app, params, Progress::new(&log, params.progress_token())) {
        Ok(call) => call,
        Err(error) => return finished(id, Err(error)),
    };
    let forms = shows_forms(capabilities);
    if !(tools::is_slow(&call.name) && params.progress_token().is_some()) {
        return finished(id, outcome(&app, &call, forms).await);
    }
    // The call lives in the stream: a client that leaves ends it, as this revision wants (Cancellation).
    let id = id.to_owned();
    let messages = log.read(0).map(|(_, message)| message);
    let work = stream::once(async move {
        let outcome = outcome(&app, &call, forms).await.map(dressed);
        log.push(json_rpc::answer(&id, &outcome));
        log.close();
    });
    let work = work.filter_map(|()| std::future::ready(None));
    event_stream(stream::select(messages, work).map(|message| Ok(Event::default().data(&*message))))
}

fn call_of(app: &App, params: &CallParams<'_>, progress: Progress) -> Result<Call, RpcError> {
    let name = params.name()?.into_owned();
    let arguments = params.arguments().map_or(Ok(Value::Null), |raw| serde_json::from_str(raw.get()))?;
    let reference = match params.request_state()? {
        Some(state) => Some(app.request_state.open(&name, &arguments, &state)?),
        None => None,
    };
    let answers: Value =
        params.get("inputResponses").map_or(Ok(Value::Null), |raw| serde_json::from_str(raw.get()))?;
    // An answer counts with its state only; without both, the question is asked again.
    let answer = match (reference, answers.get(QUESTION)) {
        (Some(reference), Some(reply)) => {
            let reply = ElicitResult::deserialize(reply)?;
            Some(Answer { reference, reply })
        }
        _ => None,
    };
    Ok(Call { name, arguments, answer, progress })
}

async fn outcome(app: &App, call: &Call, forms: bool) -> Result<Value, RpcError> {
    match tools::call(app, call).await? {
        Outcome::Done(result) => Ok(result.into_value(Revision::NEWEST)),
        Outcome::Ask(_) if !forms => Err(RpcError {
            code: code::MISSING_CAPABILITY,
            message: format!("{} asks the user by a form: the client must declare elicitation", call.name),
            data: Some(json!({ "requiredCapabilities": { "elicitation": { "form": {} } } })),
        }),
        Outcome::Ask(question) => Ok(json!({
            "resultType": "input_required",
            "inputRequests": { QUESTION: { "method": method::ELICIT, "params": question.params() } },
            "requestState": app.request_state.seal(&call.name, &call.arguments, &question.reference),
        })),
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Filter {
    resource_subscriptions: Vec<String>,
}

/// `subscriptions/listen`: acknowledges what it will tell, tells it, and says when it ends.
fn listen(app: Arc<App>, id: &str, params: &CallParams<'_>) -> Response {
    let filter =
        params.get("notifications").map_or(Ok(Filter::default()), |raw| serde_json::from_str(raw.get()));
    let wanted = match filter {
        Ok(filter) => filter.resource_subscriptions,
        Err(error) => return finished(id, Err(error.into())),
    };
    // One resource changes, however often it is named.
    let honoured: Vec<_> = wanted.into_iter().filter(|uri| resources::changes(uri)).take(1).collect();
    let subscription: Value = serde_json::from_str(id).unwrap_or_default();
    let about = json!({ SUBSCRIPTION_ID: subscription });
    let mut agreed = json!({});
    if !honoured.is_empty() {
        agreed["resourceSubscriptions"] = json!(honoured);
    }
    let first = json_rpc::notification(
        method::LISTEN_ACKNOWLEDGED,
        &json!({ "_meta": about, "notifications": agreed }),
    );
    let update = honoured
        .first()
        .map(|uri| json_rpc::notification(method::RESOURCE_UPDATED, &json!({ "_meta": about, "uri": uri })));
    let last = json_rpc::result(id, &dressed(json!({ "_meta": about })));
    let changes = app.bookings.changes();
    let messages =
        stream::once(std::future::ready(first)).chain(updates(Subscription { app, changes, update, last }));
    event_stream(messages.map(|message| Ok(Event::default().data(message))))
}

struct Subscription {
    app: Arc<App>,
    changes: watch::Receiver<u64>,
    /// What is sent at every change; nothing if no change was asked for.
    update: Option<String>,
    last: String,
}

/// An update at every change, until the server closes: then the result of the request.
fn updates(subscription: Subscription) -> impl Stream<Item = String> + Send + 'static {
    stream::unfold(Some(subscription), |state| async move {
        let mut state = state?;
        tokio::select! {
            () = state.app.closing.cancelled() => Some((state.last, None)),
            Ok(()) = state.changes.changed(), if state.update.is_some() => {
                Some((state.update.clone().unwrap_or_default(), Some(state)))
            }
        }
    })
}
