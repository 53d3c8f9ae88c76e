//! A small MCP client over streamable HTTP: sessions where the server speaks them, stateless calls otherwise.

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use portico_mcp_types::sse::Decoder;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value, json};

use super::elicitation;
use crate::connection::http::{Http, body_text, next_chunk};
use crate::output::Output;

/// The newest revision with sessions, which most servers speak.
const SESSION_REVISION: &str = "2025-11-25";
/// The revision of stateless calls.
const STATELESS_REVISION: &str = "2026-07-28";
/// How often a stateless server may ask again before the call is given up.
const MOST_ROUNDS: usize = 16;
/// How many pages of tools are read: a server may name a next one for ever.
const MOST_PAGES: usize = 1000;
/// The largest event of a stream that is read.
const MOST_EVENT_BYTES: usize = 16 * 1024 * 1024;

/// A conversation with one endpoint.
#[derive(Debug)]
pub(super) struct McpClient<'a> {
    http: &'a Http,
    url: String,
    token: SecretString,
    era: Era,
    next_id: u64,
    output: Output,
}

#[derive(Debug)]
enum Era {
    Session { id: Option<String> },
    Stateless,
}

/// How an answer to a request can end.
enum Answer {
    Result(Value),
    Error(Value),
}

impl<'a> McpClient<'a> {
    /// Opens a session; where the server speaks only the stateless revision, goes on without one.
    pub(super) async fn open(http: &'a Http, url: &str, token: SecretString, output: Output) -> Result<Self> {
        let era = Era::Session { id: None };
        let mut client = Self { http, url: url.to_owned(), token, era, next_id: 1, output };
        let parameters = json!({
            "protocolVersion": SESSION_REVISION,
            "capabilities": { "elicitation": {} },
            "clientInfo": client_info(),
        });
        match client.exchange("initialize", parameters).await? {
            Answer::Result(_) => client.notify("notifications/initialized").await?,
            Answer::Error(error) if error["data"]["reason"] == "era_not_bridged" => {
                client.era = Era::Stateless;
            }
            Answer::Error(error) => bail!(explain(&error)),
        }
        Ok(client)
    }

    /// Lists the tools, over all pages.
    pub(super) async fn tools(&mut self) -> Result<Vec<Value>> {
        let mut tools = Vec::new();
        let mut cursor = Value::Null;
        for _ in 0..MOST_PAGES {
            let parameters = if cursor.is_null() { json!({}) } else { json!({ "cursor": cursor }) };
            let mut result = self.request("tools/list", parameters).await?;
            if let Value::Array(page) = result["tools"].take() {
                tools.extend(page);
            }
            cursor = result["nextCursor"].take();
            if cursor.is_null() {
                return Ok(tools);
            }
        }
        bail!("the endpoint has more than {MOST_PAGES} pages of tools: they are not read to the end")
    }

    /// Calls a tool, shows its progress and answers its questions.
    pub(super) async fn call_tool(&mut self, name: &str, arguments: Map<String, Value>) -> Result<Value> {
        let mut parameters =
            json!({ "name": name, "arguments": arguments, "_meta": { "progressToken": "call" } });
        for _ in 0..MOST_ROUNDS {
            let result = self.request("tools/call", parameters.clone()).await?;
            if result["resultType"] != "input_required" {
                return Ok(result);
            }
            let questions = result["inputRequests"].as_object().into_iter().flatten();
            let responses: Map<String, Value> = questions
                .map(|(key, question)| (key.clone(), elicitation::answer(&question["params"], self.output)))
                .collect();
            parameters["inputResponses"] = Value::Object(responses);
            if let Some(state) = result.get("requestState") {
                parameters["requestState"] = state.clone();
            }
        }
        bail!("the server asked {MOST_ROUNDS} times and still has no result")
    }

    /// Ends the session. A server that cannot is none of the caller's concern.
    pub(super) async fn close(self) {
        if let Era::Session { id: Some(_) } = &self.era
            && let Ok(request) = self.head(Method::DELETE, None).body(Bytes::new())
        {
            drop(self.http.send(request).await);
        }
    }

    async fn request(&mut self, method: &str, parameters: Value) -> Result<Value> {
        match self.exchange(method, parameters).await? {
            Answer::Result(result) => Ok(result),
            Answer::Error(error) => bail!(explain(&error)),
        }
    }

    async fn exchange(&mut self, method: &str, mut parameters: Value) -> Result<Answer> {
        let id = self.next_id;
        self.next_id += 1;
        if matches!(self.era, Era::Stateless) {
            let meta = &mut parameters["_meta"];
            meta["io.modelcontextprotocol/protocolVersion"] = STATELESS_REVISION.into();
            meta["io.modelcontextprotocol/clientCapabilities"] = json!({ "elicitation": {} });
            meta["io.modelcontextprotocol/clientInfo"] = client_info();
        }
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": parameters });
        let mut response = self.post(&message).await?;
        if let (Era::Session { id: session }, Some(header)) =
            (&mut self.era, response.headers().get("mcp-session-id"))
        {
            *session = header.to_str().ok().map(ToOwned::to_owned);
        }
        let media =
            response.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !media.starts_with("text/event-stream") {
            let status = response.status();
            let text = body_text(response).await?;
            let Ok(message) = serde_json::from_str::<Value>(&text) else {
                bail!("{method} was answered with {status}: {text}");
            };
            return answer_in(&message, id).with_context(|| refusal(method, status, &message));
        }
        let mut decoder = Decoder::new(MOST_EVENT_BYTES);
        while let Some(chunk) = next_chunk(&mut response).await? {
            decoder.push(&chunk);
            while let Some(event) = decoder.next_event()? {
                let Ok(message) = serde_json::from_slice::<Value>(&event.data) else { continue };
                if let Some(answer) = answer_in(&message, id) {
                    return Ok(answer);
                }
                self.heed(&message).await?;
            }
        }
        bail!("the server ended the stream before it answered {method}")
    }

    /// Shows a notification; answers a request of the server.
    async fn heed(&self, message: &Value) -> Result<()> {
        let parameters = &message["params"];
        match message["method"].as_str() {
            Some("notifications/progress") => {
                let total = parameters.get("total").map(|total| format!("/{total}")).unwrap_or_default();
                let text = parameters["message"].as_str().unwrap_or_default();
                self.output.note(&format!("  … {}{total} {text}", parameters["progress"]));
            }
            Some("notifications/message") => {
                self.output.note(&format!("  {}: {}", parameters["level"], parameters["data"]));
            }
            Some("elicitation/create") => {
                let result = elicitation::answer(parameters, self.output);
                self.post(&json!({ "jsonrpc": "2.0", "id": message["id"], "result": result })).await?;
            }
            Some(method) if message.get("id").is_some() => {
                let error = json!({ "code": -32601, "message": format!("this client does not do {method}") });
                self.post(&json!({ "jsonrpc": "2.0", "id": message["id"], "error": error })).await?;
            }
            _ => {}
        }
        Ok(())
    }

    async fn notify(&self, method: &str) -> Result<()> {
        let response = self.post(&json!({ "jsonrpc": "2.0", "method": method })).await?;
        if !response.status().is_success() {
            bail!("{method} was answered with {}", response.status());
        }
        Ok(())
    }

    async fn post(&self, message: &Value) -> Result<http::Response<hyper::body::Incoming>> {
        let request =
            self.head(Method::POST, Some(message)).body(Bytes::from(serde_json::to_vec(message)?))?;
        self.http.send(request).await
    }

    fn head(&self, method: Method, message: Option<&Value>) -> http::request::Builder {
        let mut head = Request::builder()
            .method(method)
            .uri(&self.url)
            .header("authorization", format!("Bearer {}", self.token.expose_secret()))
            .header("accept", "application/json, text/event-stream")
            .header("content-type", "application/json");
        match &self.era {
            Era::Session { id: None } => {}
            Era::Session { id: Some(id) } => {
                head = head.header("mcp-session-id", id).header("mcp-protocol-version", SESSION_REVISION);
            }
            Era::Stateless => {
                head = head.header("mcp-protocol-version", STATELESS_REVISION);
                if let Some(method) = message.and_then(|message| message["method"].as_str()) {
                    head = head.header("mcp-method", method);
                }
                if let Some(name) = message.and_then(|message| message["params"]["name"].as_str()) {
                    head = head.header("mcp-name", name);
                }
            }
        }
        head
    }
}

fn client_info() -> Value {
    json!({ "name": "portico", "version": env!("CARGO_PKG_VERSION") })
}

/// The answer to request `id`, if `message` is it. An error without an id answers whatever was asked.
fn answer_in(message: &Value, id: u64) -> Option<Answer> {
    if let Some(error) = message.get("error").filter(|error| error.is_object()) {
        return (message["id"] == id || message["id"].is_null()).then(|| Answer::Error(error.clone()));
    }
    message.get("result").filter(|_| message["id"] == id).map(|result| Answer::Result(result.clone()))
}

fn refusal(method: &str, status: StatusCode, message: &Value) -> String {
    let detail =
        message["detail"].as_str().or(message["error_description"].as_str()).unwrap_or("no reason given");
    format!("{method} was answered with {status}: {detail}")
}

/// What a JSON-RPC error says, with its stable code.
fn explain(error: &Value) -> String {
    let text = error["message"].as_str().unwrap_or("an error without a message");
    match error["data"]["reason"].as_str() {
        Some(reason) => format!("{text} ({reason})"),
        None => format!("{text} ({})", error["code"]),
    }
}
