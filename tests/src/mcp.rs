//! Agents of both eras, small enough to send nonsense on purpose.

use std::sync::atomic::{AtomicU64, Ordering};

use ::http::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use ::http::{HeaderMap, Method};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::http::{Answer, Http, Stream};

pub const SESSION_ERA: &str = "2025-11-25";
pub const STATELESS_ERA: &str = "2026-07-28";

/// Somebody who sends requests to one endpoint.
#[derive(Debug, Clone)]
pub struct Caller {
    pub http: Http,
    pub url: String,
    pub headers: HeaderMap,
}

impl Caller {
    /// An empty token means none.
    #[must_use]
    pub fn new(http: Http, url: String, token: &str) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        let caller = Self { http, url, headers };
        if token.is_empty() { caller } else { caller.token(token) }
    }

    #[must_use]
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        self
    }

    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.headers.remove(name);
        self
    }

    #[must_use]
    pub fn token(self, token: &str) -> Self {
        self.with("authorization", &format!("Bearer {token}"))
    }

    pub async fn post(&self, body: impl Into<Bytes>) -> Answer {
        self.http.send(Method::POST, &self.url, &self.headers, body).await
    }

    pub async fn stream(&self, body: impl Into<Bytes>) -> Stream {
        self.http.open(Method::POST, &self.url, &self.headers, body).await
    }

    pub async fn send(&self, method: Method) -> Answer {
        self.http.send(method, &self.url, &self.headers, Bytes::new()).await
    }

    pub async fn listen(&self) -> Stream {
        self.http.open(Method::GET, &self.url, &self.headers, Bytes::new()).await
    }
}

/// An agent of the session era with an open session.
#[derive(Debug)]
pub struct Session {
    pub caller: Caller,
    pub initialized: Value,
    next_id: AtomicU64,
}

impl Session {
    pub async fn open(caller: &Caller) -> Self {
        Self::open_with(caller, SESSION_ERA, &json!({ "elicitation": {}, "sampling": {}, "roots": {} })).await
    }

    pub async fn open_with(caller: &Caller, version: &str, capabilities: &Value) -> Self {
        let answer = caller.post(initialize(version, capabilities)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let initialized = answer.message()["result"].clone();
        let version = initialized["protocolVersion"].as_str().expect("a version").to_owned();
        let session = answer.header("mcp-session-id").expect("a session id");
        let caller = caller.clone().with("mcp-session-id", session).with("mcp-protocol-version", &version);
        let session = Self { caller, initialized, next_id: AtomicU64::new(1) };
        session.notify("notifications/initialized", &json!({})).await;
        session
    }

    #[must_use]
    pub fn id(&self) -> String {
        self.caller.headers["mcp-session-id"].to_str().unwrap().to_owned()
    }

    pub async fn notify(&self, method: &str, params: &Value) {
        let answer = self
            .caller
            .post(json!({ "jsonrpc": "2.0", "method": method, "params": params }).to_string())
            .await;
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (202, ""));
    }

    /// A request's text, with the next id.
    #[must_use]
    pub fn request_text(&self, method: &str, params: &Value) -> String {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string()
    }

    pub async fn ask(&self, method: &str, params: &Value) -> Answer {
        self.caller.post(self.request_text(method, params)).await
    }

    /// The result of a request; an error fails the test.
    pub async fn result(&self, method: &str, params: &Value) -> Value {
        let answer = self.ask(method, params).await;
        let mut message = answer.message();
        assert!(message["error"].is_null() && message["result"].is_object(), "{method}: {}", answer.text());
        message["result"].take()
    }

    pub async fn call(&self, tool: &str, arguments: &Value) -> Value {
        self.result("tools/call", &json!({ "name": tool, "arguments": arguments })).await
    }

    /// A call whose answer is read bit by bit; its progress token is `p`.
    pub async fn call_stream(&self, tool: &str, arguments: &Value) -> Stream {
        let params = json!({ "name": tool, "arguments": arguments, "_meta": { "progressToken": "p" } });
        self.caller.stream(self.request_text("tools/call", &params)).await
    }

    /// Answers a request of the server.
    pub async fn respond(&self, id: &Value, result: &Value) {
        let answer =
            self.caller.post(json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string()).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
}

#[must_use]
pub fn initialize(version: &str, capabilities: &Value) -> String {
    json!({
        "jsonrpc": "2.0", "id": 0, "method": "initialize",
        "params": {
            "protocolVersion": version, "capabilities": capabilities,
            "clientInfo": { "name": "acceptance", "version": "1" },
        },
    })
    .to_string()
}

/// An agent of the stateless era.
#[derive(Debug)]
pub struct Stateless {
    pub caller: Caller,
    pub capabilities: Value,
}

impl Stateless {
    #[must_use]
    pub fn new(caller: &Caller) -> Self {
        Self { caller: caller.clone(), capabilities: json!({ "elicitation": {}, "sampling": {} }) }
    }

    /// The request's text and the caller with the headers that go with it.
    #[must_use]
    pub fn request(&self, method: &str, params: &Value) -> (Caller, String) {
        let mut params = params.clone();
        params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!(STATELESS_ERA);
        params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = self.capabilities.clone();
        params["_meta"]["io.modelcontextprotocol/clientInfo"] =
            json!({ "name": "acceptance", "version": "1" });
        let mut caller =
            self.caller.clone().with("mcp-protocol-version", STATELESS_ERA).with("mcp-method", method);
        if let Some(name) = params["name"].as_str().or(params["uri"].as_str()) {
            caller = caller.with("mcp-name", name);
        }
        (caller, json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string())
    }

    pub async fn ask(&self, method: &str, params: &Value) -> Answer {
        let (caller, text) = self.request(method, params);
        caller.post(text).await
    }

    pub async fn stream(&self, method: &str, params: &Value) -> Stream {
        let (caller, text) = self.request(method, params);
        caller.stream(text).await
    }

    pub async fn result(&self, method: &str, params: &Value) -> Value {
        let answer = self.ask(method, params).await;
        let mut message = answer.message();
        assert!(message["error"].is_null() && message["result"].is_object(), "{method}: {}", answer.text());
        message["result"].take()
    }

    pub async fn call(&self, tool: &str, arguments: &Value) -> Value {
        self.result("tools/call", &json!({ "name": tool, "arguments": arguments })).await
    }
}
