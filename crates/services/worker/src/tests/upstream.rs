//! MCP servers to look at.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State as Extract;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, Method, StatusCode, Uri};
use portico_process::Tasks;
use portico_transport::{BoundListener, HttpLimits};
use serde_json::{Value, json};
use tokio::sync::watch;

/// A tool whose bytes must arrive as they are.
pub(crate) const RAW_TOOL: &str = r#"{ "name":"tool-0", "title":"Zero", "inputSchema":{"type":"object","maximum":12345678901234567890123,"x":1.10}, "description":"counts" }"#;

/// How a server behaves; it may change under way.
#[derive(Debug, Clone)]
pub(crate) struct Behaviour {
    pub(crate) is_stateless: bool,
    pub(crate) has_sessions: bool,
    /// The revision that `initialize` negotiates.
    pub(crate) revision: &'static str,
    /// Whether answers are events, after a priming one and a message that is not for the worker.
    pub(crate) streams: bool,
    /// The status of every answer.
    pub(crate) status: Option<u16>,
    /// This method is never answered.
    pub(crate) hangs_on: Option<&'static str>,
    pub(crate) token: Option<&'static str>,
    pub(crate) tools: usize,
    /// The status of GET /health.
    pub(crate) health: u16,
    /// How many bytes stand in front of every list.
    pub(crate) padding: usize,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            is_stateless: true,
            has_sessions: true,
            revision: "2025-11-25",
            streams: false,
            status: None,
            hangs_on: None,
            token: None,
            tools: 3,
            health: 200,
            padding: 0,
        }
    }
}

/// What a server saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Methods, or verbs and paths, in the order of arrival.
    pub(crate) requests: Vec<String>,
    pub(crate) open: BTreeSet<String>,
    pub(crate) opened: usize,
}

impl Seen {
    pub(crate) fn count(&self, request: &str) -> usize {
        self.requests.iter().filter(|seen| *seen == request).count()
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    url: String,
    behaviour: Arc<Mutex<Behaviour>>,
    seen: Arc<Mutex<Seen>>,
    changed: Arc<watch::Sender<u64>>,
}

impl Upstream {
    pub(crate) fn start(behaviour: Behaviour, tasks: &Tasks) -> Self {
        let listener = BoundListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let upstream = Self {
            url: format!("http://{}/mcp", listener.local_addr()),
            behaviour: Arc::new(Mutex::new(behaviour)),
            seen: Arc::default(),
            changed: Arc::new(watch::Sender::new(0)),
        };
        let app = Router::new().fallback(serve).with_state(upstream.clone());
        listener.serve(app, HttpLimits::default(), None, tasks);
        upstream
    }

    pub(crate) fn document(&self) -> Value {
        json!({"type": "url", "endpoint": self.url})
    }

    pub(crate) fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.behaviour.lock().unwrap());
    }

    pub(crate) fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock().unwrap())
    }

    pub(crate) async fn until(&self, what: &str, mut enough: impl FnMut(&Seen) -> bool) {
        let mut changed = self.changed.subscribe();
        let waiting = async {
            while !enough(&self.seen.lock().unwrap()) {
                changed.changed().await.unwrap();
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), waiting).await;
        assert!(waited.is_ok(), "never: {what}\n{:#?}", self.seen.lock().unwrap());
    }

    fn note(&self, note: impl FnOnce(&mut Seen)) {
        note(&mut self.seen.lock().unwrap());
        self.changed.send_modify(|count| *count += 1);
    }
}

async fn serve(
    Extract(upstream): Extract<Upstream>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let behaviour = upstream.behaviour.lock().unwrap().clone();
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    let name = message["method"].as_str().map_or_else(|| format!("{method} {}", uri.path()), str::to_owned);
    upstream.note(|seen| seen.requests.push(name.clone()));
    if behaviour.hangs_on.is_some_and(|hangs| hangs == name) {
        std::future::pending::<()>().await;
    }
    if let Some(status) = behaviour.status {
        return StatusCode::from_u16(status).unwrap().into_response();
    }
    let given = headers.get("authorization").map(|value| value.to_str().unwrap());
    if given != behaviour.token.map(|token| format!("Bearer {token}")).as_deref() {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    match method {
        Method::DELETE => {
            let id = headers["mcp-session-id"].to_str().unwrap().to_owned();
            upstream.note(|seen| assert!(seen.open.remove(&id), "closed twice"));
            StatusCode::NO_CONTENT.into_response()
        }
        Method::GET => StatusCode::from_u16(behaviour.health).unwrap().into_response(),
        _ => post(&upstream, &behaviour, &headers, &message),
    }
}

fn post(upstream: &Upstream, behaviour: &Behaviour, headers: &HeaderMap, message: &Value) -> Response {
    assert_eq!(headers["accept"], "application/json, text/event-stream");
    let method = message["method"].as_str().unwrap();
    let version = headers.get("mcp-protocol-version").map(|value| value.to_str().unwrap());
    if version == Some("2026-07-28") {
        if !behaviour.is_stateless {
            return (StatusCode::BAD_REQUEST, "no session").into_response();
        }
        assert_eq!(headers["mcp-method"], method);
        let meta = &message["params"]["_meta"];
        assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
        assert!(meta["io.modelcontextprotocol/clientCapabilities"].is_object());
        return answer(behaviour, message, &result(behaviour, method, &message["params"]));
    }
    if !behaviour.has_sessions {
        let error = json!({"code": -32020, "message": "header missing"});
        let body = json!({"jsonrpc": "2.0", "id": message["id"], "error": error}).to_string();
        return (StatusCode::BAD_REQUEST, [("content-type", "application/json")], body).into_response();
    }
    if method == "initialize" {
        assert_eq!(message["params"]["protocolVersion"], "2025-11-25");
        let id = upstream.seen(|seen| format!("session-{}", seen.opened));
        upstream.note(|seen| {
            seen.opened += 1;
            seen.open.insert(id.clone());
        });
        let mut response = answer(behaviour, message, &result(behaviour, method, &Value::Null));
        response.headers_mut().insert("mcp-session-id", id.parse().unwrap());
        return response;
    }
    let id = headers["mcp-session-id"].to_str().unwrap();
    assert!(upstream.seen(|seen| seen.open.contains(id)), "a session that is not open");
    assert_eq!(version, Some(behaviour.revision));
    if message.get("id").is_none() {
        return StatusCode::ACCEPTED.into_response();
    }
    answer(behaviour, message, &result(behaviour, method, &message["params"]))
}

/// The result of a method as JSON text, or an error code.
fn result(behaviour: &Behaviour, method: &str, params: &Value) -> Result<String, i32> {
    let capabilities = json!({"tools": {}, "prompts": {}, "resources": {}});
    let result = match method {
        "server/discover" => {
            let versions = ["2026-07-28", "2025-11-25", "2031-01-01"];
            json!({"supportedVersions": versions, "capabilities": capabilities})
        }
        "initialize" => json!({
            "protocolVersion": behaviour.revision, "capabilities": capabilities,
            "serverInfo": {"name": "fixture", "version": "1"},
        }),
        "tools/list" => return Ok(tools(behaviour, params["cursor"].as_str())),
        "resources/list" => json!({"resources": [{"uri": "file:///a", "name": "A"}]}),
        "resources/templates/list" => {
            json!({"resourceTemplates": [{"uriTemplate": "file:///{x}", "name": "X"}]})
        }
        // It says that it has prompts and has no list of them.
        _ => return Err(-32601),
    };
    Ok(result.to_string())
}

/// One tool a page; the first cursor is the empty string.
fn tools(behaviour: &Behaviour, cursor: Option<&str>) -> String {
    let at = cursor.map_or(0, |cursor| cursor.len() + 1);
    let tool = match at {
        0 => RAW_TOOL.to_owned(),
        at => json!({"name": format!("tool-{at}"), "inputSchema": {"type": "object"}}).to_string(),
    };
    let cursor = format!(r#","nextCursor":"{}""#, "x".repeat(at));
    let next = if at + 1 < behaviour.tools { cursor } else { String::new() };
    format!(r#"{{"padding":"{}","tools":[{tool}]{next}}}"#, "p".repeat(behaviour.padding))
}

fn answer(behaviour: &Behaviour, message: &Value, result: &Result<String, i32>) -> Response {
    let id = &message["id"];
    let body = match result {
        Ok(result) => format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#),
        Err(code) => {
            json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": "no"}}).to_string()
        }
    };
    if !behaviour.streams {
        return ([("content-type", "application/json; charset=utf-8")], body).into_response();
    }
    let log = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{}}"#;
    let events = format!("id: 1\ndata:\n\ndata: {log}\n\ndata: {body}\n\n").into_bytes();
    let chunks: Vec<_> = events.chunks(70).map(Bytes::copy_from_slice).map(Ok::<_, Infallible>).collect();
    // The stream stays open: the worker leaves when it has what it came for.
    let body = Body::from_stream(stream::iter(chunks).chain(stream::pending()));
    ([("content-type", "text/event-stream")], body).into_response()
}
