//! Requests inside a session, 2025-03-26 to 2025-11-25.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, HeaderValue, StatusCode};
use portico_mcp_types::{CallParams, Envelope, Kind, LAST_EVENT_ID, Revision, SESSION_ID, method};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{event_stream, json_response, refusal, rpc_refusal};
use crate::App;
use crate::catalogue;
use crate::event_log::{EventLog, Numbered};
use crate::json_rpc::{self, RpcError};
use crate::sessions::{STANDING, Session};
use crate::tools::{self, Answer, Call, Outcome, Progress, Question, ToolResult};

/// How long a person may take to fill in a form.
const ANSWER_TIME: Duration = Duration::from_mins(10);
/// When a client whose stream broke should come back.
const RETRY: Duration = Duration::from_secs(1);
const MAX_BATCH: usize = 32;

/// Opens a session at the revision asked for, or at the newest one that has sessions (Lifecycle, Version Negotiation).
pub(super) fn initialize(app: &App, id: &str, params: &CallParams<'_>) -> Response {
    let asked = match params.required("protocolVersion") {
        Ok(asked) => asked,
        Err(error) => return rpc_refusal(StatusCode::BAD_REQUEST, id, &error.into()),
    };
    let revision = Revision::parse(&asked)
        .ok()
        .filter(|revision| catalogue::REVISIONS.contains(revision) && !revision.is_stateless())
        .unwrap_or(Revision::NEWEST_SESSION);
    let capabilities: Value =
        params.get("capabilities").and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
    let forms = revision >= Revision::V2025_06_18 && super::stateless_era::shows_forms(&capabilities);
    let session = app.sessions.create(revision, forms);
    let result = json!({
        "protocolVersion": revision.as_str(),
        "capabilities": catalogue::capabilities(),
        "serverInfo": catalogue::server_info(revision),
        "instructions": catalogue::INSTRUCTIONS,
    });
    let mut response = json_response(StatusCode::OK, json_rpc::result(id, &result));
    if let Ok(value) = HeaderValue::try_from(session) {
        response.headers_mut().insert(SESSION_ID, value);
    }
    response
}

pub(super) async fn message(
    app: Arc<App>,
    session: Arc<Session>,
    envelope: &Envelope<'_>,
    params: &CallParams<'_>,
) -> Response {
    match envelope.kind {
        Kind::Request if needs_stream(&session, envelope, params) => {
            streamed(&app, &session, envelope, params)
        }
        Kind::Request => {
            let outcome = answer(&app, &session, envelope, params).await;
            json_response(StatusCode::OK, json_rpc::answer(envelope.id.as_json(), &outcome))
        }
        Kind::Notification | Kind::Response => {
            taken_in(&session, envelope, params);
            StatusCode::ACCEPTED.into_response()
        }
    }
}

/// A batch; only 2025-03-26 has them, and `initialize` is never inside one.
pub(super) async fn batch(app: &App, session: &Session, messages: &[&RawValue]) -> Response {
    if session.revision != Revision::V2025_03_26 {
        return refusal(StatusCode::BAD_REQUEST, format!("revision {} has no batches", session.revision));
    }
    if messages.len() > MAX_BATCH {
        return refusal(StatusCode::BAD_REQUEST, format!("a batch has at most {MAX_BATCH} messages"));
    }
    let mut answers = Vec::new();
    for message in messages {
        answers.extend(one_of_batch(app, session, message).await);
    }
    if answers.is_empty() {
        return StatusCode::ACCEPTED.into_response();
    }
    json_response(StatusCode::OK, format!("[{}]", answers.join(",")))
}

async fn one_of_batch(app: &App, session: &Session, message: &RawValue) -> Option<String> {
    let envelope = match Envelope::read(message.get()) {
        Ok(envelope) => envelope,
        Err(error) => return Some(json_rpc::error("null", &error.into())),
    };
    let id = envelope.id.as_json();
    let params = match CallParams::parse(envelope.params) {
        Ok(params) => params,
        Err(error) => return Some(json_rpc::error(id, &error.into())),
    };
    if envelope.kind != Kind::Request {
        taken_in(session, &envelope, &params);
        return None;
    }
    Some(json_rpc::answer(id, &answer(app, session, &envelope, &params).await))
}

/// The GET stream; with `Last-Event-ID` the stream that broke, from where it broke.
pub(super) fn listen(session: &Session, headers: &HeaderMap) -> Response {
    let last = headers.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok());
    let resumed = last.and_then(|id| id.split_once('-')).and_then(|(number, seen)| {
        let number = number.parse().ok()?;
        Some((number, session.stream(number)?, seen.parse().ok()?))
    });
    // Of a stream that is gone nothing can be replayed: the client gets the standing one.
    let (number, log, seen) = resumed.unwrap_or_else(|| {
        let log = session.standing();
        let seen = log.delivered();
        (STANDING, log, seen)
    });
    event_stream(events(session.revision, number, log.read(seen), seen))
}

/// Events with the ids by which a client resumes; the first primes it to do so (2025-11-25, Sending Messages).
fn events(
    revision: Revision,
    number: u64,
    messages: impl Stream<Item = Numbered> + Send + 'static,
    seen: u64,
) -> impl Stream<Item = Result<Event, Infallible>> + Send + 'static {
    let primes = revision >= Revision::V2025_11_25;
    let priming = Event::default().id(format!("{number}-{seen}")).retry(RETRY).data("");
    stream::iter(primes.then_some(priming))
        .chain(
            messages.map(move |(at, message)| Event::default().id(format!("{number}-{at}")).data(&*message)),
        )
        .map(Ok)
}

/// Whether the answer may be preceded by other messages.
fn needs_stream(session: &Session, envelope: &Envelope<'_>, params: &CallParams<'_>) -> bool {
    envelope.method() == method::TOOLS_CALL
        && params
            .name()
            .is_ok_and(|name| tools::is_slow(&name) || (session.shows_forms && tools::asks(&name)))
}

/// A notification or a response of the client.
fn taken_in(session: &Session, envelope: &Envelope<'_>, params: &CallParams<'_>) {
    match envelope.kind {
        Kind::Response => {
            let value = |raw: &RawValue| serde_json::from_str(raw.get()).unwrap_or_default();
            let outcome = match (envelope.result, envelope.error) {
                (Some(result), _) => Ok(value(result)),
                (None, error) => Err(error.map(value).unwrap_or_default()),
            };
            session.answered(envelope.id.as_json(), outcome);
        }
        Kind::Notification if envelope.method() == method::CANCELLED => {
            if let Some(id) = params.get("requestId") {
                session.cancel(id.get());
            }
        }
        Kind::Notification | Kind::Request => {}
    }
}

async fn answer(
    app: &App,
    session: &Session,
    envelope: &Envelope<'_>,
    params: &CallParams<'_>,
) -> Result<Value, RpcError> {
    match envelope.method() {
        method::PING => Ok(json!({})),
        method::RESOURCES_SUBSCRIBE => {
            let uri = params.uri()?;
            // Whatever can be read may be subscribed to; what never changes never tells.
            crate::resources::read(app, session.revision, &uri)?;
            session.subscribe(&uri);
            Ok(json!({}))
        }
        method::RESOURCES_UNSUBSCRIBE => {
            session.unsubscribe(&params.uri()?);
            Ok(json!({}))
        }
        method::TOOLS_CALL => {
            let call = call_of(params, Progress::none())?;
            match tools::call(app, &call).await? {
                Outcome::Done(result) => Ok(result.into_value(session.revision)),
                Outcome::Ask(_) => Ok(cannot_ask().into_value(session.revision)),
            }
        }
        method => catalogue::answer(app, session.revision, method, params),
    }
}

fn cannot_ask() -> ToolResult {
    ToolResult::error("This tool asks the user by a form, and this client did not declare elicitation.")
}

fn call_of(params: &CallParams<'_>, progress: Progress) -> Result<Call, RpcError> {
    let arguments = params.arguments().map_or(Ok(Value::Null), |raw| serde_json::from_str(raw.get()))?;
    Ok(Call { name: params.name()?.into_owned(), arguments, answer: None, progress })
}

/// Hands the call to a task of its own, since it goes on if the connection breaks, and answers with its stream.
fn streamed(
    app: &Arc<App>,
    session: &Arc<Session>,
    envelope: &Envelope<'_>,
    params: &CallParams<'_>,
) -> Response {
    let id = envelope.id.as_json();
    let (number, log) = session.open_stream();
    let call = match call_of(params, Progress::new(&log, params.progress_token())) {
        Ok(call) => call,
        Err(error) => return json_response(StatusCode::OK, json_rpc::error(id, &error)),
    };
    let cancelled = session.begin(id);
    let job = {
        let (app, session, log, id) = (app.clone(), session.clone(), log.clone(), id.to_owned());
        async move {
            let work = with_questions(&app, &session, &log, call);
            // No answer to a call that was cancelled (Cancellation, Behavior Requirements).
            if let Some(outcome) = cancelled.run_until_cancelled(work).await {
                log.push(json_rpc::answer(&id, &outcome));
            }
            log.close();
            session.finish(&id);
        }
    };
    if app.jobs.try_send(Box::pin(job)).is_err() {
        session.finish(id);
        return rpc_refusal(
            StatusCode::SERVICE_UNAVAILABLE,
            id,
            &RpcError::new(
                portico_mcp_types::code::INTERNAL_ERROR,
                "too many calls are under way: try again later",
            ),
        );
    }
    event_stream(events(session.revision, number, log.read(0), 0))
}

/// Runs a call, putting its questions to the client on the call's own stream.
async fn with_questions(
    app: &App,
    session: &Session,
    log: &EventLog,
    mut call: Call,
) -> Result<Value, RpcError> {
    loop {
        match tools::call(app, &call).await? {
            Outcome::Done(result) => return Ok(result.into_value(session.revision)),
            Outcome::Ask(question) if call.answer.is_none() => match ask(session, log, question).await {
                Ok(answer) => call.answer = Some(answer),
                Err(why) => return Ok(ToolResult::error(why).into_value(session.revision)),
            },
            Outcome::Ask(_) => return Ok(cannot_ask().into_value(session.revision)),
        }
    }
}

async fn ask(session: &Session, log: &EventLog, question: Question) -> Result<Answer, String> {
    let reply = session.ask(log, method::ELICIT, &question.params());
    let reply = match tokio::time::timeout(ANSWER_TIME, reply).await {
        Ok(Ok(Ok(reply))) => reply,
        Ok(Ok(Err(error))) => return Err(format!("The client could not ask the user: {error}")),
        Ok(Err(_)) | Err(_) => return Err("The user did not answer in time.".to_owned()),
    };
    let reply =
        Deserialize::deserialize(&reply).map_err(|e| format!("The client's answer cannot be read: {e}"))?;
    Ok(Answer { reference: question.reference, reply })
}
