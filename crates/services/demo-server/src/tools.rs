//! The tools: what they are called, what they take, and how a call ends.

mod booking;
mod countdown;
mod units;
pub(crate) mod zones;

use std::sync::Arc;

use portico_mcp_types::{Revision, method};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::App;
use crate::event_log::EventLog;
use crate::json_rpc::{self, RpcError};

/// A call, the same in both eras.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) arguments: Value,
    /// What the user answered to this call's question, if it asked one.
    pub(crate) answer: Option<Answer>,
    pub(crate) progress: Progress,
}

/// How a call ends.
#[derive(Debug)]
pub(crate) enum Outcome {
    Done(ToolResult),
    /// The user has to be asked first; the call is made again with the answer.
    Ask(Question),
}

/// A form for the user (`elicitation/create` in form mode).
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) message: String,
    pub(crate) schema: Value,
    /// What the call has to remember until the answer comes.
    pub(crate) reference: String,
}

impl Question {
    pub(crate) fn params(&self) -> Value {
        json!({ "message": self.message, "requestedSchema": self.schema })
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) reference: String,
    pub(crate) reply: ElicitResult,
}

/// The result of `elicitation/create`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ElicitResult {
    pub(crate) action: Action,
    #[serde(default)]
    pub(crate) content: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    Accept,
    Decline,
    Cancel,
}

#[derive(Debug)]
pub(crate) struct ToolResult {
    text: String,
    structured: Option<Value>,
    is_error: bool,
}

impl ToolResult {
    fn ok(text: impl Into<String>, structured: Value) -> Self {
        Self { text: text.into(), structured: Some(structured), is_error: false }
    }

    /// A failure that the model can read and mend (MCP, Tools, Error Handling).
    pub(crate) fn error(text: impl Into<String>) -> Self {
        Self { text: text.into(), structured: None, is_error: true }
    }

    pub(crate) fn into_value(self, revision: Revision) -> Value {
        let mut value =
            json!({ "content": [{ "type": "text", "text": self.text }], "isError": self.is_error });
        if let Some(structured) = self.structured.filter(|_| revision >= Revision::V2025_06_18) {
            value["structuredContent"] = structured;
        }
        value
    }
}

/// Where a call reports how far it is; nowhere unless the client gave a token.
#[derive(Debug)]
pub(crate) struct Progress {
    to: Option<(Arc<EventLog>, Box<RawValue>)>,
}

impl Progress {
    pub(crate) fn none() -> Self {
        Self { to: None }
    }

    pub(crate) fn new(log: &Arc<EventLog>, token: Option<&RawValue>) -> Self {
        Self { to: token.map(|token| (log.clone(), token.to_owned())) }
    }

    fn report(&self, done: u32, total: u32, message: &str) {
        let Some((log, token)) = &self.to else { return };
        let params = json!({ "progressToken": token, "progress": done, "total": total, "message": message });
        log.push(json_rpc::notification(method::PROGRESS, &params));
    }
}

pub(crate) fn list(revision: Revision) -> Value {
    let mut tools = [
        zones::now_definition(),
        zones::convert_definition(),
        units::definition(),
        countdown::definition(),
        booking::definition(),
    ];
    if revision < Revision::V2025_06_18 {
        for tool in &mut tools {
            tool.as_object_mut().map(|tool| tool.remove("outputSchema"));
        }
    }
    json!({ "tools": tools })
}

/// Whether a call takes its time or asks the user, and so needs a stream.
pub(crate) fn is_slow(name: &str) -> bool {
    name == countdown::NAME
}

/// Whether a call may ask the user.
pub(crate) fn asks(name: &str) -> bool {
    name == booking::NAME
}

pub(crate) async fn call(app: &App, call: &Call) -> Result<Outcome, RpcError> {
    let done = match &*call.name {
        zones::NOW => arguments(call).and_then(|args| zones::now(app.clock.now(), &args)),
        zones::CONVERT => arguments(call).and_then(|args| zones::convert(&args)),
        units::NAME => arguments(call).and_then(|args| units::convert(&args)),
        countdown::NAME => match arguments(call) {
            Ok(args) => countdown::run(&args, &call.progress).await,
            Err(message) => Err(message),
        },
        booking::NAME => {
            match arguments(call).and_then(|args| booking::run(app, &args, call.answer.as_ref())) {
                Ok(Outcome::Ask(question)) => return Ok(Outcome::Ask(question)),
                Ok(Outcome::Done(result)) => Ok(result),
                Err(message) => Err(message),
            }
        }
        name => return Err(RpcError::invalid_params(format!("there is no tool {name}"))),
    };
    Ok(Outcome::Done(done.unwrap_or_else(ToolResult::error)))
}

/// The arguments as the tool wants them, or a sentence for the model.
fn arguments<T: DeserializeOwned>(call: &Call) -> Result<T, String> {
    let given = if call.arguments.is_null() { json!({}) } else { call.arguments.clone() };
    serde_json::from_value(given).map_err(|e| format!("The arguments do not fit {}: {e}", call.name))
}

/// Annotations of a tool that looks but changes nothing, and knows nothing of the world outside.
fn read_only() -> Value {
    json!({ "readOnlyHint": true, "idempotentHint": true, "openWorldHint": false })
}
