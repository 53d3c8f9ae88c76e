//! The least that an MCP gateway on hyper can do per call, to know the floor.
//!
//! It reads the request body, parses only id, method and `params.name` (borrowed), looks the session up in a map,
//! rewrites the session header, forwards the body bytes as they are, and streams the answer back unparsed. Stateless
//! requests (2026-07-28) have no session to look up. No authentication, no log: a yardstick, not a gateway.
//!
//! Usage: floor-proxy LISTEN UPSTREAM

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::rc::Rc;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::value::RawValue;

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    params: Option<Params<'a>>,
}

#[derive(Deserialize)]
struct Params<'a> {
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
}

type Answer = Either<Incoming, UnsyncBoxBody<Bytes, Infallible>>;

struct Proxy {
    upstream: &'static str,
    /// The upstream's session id for each of ours.
    sessions: RefCell<HashMap<Box<[u8]>, HeaderValue>>,
    /// Idle connections to the upstream.
    pool: RefCell<Vec<SendRequest<Full<Bytes>>>>,
}

impl Proxy {
    async fn handle(self: Rc<Self>, request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
        Ok(self.forward(request).await.unwrap_or_else(|status| {
            let mut response = Response::new(Either::Right(Full::new(Bytes::new()).boxed_unsync()));
            *response.status_mut() = status;
            response
        }))
    }

    async fn forward(self: Rc<Self>, request: Request<Incoming>) -> Result<Response<Answer>, StatusCode> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| StatusCode::BAD_REQUEST)?.to_bytes();
        let session = self.session(&head, &body)?;
        let mut connection = self.connection().await.map_err(|_| StatusCode::BAD_GATEWAY)?;
        let answer = connection.send_request(self.outgoing(head, body, session)).await;
        let mut answer = answer.map_err(|_| StatusCode::BAD_GATEWAY)?;
        let proxy = self.clone();
        // The connection goes back once its answer has been read: hyper makes it ready then.
        tokio::task::spawn_local(async move {
            if connection.ready().await.is_ok() {
                proxy.pool.borrow_mut().push(connection);
            }
        });
        if let Some(theirs) = answer.headers_mut().remove(SESSION) {
            // Our own id for it; here just marked, a gateway would make a random one.
            let ours = [b"gw-", theirs.as_bytes()].concat();
            let header = HeaderValue::from_bytes(&ours).map_err(|_| StatusCode::BAD_GATEWAY)?;
            answer.headers_mut().insert(SESSION, header);
            self.sessions.borrow_mut().insert(ours.into(), theirs);
        }
        Ok(answer.map(Either::Left))
    }

    /// Reads what a policy would look at, and the upstream's session of the request.
    fn session(&self, head: &Parts, body: &[u8]) -> Result<Option<HeaderValue>, StatusCode> {
        if head.method == hyper::Method::POST {
            let message: Message<'_> = serde_json::from_slice(body).map_err(|_| StatusCode::BAD_REQUEST)?;
            let name = message.params.and_then(|params| params.name);
            std::hint::black_box((message.id.map(|id| id.get().len()), name.map(|name| name.len())));
            if message.method.as_deref() == Some("initialize") || head.headers.contains_key(METHOD) {
                return Ok(None);
            }
        }
        let ours = head.headers.get(SESSION).ok_or(StatusCode::BAD_REQUEST)?;
        self.sessions.borrow().get(ours.as_bytes()).cloned().map(Some).ok_or(StatusCode::NOT_FOUND)
    }

    fn outgoing(&self, head: Parts, body: Bytes, session: Option<HeaderValue>) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = head.method;
        *request.uri_mut() = head.uri;
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_static(self.upstream));
        for name in [CONTENT_TYPE, ACCEPT, VERSION, METHOD, NAME] {
            if let Some(value) = head.headers.get(&name) {
                headers.insert(name, value.clone());
            }
        }
        if let Some(session) = session {
            headers.insert(SESSION, session);
        }
        request
    }

    async fn connection(&self) -> Result<SendRequest<Full<Bytes>>> {
        let idle = self.pool.borrow_mut().pop();
        if let Some(connection) = idle.filter(SendRequest::is_ready) {
            return Ok(connection);
        }
        let socket = tokio::net::TcpStream::connect(self.upstream).await?;
        socket.set_nodelay(true)?;
        let (connection, driver) = handshake(TokioIo::new(socket)).await?;
        tokio::task::spawn_local(driver);
        Ok(connection)
    }
}

async fn serve(listen: &str, upstream: &'static str) -> Result<()> {
    let listener = tokio::net::TcpListener::bind(listen).await.with_context(|| listen.to_owned())?;
    let proxy = Rc::new(Proxy { upstream, sessions: RefCell::default(), pool: RefCell::default() });
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let proxy = proxy.clone();
        tokio::task::spawn_local(async move {
            let service = hyper::service::service_fn(move |request| proxy.clone().handle(request));
            // A client that leaves mid-stream is no error worth a line.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(listen), Some(upstream)) = (arguments.next(), arguments.next()) else {
        anyhow::bail!("usage: floor-proxy LISTEN UPSTREAM");
    };
    tokio::task::LocalSet::new().run_until(serve(&listen, upstream.leak())).await
}
