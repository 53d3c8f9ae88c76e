//! A small, fast MCP server (streamable HTTP, both eras): the upstream of the benchmark.
//!
//! It is meant to never be the bottleneck: requests are parsed with borrowed `RawValue`s, big answers are prepared once
//! at start-up, and nothing is logged per request. It checks only what a client could not do without.
//!
//! Tools: `echo {"text"}` returns the text unchanged; `payload {"kib"}` returns that much text; `slow {"ms"}` answers
//! after that time, under SSE with a log notification first, so that a buffering proxy can be told from a streaming one;
//! `tool_0000` and so on (`--extra-tools`) behave like `echo`. `/sessions` counts the sessions.
#![expect(clippy::print_stderr, reason = "says on which address it listens")]
#![expect(
    clippy::disallowed_methods,
    reason = "a tool that ends with its run: nothing drains, so nothing tracks tasks"
)]

mod tools;

use std::borrow::Cow;
use std::collections::HashSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use clap::{Parser, ValueEnum};
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::value::RawValue;

use tools::Outcome;

const SESSION_HEADER: &str = "mcp-session-id";
const VERSION_HEADER: &str = "mcp-protocol-version";
/// From this protocol version on there are no sessions and no `initialize`.
const STATELESS_VERSION: &str = "2026-07-28";

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
enum Reply {
    /// One application/json body per request
    Json,
    /// One text/event-stream per request, when the client accepts it
    Sse,
}

/// A small, fast MCP server (streamable HTTP) with the tools echo, payload and slow.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:9001")]
    listen: SocketAddr,
    /// How requests are answered
    #[arg(long, value_enum, default_value = "json")]
    reply: Reply,
    /// Further tools to list beside echo, payload and slow
    #[arg(long, default_value_t = 0)]
    extra_tools: usize,
    /// Tools per page of tools/list (0: all in one)
    #[arg(long, default_value_t = 0)]
    page_size: usize,
    /// Give out no Mcp-Session-Id and ask for none
    #[arg(long)]
    no_sessions: bool,
    /// Send a log notification every N ms on each open GET stream (0: stay silent)
    #[arg(long, default_value_t = 0)]
    get_event_ms: u64,
    /// Worker threads (1: a current-thread runtime)
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

struct State {
    args: Args,
    tools_pages: Vec<String>,
    sessions: Mutex<HashSet<Box<[u8]>>>,
    next_session: AtomicU64,
}

impl State {
    fn open_session(&self) -> String {
        let number = self.next_session.fetch_add(1, Ordering::Relaxed);
        let id = format!("{:016x}{number:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        self.with_sessions(|sessions| sessions.insert(id.as_bytes().into()));
        id
    }

    fn with_sessions<T>(&self, act: impl FnOnce(&mut HashSet<Box<[u8]>>) -> T) -> T {
        act(&mut self.sessions.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What a request that names no open session is answered; nothing if it names one.
    fn session_refusal(&self, headers: &HeaderMap) -> Option<StatusCode> {
        let Some(session) = headers.get(SESSION_HEADER) else { return Some(StatusCode::BAD_REQUEST) };
        let open = self.with_sessions(|sessions| sessions.contains(session.as_bytes()));
        (!open).then_some(StatusCode::NOT_FOUND)
    }
}

type Body = UnsyncBoxBody<Bytes, Infallible>;
type HttpReply = Response<Body>;

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed_unsync()
}

fn status(code: StatusCode) -> HttpReply {
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = code;
    response
}

/// One incoming JSON-RPC message; fields stay borrowed from the request body.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

fn sse_event(json: &str) -> Bytes {
    Bytes::from(format!("event: message\ndata: {json}\n\n"))
}

fn sse_response(body: Body) -> HttpReply {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert("cache-control", HeaderValue::from_static("no-cache"));
    response
}

/// A real stream (chunked), as servers send it; before a delayed answer goes a notification.
fn sse_answer(json: &str, delay: Option<Duration>) -> HttpReply {
    let first = delay.map(|_| {
        sse_event(r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"working"}}"#)
    });
    let last = sse_event(json);
    let events = stream::unfold((first, Some(last), delay), |(first, last, delay)| async move {
        if let Some(first) = first {
            return Some((Ok(Frame::data(first)), (None, last, delay)));
        }
        let last = last?;
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
        Some((Ok(Frame::data(last)), (None, None, None)))
    });
    sse_response(StreamBody::new(events).boxed_unsync())
}

async fn json_answer(json: String, delay: Option<Duration>) -> HttpReply {
    if let Some(delay) = delay {
        tokio::time::sleep(delay).await;
    }
    let mut response = Response::new(full(json));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The response around a result; results of the stateless protocol version say that they are complete.
fn result_message(id: &RawValue, result: &str, stateless: bool) -> String {
    let open = &result[..result.len() - 1];
    let tail = match (stateless, open.len()) {
        (true, 1) => r#""resultType":"complete""#,
        (true, _) => r#","resultType":"complete""#,
        _ => "",
    };
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{open}{tail}}}}}"#)
}

async fn post(state: Arc<State>, request: Request<Incoming>) -> HttpReply {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return status(StatusCode::BAD_REQUEST) };
    let body = body.to_bytes();
    let Ok(message) = serde_json::from_slice::<Message<'_>>(&body) else {
        return status(StatusCode::BAD_REQUEST);
    };
    let method = message.method.as_deref().unwrap_or("");
    let version = head.headers.get(VERSION_HEADER);
    let modern = version.is_some_and(|version| version.as_bytes() >= STATELESS_VERSION.as_bytes());

    // Sessions: `initialize` makes one, everything else has to name one.
    let mut new_session = None;
    if !modern && !state.args.no_sessions {
        if method == "initialize" {
            new_session = HeaderValue::from_str(&state.open_session()).ok();
        } else if let Some(refusal) = state.session_refusal(&head.headers) {
            return status(refusal);
        }
    }

    // Notifications and responses carry no id (or no method) and are only acknowledged.
    let Some(id) = message.id.filter(|_| message.method.is_some()) else {
        return status(StatusCode::ACCEPTED);
    };
    let (json, delay) = match tools::answer(&state, method, message.params) {
        Outcome::Result(result) => (result_message(id, &result, modern), None),
        Outcome::Later(result, delay) => (result_message(id, &result, modern), Some(delay)),
        Outcome::Error(code, text) => {
            (format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"{text}"}}}}"#), None)
        }
    };
    let accept = head.headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let mut response = if state.args.reply == Reply::Sse && accept.contains("text/event-stream") {
        sse_answer(&json, delay)
    } else {
        json_answer(json, delay).await
    };
    if let Some(session) = new_session {
        response.headers_mut().insert(SESSION_HEADER, session);
    }
    response
}

/// The standing server-to-client stream. It stays open until the client leaves.
fn get(state: &State) -> HttpReply {
    let every = state.args.get_event_ms;
    let events = stream::unfold(0u64, move |n| async move {
        if every == 0 {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_millis(every)).await;
        let json = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"level":"info","data":"tick {n}"}}}}"#
        );
        Some((Ok(Frame::data(sse_event(&json))), n + 1))
    });
    sse_response(StreamBody::new(events).boxed_unsync())
}

/// How many sessions were opened so far, and how many of them are open now.
async fn sessions(state: &State) -> HttpReply {
    let opened = state.next_session.load(Ordering::Relaxed) - 1;
    let open = state.with_sessions(|sessions| sessions.len());
    json_answer(format!(r#"{{"opened":{opened},"open":{open}}}"#), None).await
}

async fn handle(state: Arc<State>, request: Request<Incoming>) -> Result<HttpReply, Infallible> {
    match request.uri().path() {
        "/mcp" => {}
        "/sessions" => return Ok(sessions(&state).await),
        _ => return Ok(status(StatusCode::NOT_FOUND)),
    }
    Ok(match *request.method() {
        Method::POST => post(state, request).await,
        Method::GET => get(&state),
        Method::DELETE => {
            if let Some(session) = request.headers().get(SESSION_HEADER) {
                state.with_sessions(|sessions| sessions.remove(session.as_bytes()));
            }
            status(StatusCode::NO_CONTENT)
        }
        _ => {
            let mut response = status(StatusCode::METHOD_NOT_ALLOWED);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST, DELETE"));
            response
        }
    })
}

async fn serve(args: Args) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind(args.listen).await?;
    eprintln!("echo-upstream: listening on http://{}/mcp", listener.local_addr()?);
    let state = Arc::new(State {
        tools_pages: tools::pages(args.extra_tools, args.page_size),
        sessions: Mutex::new(HashSet::new()),
        next_session: AtomicU64::new(1),
        args,
    });
    loop {
        let (socket, _) = listener.accept().await?;
        // Without it only latency suffers.
        let _ = socket.set_nodelay(true);
        let state = state.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| handle(state.clone(), request));
            // A client that leaves mid-stream is no error worth a line.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}

fn main() -> std::io::Result<()> {
    let args = Args::parse();
    let mut runtime = if args.threads > 1 {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(args.threads);
        builder
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    runtime.enable_all().build()?.block_on(serve(args))
}
