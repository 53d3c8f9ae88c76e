//! An MCP server of both eras that answers as a test asks it to, by the name of the tool.

mod answers;

use std::collections::HashSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use portico_process::Tasks;
use serde_json::Value;
use tokio::sync::{Notify, watch};

use answers::{ask_stateless, endless, task};

/// One request that reached the server.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

#[derive(Debug)]
struct Inner {
    seen: Mutex<Vec<Seen>>,
    sessions: Mutex<HashSet<String>>,
    counter: Mutex<u32>,
    /// A response of the agent to a request of the server.
    answered: watch::Sender<Option<Value>>,
    /// Lets `hold` go on.
    release: Notify,
    /// Counts streams whose reader went away.
    dropped: watch::Sender<u32>,
    no_get: Mutex<bool>,
    no_ids: Mutex<bool>,
    /// How a session is refused that is not known.
    unknown: Mutex<StatusCode>,
    sessions_only: Mutex<bool>,
    /// How `initialize` is refused.
    stateless_only: Mutex<Option<StatusCode>>,
}

#[derive(Debug, Clone)]
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    inner: Arc<Inner>,
}

impl TestServer {
    pub(crate) async fn start(tasks: &Tasks) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner {
            seen: Mutex::default(),
            sessions: Mutex::default(),
            counter: Mutex::default(),
            answered: watch::Sender::new(None),
            release: Notify::new(),
            dropped: watch::Sender::new(0),
            no_get: Mutex::new(false),
            no_ids: Mutex::new(false),
            unknown: Mutex::new(StatusCode::NOT_FOUND),
            sessions_only: Mutex::new(false),
            stateless_only: Mutex::default(),
        });
        let app = Router::new().fallback(handle).with_state(Arc::clone(&inner));
        tasks.spawn_short("test-server", async move { axum::serve(listener, app).await.unwrap() });
        Self { address, inner }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.inner.seen.lock().unwrap().clone()
    }

    pub(crate) fn last(&self) -> Seen {
        self.seen().pop().unwrap()
    }

    /// Loses all sessions, as after a restart.
    pub(crate) fn forget(&self) {
        self.inner.sessions.lock().unwrap().clear();
    }

    pub(crate) fn sessions(&self) -> usize {
        self.inner.sessions.lock().unwrap().len()
    }

    pub(crate) fn release(&self) {
        self.inner.release.notify_waiters();
        self.inner.release.notify_one();
    }

    pub(crate) fn offer_no_get(&self) {
        *self.inner.no_get.lock().unwrap() = true;
    }

    /// Keeps no sessions from now on: it names none and asks for none.
    pub(crate) fn keep_no_sessions(&self) {
        *self.inner.no_ids.lock().unwrap() = true;
    }

    /// Answers 400 for sessions that it does not know, as older SDKs do.
    pub(crate) fn refuse_unknown_sessions_as_bad_requests(&self) {
        *self.inner.unknown.lock().unwrap() = StatusCode::BAD_REQUEST;
    }

    /// Knows nothing of the stateless era from now on.
    pub(crate) fn speak_sessions_only(&self) {
        *self.inner.sessions_only.lock().unwrap() = true;
    }

    /// Knows nothing of sessions from now on, and says so with this status.
    pub(crate) fn speak_stateless_only(&self, status: StatusCode) {
        *self.inner.stateless_only.lock().unwrap() = Some(status);
    }

    /// Waits until a stream's reader has gone.
    pub(crate) async fn reader_gone(&self) {
        self.inner.dropped.subscribe().wait_for(|count| *count > 0).await.unwrap();
    }

    /// Waits until a request that fits has arrived.
    pub(crate) async fn wait_for(&self, fits: impl Fn(&Seen) -> bool) -> Seen {
        loop {
            if let Some(seen) = self.seen().into_iter().find(|seen| fits(seen)) {
                return seen;
            }
            tokio::task::yield_now().await;
        }
    }
}

struct OnDrop(Arc<Inner>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.dropped.send_modify(|count| *count += 1);
    }
}

/// Events whose reader is noticed when it goes.
fn guarded(
    inner: &Arc<Inner>,
    events: impl futures_util::Stream<Item = String> + Send + 'static,
) -> impl futures_util::Stream<Item = String> + Send + 'static {
    let guard = OnDrop(Arc::clone(inner));
    events.map(move |event| {
        let _ = &guard;
        event
    })
}

fn json(status: StatusCode, body: String) -> Response {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(Body::from(body))
        .unwrap()
}

fn sse(events: impl futures_util::Stream<Item = String> + Send + 'static) -> Response {
    Response::builder()
        .header("content-type", "text/event-stream")
        .header("set-cookie", "a=b")
        .header("location", "http://internal/")
        .body(Body::from_stream(events.map(Ok::<_, Infallible>)))
        .unwrap()
}

fn event(data: &str) -> String {
    format!("event: message\ndata: {data}\n\n")
}

async fn handle(State(inner): State<Arc<Inner>>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let seen = Seen { method: head.method.clone(), headers: head.headers.clone(), body };
    inner.seen.lock().unwrap().push(seen.clone());
    let stateless = head.headers.get("mcp-protocol-version").is_some_and(|v| v == "2026-07-28");
    let session = head.headers.get("mcp-session-id").and_then(|v| v.to_str().ok()).map(str::to_owned);
    let message = seen.json();
    if !stateless && message["method"] != "initialize" && !*inner.no_ids.lock().unwrap() {
        let known = session.as_ref().is_some_and(|id| inner.sessions.lock().unwrap().contains(id));
        if !known {
            let status = *inner.unknown.lock().unwrap();
            let code = if status == StatusCode::NOT_FOUND { -32001 } else { -32000 };
            let error = format!(r#"{{"code":{code},"message":"Session not found"}}"#);
            return json(status, format!(r#"{{"jsonrpc":"2.0","id":null,"error":{error}}}"#));
        }
    }
    if stateless && *inner.sessions_only.lock().unwrap() {
        let body = r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: Server not initialized"},"id":null}"#;
        return json(StatusCode::BAD_REQUEST, body.to_owned());
    }
    if let (false, Some(status)) = (stateless, *inner.stateless_only.lock().unwrap()) {
        let error = r#""error":{"code":-32601,"message":"Method not found"}"#;
        return json(status, format!(r#"{{"jsonrpc":"2.0","id":{},{error}}}"#, message["id"]));
    }
    match head.method {
        Method::GET => get(&inner, &head.headers),
        Method::DELETE => {
            inner.sessions.lock().unwrap().remove(&session.unwrap_or_default());
            Response::new(Body::empty())
        }
        _ => post(&inner, &message, stateless).await,
    }
}

fn get(inner: &Arc<Inner>, headers: &HeaderMap) -> Response {
    if headers.get("last-event-id").is_some_and(|id| id == "up-7") {
        return sse(stream::iter([event(r#"{"jsonrpc":"2.0","id":5,"result":{"resumed":true}}"#)]));
    }
    if *inner.no_get.lock().unwrap() {
        return Response::builder().status(405).body(Body::empty()).unwrap();
    }
    let first = event(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#);
    sse(guarded(inner, stream::iter([first]).chain(stream::pending())))
}

async fn post(inner: &Arc<Inner>, message: &Value, stateless: bool) -> Response {
    let id = message["id"].to_string();
    let Some(method) = message["method"].as_str() else {
        inner.answered.send_replace(Some(message.clone()));
        return Response::builder().status(202).body(Body::empty()).unwrap();
    };
    if method == "notifications/refused" {
        let error = r#"{"jsonrpc":"2.0","error":{"code":-32600,"message":"not now"}}"#;
        return json(StatusCode::BAD_REQUEST, error.to_owned());
    }
    if message["id"].is_null() {
        return Response::builder().status(202).body(Body::empty()).unwrap();
    }
    let answer =
        |result: &str| json(StatusCode::OK, format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#));
    match method {
        "initialize" if message["params"]["clientInfo"]["name"] == "patient" => endless(),
        "initialize" => initialize(inner, message, &id),
        "server/discover" => answer(
            r#"{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"resultType":"complete"}"#,
        ),
        "tools/list" => match message["params"]["cursor"].as_str() {
            None => answer(r#"{"tools":[{"name":"echo","n":1.10}],"nextCursor":"page-2"}"#),
            Some("page-2") => answer(
                r#"{"tools":[{"name":"region","inputSchema":{"type":"object","properties":{"text":{"type":"string","x-mcp-header":"Text"}}}}]}"#,
            ),
            Some(_) => json(
                StatusCode::OK,
                format!(
                    r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32602,"message":"unknown cursor"}}}}"#
                ),
            ),
        },
        "subscriptions/listen" => {
            let first = event(&format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{{"_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}}}}}"#
            ));
            sse(guarded(inner, stream::iter([first]).chain(stream::pending())))
        }
        "logging/setLevel" if message["params"]["level"] != "nonsense" => answer("{}"),
        "resources/subscribe" if message["params"]["uri"] == "file:///a" => answer("{}"),
        "resources/subscribe" if message["params"]["uri"] == "file:///events" => {
            sse(stream::iter([event(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#))]))
        }
        "tools/call" => tool(inner, message, &id, stateless).await,
        method if method.starts_with("tasks/") => task(message, &id),
        _ => json(
            if stateless { StatusCode::NOT_FOUND } else { StatusCode::OK },
            format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"no such method"}}}}"#),
        ),
    }
}

fn initialize(inner: &Arc<Inner>, message: &Value, id: &str) -> Response {
    let session = {
        let mut counter = inner.counter.lock().unwrap();
        *counter += 1;
        format!("upstream-{counter}")
    };
    inner.sessions.lock().unwrap().insert(session.clone());
    let version = message["params"]["protocolVersion"].as_str().unwrap();
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":{id},"result":{{"protocolVersion":"{version}","capabilities":{{"tools":{{}},"completions":{{}}}},"serverInfo":{{"name":"t","version":"1"}},"extra":1.10}}}}"#
    );
    let mut response = json(StatusCode::OK, body);
    if !*inner.no_ids.lock().unwrap() {
        response.headers_mut().insert("mcp-session-id", session.parse().unwrap());
    }
    response
}

async fn tool(inner: &Arc<Inner>, message: &Value, id: &str, stateless: bool) -> Response {
    let done = format!(
        r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[],"n":1.10,"big":12345678901234567890123}}}}"#
    );
    let progress = event(
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1.10}}"#,
    );
    match message["params"]["name"].as_str().unwrap_or("") {
        "stream" => sse(stream::iter([progress, event(&done)])),
        "broken" => sse(stream::iter([progress])),
        "flood" => sse(guarded(inner, stream::repeat(progress))),
        "html" => {
            Response::builder().header("content-type", "text/html").body(Body::from("<h1>hi</h1>")).unwrap()
        }
        "fake" => json(StatusCode::OK, "<h1>hi</h1>".to_owned()),
        "redirect" => Response::builder()
            .status(302)
            .header("location", "http://169.254.169.254/")
            .body(Body::empty())
            .unwrap(),
        "unauthorized" => Response::builder().status(401).body(Body::empty()).unwrap(),
        "failing" => Response::builder().status(500).body(Body::from("stack trace")).unwrap(),
        "slow" => std::future::pending().await,
        "large" => json(
            StatusCode::OK,
            format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"text":"{}"}}}}"#, "x".repeat(600_000)),
        ),
        "cut" => Response::builder()
            .header("content-type", "application/json")
            .body(Body::from_stream(stream::iter([
                Ok(Bytes::from(r#"{"jsonrpc""#)),
                Err(std::io::Error::other("cut")),
            ])))
            .unwrap(),
        name @ ("hold" | "weighty" | "huge") => {
            let text = format!(
                r#"{{"jsonrpc":"2.0","id":{id},"result":{{"text":"{}"}}}}"#,
                "x".repeat(if name == "huge" { 300_000 } else { 200_000 })
            );
            let (inner, last) = (Arc::clone(inner), event(if name == "hold" { &done } else { &text }));
            let guard = OnDrop(Arc::clone(&inner));
            sse(stream::iter([progress]).chain(stream::once(async move {
                let _guard = guard;
                inner.release.notified().await;
                last
            })))
        }
        "dormant" => sse(stream::iter(["id: up-8\nretry: 30000\ndata: \n\n".to_owned()])),
        "suspended" => sse(stream::iter(["id: up-7\nretry: 1\ndata: \n\n".to_owned()])),
        "task" if stateless => json(
            StatusCode::OK,
            format!(
                r#"{{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"task","taskId":"t-1","status":"working"}}}}"#
            ),
        ),
        "task" => sse(stream::iter([
            event(
                r#"{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{"taskId":"t-1","status":"working"}}"#,
            ),
            event(&format!(
                r#"{{"jsonrpc":"2.0","id":{id},"result":{{"task":{{"taskId":"t-1","status":"working"}}}}}}"#
            )),
        ])),
        "ask" if stateless => ask_stateless(message, id),
        "ask" => {
            let mut answers = inner.answered.subscribe();
            let question = event(
                r#"{"jsonrpc":"2.0","id":"q-1","method":"elicitation/create","params":{"message":"?"}}"#,
            );
            let id = id.to_owned();
            sse(stream::iter([question]).chain(stream::once(async move {
                let answered =
                    tokio::time::timeout(Duration::from_secs(10), answers.wait_for(Option::is_some)).await;
                let said = answered.unwrap().unwrap().clone().unwrap_or_default();
                event(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"said":{}}}}}"#, said["result"]))
            })))
        }
        _ => json(StatusCode::OK, done),
    }
}
