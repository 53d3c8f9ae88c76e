//! A small MCP server whose lists a test sets.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use portico_mcp_types::Revision;
use portico_process::Tasks;
use serde_json::{Value, json};
use tokio::sync::{broadcast, watch};

/// What a member has and how it behaves.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    pub(super) tools: Vec<Value>,
    pub(super) prompts: Vec<Value>,
    pub(super) resources: Vec<Value>,
    pub(super) templates: Vec<Value>,
    pub(super) capabilities: Value,
    /// Definitions per page.
    pub(super) page: usize,
    pub(super) ttl_ms: u64,
    /// Lists are not answered while this is set.
    pub(super) stuck: bool,
    /// Whether `initialize` opens a session with an id.
    pub(super) sessions: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            tools: Vec::new(),
            prompts: Vec::new(),
            resources: Vec::new(),
            templates: Vec::new(),
            capabilities: json!({"tools": {"listChanged": true}}),
            page: 100,
            ttl_ms: 0,
            stuck: false,
            sessions: true,
        }
    }
}

pub(super) fn tools(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| json!({"name": name, "inputSchema": {"type": "object"}})).collect()
}

#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) method: String,
    pub(super) headers: HeaderMap,
    pub(super) message: Value,
}

#[derive(Debug)]
struct Inner {
    name: String,
    setup: watch::Sender<Setup>,
    seen: Mutex<Vec<Seen>>,
    /// Messages for every standing stream.
    news: broadcast::Sender<String>,
    streams: watch::Sender<usize>,
    answered: watch::Sender<Option<Value>>,
}

#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) address: SocketAddr,
    inner: Arc<Inner>,
}

impl Member {
    pub(super) async fn start(tasks: &Tasks, name: &str, setup: Setup) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner {
            name: name.to_owned(),
            setup: watch::Sender::new(setup),
            seen: Mutex::default(),
            news: broadcast::Sender::new(16),
            streams: watch::Sender::new(0),
            answered: watch::Sender::new(None),
        });
        let app = Router::new().fallback(handle).with_state(Arc::clone(&inner));
        tasks.spawn_short("member", async move { axum::serve(listener, app).await.unwrap() });
        Self { address, inner }
    }

    pub(super) fn change(&self, edit: impl FnOnce(&mut Setup)) {
        self.inner.setup.send_modify(edit);
    }

    /// What arrived with this method.
    pub(super) fn seen(&self, method: &str) -> Vec<Seen> {
        self.inner.seen.lock().unwrap().iter().filter(|seen| seen.method == method).cloned().collect()
    }

    /// Waits until this many standing streams were opened, and says something on all that are open.
    pub(super) async fn tell(&self, streams: usize, message: &str) {
        self.inner.streams.subscribe().wait_for(|open| *open >= streams).await.unwrap();
        self.inner.news.send(message.to_owned()).unwrap();
    }
}

fn reply(status: u16, body: &Value) -> Response {
    Response::builder()
        .status(StatusCode::from_u16(status).unwrap())
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .unwrap()
}

fn event(data: &str) -> String {
    format!("data: {data}\n\n")
}

fn events(first: Vec<String>, then: impl futures_util::Stream<Item = String> + Send + 'static) -> Response {
    let all = stream::iter(first).chain(then).map(|data| Ok::<_, Infallible>(event(&data)));
    Response::builder().header("content-type", "text/event-stream").body(Body::from_stream(all)).unwrap()
}

/// A stream that stands until its reader goes.
fn standing(inner: &Arc<Inner>, first: Vec<String>) -> Response {
    let news = inner.news.subscribe();
    inner.streams.send_modify(|open| *open += 1);
    events(
        first,
        stream::unfold(news, |mut news| async move { news.recv().await.ok().map(|data| (data, news)) }),
    )
}

async fn handle(State(inner): State<Arc<Inner>>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    let method = message["method"].as_str().unwrap_or(head.method.as_str()).to_owned();
    let seen = Seen { method: method.clone(), headers: head.headers.clone(), message: message.clone() };
    inner.seen.lock().unwrap().push(seen);
    let setup = inner.setup.borrow().clone();
    if head.method == Method::GET {
        return standing(&inner, Vec::new());
    }
    if message["method"].is_null() && !message["id"].is_null() {
        inner.answered.send_replace(Some(message));
        return Response::builder().status(202).body(Body::empty()).unwrap();
    }
    if message["id"].is_null() {
        return Response::builder().status(202).body(Body::empty()).unwrap();
    }
    let stateless = message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"].is_string();
    let id = &message["id"];
    let answer = |result: Value| reply(200, &json!({"jsonrpc": "2.0", "id": id, "result": result}));
    match method.as_str() {
        "initialize" => {
            let wanted = message["params"]["protocolVersion"].as_str().unwrap();
            let known = wanted.parse().is_ok_and(|revision: Revision| !revision.is_stateless());
            let result = json!({
                "protocolVersion": if known { wanted } else { "2025-11-25" },
                "capabilities": setup.capabilities,
                "serverInfo": {"name": inner.name, "version": "1"},
                "instructions": format!("about {}", inner.name),
            });
            let mut response = answer(result);
            if setup.sessions {
                let session = format!("{}-{}", inner.name, inner.seen.lock().unwrap().len());
                response.headers_mut().insert("mcp-session-id", session.parse().unwrap());
            }
            response
        }
        "server/discover" => answer(json!({
            "resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": setup.capabilities,
            "ttlMs": setup.ttl_ms, "cacheScope": "public",
        })),
        "tools/list" => list(&inner, &message, "tools", |setup| &setup.tools).await,
        "prompts/list" => list(&inner, &message, "prompts", |setup| &setup.prompts).await,
        "resources/list" => list(&inner, &message, "resources", |setup| &setup.resources).await,
        "resources/templates/list" => {
            list(&inner, &message, "resourceTemplates", |setup| &setup.templates).await
        }
        "subscriptions/listen" => {
            let acknowledged = json!({
                "jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged",
                "params": {
                    "_meta": {"io.modelcontextprotocol/subscriptionId": id},
                    "notifications": message["params"]["notifications"],
                },
            });
            standing(&inner, vec![acknowledged.to_string()])
        }
        "tools/call" => call(&inner, &message, stateless),
        _ => answer(json!({"resultType": "complete", "by": inner.name, "params": message["params"]})),
    }
}

async fn list(inner: &Arc<Inner>, message: &Value, field: &str, of: fn(&Setup) -> &Vec<Value>) -> Response {
    let setup = inner.setup.subscribe().wait_for(|setup| !setup.stuck).await.unwrap().clone();
    let all = of(&setup);
    let from: usize = message["params"]["cursor"].as_str().map_or(0, |cursor| cursor.parse().unwrap());
    let to = (from + setup.page).min(all.len());
    let mut result = json!({field: all[from..to], "ttlMs": setup.ttl_ms, "cacheScope": "public"});
    if to < all.len() {
        result["nextCursor"] = to.to_string().into();
    }
    reply(200, &json!({"jsonrpc": "2.0", "id": message["id"], "result": result}))
}

fn call(inner: &Arc<Inner>, message: &Value, stateless: bool) -> Response {
    let id = message["id"].clone();
    let name = message["params"]["name"].as_str().unwrap_or("").to_owned();
    let said = json!({"type": "text", "text": format!("{} at {}", name, inner.name)});
    let result = move |result: Value| json!({"jsonrpc": "2.0", "id": id, "result": result});
    match name.as_str() {
        "link" => {
            let link =
                json!({"type": "resource_link", "uri": format!("made-by:///{}", inner.name), "name": "l"});
            reply(200, &result(json!({"content": [link]})))
        }
        "ask" if stateless => {
            let state = message["params"]["requestState"].as_str();
            reply(
                200,
                &result(match state {
                    None => json!({"resultType": "input_required", "requestState": "kept"}),
                    Some(state) => json!({"resultType": "complete", "got": state, "by": inner.name}),
                }),
            )
        }
        "ask" => {
            let question = json!({"jsonrpc": "2.0", "id": 1, "method": "elicitation/create", "params": {"message": "?"}});
            let mut answers = inner.answered.subscribe();
            let by = inner.name.clone();
            events(
                vec![question.to_string()],
                stream::once(async move {
                    let said = answers.wait_for(Option::is_some).await.unwrap().clone().unwrap_or_default();
                    result(json!({"said": said["result"], "id": said["id"], "by": by})).to_string()
                }),
            )
        }
        _ => reply(200, &result(json!({"resultType": "complete", "content": [said]}))),
    }
}
