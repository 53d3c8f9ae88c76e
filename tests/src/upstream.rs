//! MCP servers of both eras that do as the name of the tool says: answer, stall, break off, answer HTML.
//! They remember every request, so that a scenario can show that nothing came.

mod replies;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use ::http::{HeaderMap, Method, StatusCode};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use portico_transport::ReservedAddress;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;

use crate::{DEADLINE, eventually};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    Session,
    Stateless,
}

/// What it does with every request, whatever is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mood {
    #[default]
    Willing,
    /// A web page instead of MCP.
    Html,
    /// 401: the credential is wrong.
    Unauthorized,
    /// Takes the request and never answers.
    Mute,
}

/// One request that came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: Method,
    pub headers: HeaderMap,
    pub body: String,
}

impl Seen {
    /// The JSON-RPC method.
    #[must_use]
    pub fn rpc(&self) -> String {
        let message: Value = serde_json::from_str(&self.body).unwrap_or_default();
        message["method"].as_str().unwrap_or_default().to_owned()
    }
}

#[derive(Debug)]
struct Server {
    era: Era,
    mood: Mutex<Mood>,
    seen: Mutex<Vec<Seen>>,
    sessions: Mutex<HashSet<String>>,
    opened: Mutex<u32>,
    gate: Semaphore,
    /// Requests to the agent that wait for its answer.
    asked: Mutex<HashMap<String, oneshot::Sender<Value>>>,
    /// Answers that wait for whoever resumes after an event.
    parked: Mutex<HashMap<String, Value>>,
    cancelled: Semaphore,
    /// What goes out on streams that stand open.
    news: broadcast::Sender<Value>,
    /// Calls whose stream was closed by the reader.
    dropped: Arc<Semaphore>,
}

#[derive(Debug)]
pub struct Upstream {
    /// Nobody else is given its port while it is away.
    reserved: ReservedAddress,
    server: Arc<Server>,
    /// Ends with the fixture.
    serving: JoinSet<()>,
}

/// What stands in a stream: an event, or its violent end.
type Frame = Result<Bytes, std::io::Error>;

impl Upstream {
    pub async fn start(era: Era) -> Self {
        let mut upstream = Self::away(era);
        upstream.come_back().await;
        upstream
    }

    /// One that does not listen yet.
    #[must_use]
    pub fn away(era: Era) -> Self {
        let server = Arc::new(Server {
            era,
            mood: Mutex::default(),
            seen: Mutex::default(),
            sessions: Mutex::default(),
            opened: Mutex::default(),
            gate: Semaphore::new(0),
            asked: Mutex::default(),
            parked: Mutex::default(),
            cancelled: Semaphore::new(0),
            news: broadcast::channel(64).0,
            dropped: Arc::new(Semaphore::new(0)),
        });
        let reserved = ReservedAddress::reserve("127.0.0.1:0".parse().unwrap()).expect("a port");
        Self { reserved, server, serving: JoinSet::new() }
    }

    /// Closes its port and its idle connections, as if its process had ended.
    pub async fn go_away(&mut self) {
        self.serving.shutdown().await;
    }

    /// Listens again, at the same address.
    pub async fn come_back(&mut self) {
        let listener = TcpListener::bind(self.address()).await.expect("a port that is reserved");
        let app = Router::new().fallback(serve).with_state(Arc::clone(&self.server));
        self.serving.spawn(async move { axum::serve(listener, app).await.expect("an upstream serves") });
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address())
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.reserved.local_addr()
    }

    /// Everything that came since the last [`Self::forget`].
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.server.seen.lock().unwrap().clone()
    }

    /// The JSON-RPC methods that came, without what health checks and discovery send on their own.
    #[must_use]
    pub fn methods(&self) -> Vec<String> {
        self.seen().iter().map(Seen::rpc).filter(|method| !method.is_empty()).collect()
    }

    /// The tool calls that came.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.seen().iter().filter(|seen| seen.rpc() == "tools/call").count()
    }

    /// Forgets what came so far.
    pub fn forget(&self) {
        self.server.seen.lock().unwrap().clear();
    }

    /// Forgets its sessions, as a restart would.
    pub fn forget_sessions(&self) {
        self.server.sessions.lock().unwrap().clear();
    }

    #[must_use]
    pub fn open_sessions(&self) -> usize {
        self.server.sessions.lock().unwrap().len()
    }

    pub fn mood(&self, mood: Mood) {
        *self.server.mood.lock().unwrap() = mood;
    }

    /// Lets one waiting tool go on.
    pub fn release(&self) {
        self.server.gate.add_permits(1);
    }

    /// Sends a message on every standing stream; waits until there is one.
    pub async fn tell(&self, method: &str, params: &Value) {
        let message = json!({ "jsonrpc": "2.0", "method": method, "params": params });
        let told = async || self.server.news.send(message.clone()).ok();
        eventually(DEADLINE, "a standing stream", told).await;
    }

    /// Waits until a JSON-RPC method has come.
    pub async fn got(&self, method: &str) -> Seen {
        let came = async || self.seen().into_iter().find(|seen| seen.rpc() == method);
        eventually(DEADLINE, method, came).await
    }

    /// Waits until the reader of a stream has gone.
    pub async fn reader_left(&self) {
        let left = crate::within(DEADLINE, "a reader leaves", self.server.dropped.acquire()).await;
        left.unwrap().forget();
    }
}

async fn serve(State(server): State<Arc<Server>>, request: axum::extract::Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 64 << 20).await.unwrap_or_default();
    let body = String::from_utf8_lossy(&body).into_owned();
    let seen = Seen { method: head.method.clone(), headers: head.headers.clone(), body: body.clone() };
    server.seen.lock().unwrap().push(seen);
    let mood = *server.mood.lock().unwrap();
    match mood {
        Mood::Willing => {}
        Mood::Html => return ([("content-type", "text/html")], "<h1>It works!</h1>").into_response(),
        Mood::Unauthorized => return StatusCode::UNAUTHORIZED.into_response(),
        Mood::Mute => std::future::pending::<()>().await,
    }
    match (server.era, head.method) {
        (_, Method::POST) => {}
        (Era::Session, Method::GET) if server.knows(&head.headers) => return get(&server, &head.headers),
        (Era::Session, Method::DELETE) => return server.end(&head.headers).into_response(),
        (Era::Session, Method::GET) => return StatusCode::NOT_FOUND.into_response(),
        _ => return StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
    let message: Value = serde_json::from_str(&body).unwrap_or_default();
    if server.era == Era::Session && message["method"] != "initialize" && !server.knows(&head.headers) {
        return StatusCode::NOT_FOUND.into_response();
    }
    if message["method"].is_null() {
        let waiting = message["id"].as_str().and_then(|id| server.asked.lock().unwrap().remove(id));
        waiting.map(|waiting| waiting.send(message));
        return StatusCode::ACCEPTED.into_response();
    }
    if message["id"].is_null() {
        if message["method"] == "notifications/cancelled" {
            server.cancelled.add_permits(1);
        }
        return StatusCode::ACCEPTED.into_response();
    }
    replies::reply(&server, &head.headers, &message).await
}

impl Server {
    fn knows(&self, headers: &HeaderMap) -> bool {
        let id = headers.get("mcp-session-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
        self.sessions.lock().unwrap().contains(id)
    }

    fn end(&self, headers: &HeaderMap) -> StatusCode {
        let id = headers.get("mcp-session-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
        if self.sessions.lock().unwrap().remove(id) { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }
    }

    fn open(&self) -> String {
        let mut opened = self.opened.lock().unwrap();
        *opened += 1;
        let id = format!("upstream-session-{opened}");
        self.sessions.lock().unwrap().insert(id.clone());
        id
    }

    /// Asks the agent something and waits for its answer.
    async fn ask(&self, to: &mpsc::Sender<Frame>, method: &str, params: &Value) -> Value {
        let id = format!("ask-{}", self.seen.lock().unwrap().len());
        let (sender, answer) = oneshot::channel();
        self.asked.lock().unwrap().insert(id.clone(), sender);
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let _ = to.send(event(None, &request)).await;
        answer.await.unwrap_or_default()
    }

    async fn gate(&self) {
        self.gate.acquire().await.unwrap().forget();
    }
}

#[expect(clippy::unnecessary_wraps, reason = "what a stream is made of")]
fn event(id: Option<&str>, message: &Value) -> Frame {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    Ok(Bytes::from(format!("{id}data: {message}\n\n")))
}

/// An answer as a stream.
fn streamed(frames: mpsc::Receiver<Frame>) -> Response {
    let headers = [("content-type", "text/event-stream"), ("cache-control", "no-store")];
    (headers, Body::from_stream(ReceiverStream::new(frames))).into_response()
}

/// The GET stream of a session, or what is left of another stream.
fn get(server: &Arc<Server>, headers: &HeaderMap) -> Response {
    let after = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    if let Some(answer) = after.and_then(|id| server.parked.lock().unwrap().remove(id)) {
        let (to, frames) = mpsc::channel(1);
        let _ = to.try_send(event(Some("resumed"), &answer));
        return streamed(frames);
    }
    let frames = tokio_stream::StreamExt::filter_map(
        tokio_stream::wrappers::BroadcastStream::new(server.news.subscribe()),
        |message| message.ok().map(|message| event(None, &message)),
    );
    ([("content-type", "text/event-stream")], Body::from_stream(frames)).into_response()
}
