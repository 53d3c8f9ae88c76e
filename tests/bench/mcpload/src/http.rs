//! The HTTP side: one keep-alive connection, POST / GET / DELETE, and reading JSON or SSE answers.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::Args;

const SESSION_HEADER: &str = "mcp-session-id";

/// Where requests go and what they carry each time.
#[derive(Clone)]
pub(crate) struct Target {
    authority: String,
    path: String,
    headers: HeaderMap,
    version: HeaderValue,
    /// `Authorization` of each session; none: all go without.
    authorizations: Arc<[HeaderValue]>,
    /// The stateless protocol version repeats method and tool name in headers
    stateless: bool,
}

impl Target {
    pub(crate) fn new(args: &Args) -> Result<Self> {
        let rest = args.url.strip_prefix("http://").context("only http:// URLs are supported")?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let mut map = HeaderMap::new();
        map.insert(HOST, HeaderValue::from_str(authority)?);
        map.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        map.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        for header in &args.headers {
            let (name, value) = header.split_once(':').context("a header is `Name: value`")?;
            map.insert(HeaderName::from_bytes(name.trim().as_bytes())?, HeaderValue::from_str(value.trim())?);
        }
        let authority =
            if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
        let tokens = args.read_tokens()?;
        let authorization = |token: &String| HeaderValue::from_str(&format!("Bearer {token}"));
        Ok(Self {
            authority,
            path: if path.is_empty() { "/".into() } else { path.into() },
            headers: map,
            version: HeaderValue::from_str(&args.protocol)?,
            authorizations: tokens.iter().map(authorization).collect::<Result<_, _>>()?,
            stateless: args.stateless(),
        })
    }
}

pub(crate) struct Connection {
    send: SendRequest<Full<Bytes>>,
    target: Target,
    /// Which session this is, and so which token it sends.
    index: usize,
}

/// What a request asks for.
pub(crate) struct Call<'a> {
    pub(crate) method: &'static str,
    /// The tool's name, for a tool call.
    pub(crate) name: Option<&'a str>,
    pub(crate) correlation: Option<String>,
}

/// A whole answer.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) session: Option<String>,
    sse: bool,
    body: Bytes,
}

/// A standing event stream.
pub(crate) struct EventStream(Incoming);

impl Connection {
    pub(crate) async fn open(target: &Target, index: usize) -> Result<Self> {
        let socket = TcpStream::connect(&target.authority).await.context("connect")?;
        socket.set_nodelay(true)?;
        let (send, conn) = http1::handshake(TokioIo::new(socket)).await?;
        tokio::spawn(conn);
        Ok(Self { send, target: target.clone(), index })
    }

    fn request(&self, method: Method, session: Option<&str>, body: String) -> Result<Request<Full<Bytes>>> {
        let mut req = Request::new(Full::new(Bytes::from(body)));
        *req.method_mut() = method;
        *req.uri_mut() = self.target.path.parse()?;
        let headers = req.headers_mut();
        headers.clone_from(&self.target.headers);
        if let Some(authorization) = self.target.authorizations.get(self.index) {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        if session.is_some() || self.target.stateless {
            headers.insert("mcp-protocol-version", self.target.version.clone());
        }
        if let Some(s) = session {
            headers.insert(SESSION_HEADER, HeaderValue::from_str(s)?);
        }
        Ok(req)
    }

    /// Posts one JSON-RPC message; a call says in its headers what it is.
    pub(crate) async fn post(
        &mut self,
        body: String,
        session: Option<&str>,
        call: Option<Call<'_>>,
    ) -> Result<Reply> {
        let mut req = self.request(Method::POST, session, body)?;
        let headers = req.headers_mut();
        if let (true, Some(call)) = (self.target.stateless, &call) {
            headers.insert("mcp-method", HeaderValue::from_str(call.method)?);
            if let Some(n) = call.name {
                headers.insert("mcp-name", HeaderValue::from_str(n)?);
            }
        }
        if let Some(correlation) = call.and_then(|call| call.correlation) {
            headers.insert("x-correlation-id", HeaderValue::from_str(&correlation)?);
        }
        self.send.ready().await?;
        let resp = self.send.send_request(req).await?;
        let (head, body) = resp.into_parts();
        let header = |n: &str| head.headers.get(n).and_then(|v| v.to_str().ok());
        Ok(Reply {
            status: head.status.as_u16(),
            session: header(SESSION_HEADER).map(str::to_owned),
            sse: header("content-type").is_some_and(|c| c.starts_with("text/event-stream")),
            body: body.collect().await?.to_bytes(),
        })
    }

    /// Opens the standing server-to-client stream.
    pub(crate) async fn get(&mut self, session: Option<&str>) -> Result<EventStream> {
        let mut req = self.request(Method::GET, session, String::new())?;
        req.headers_mut().insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        req.headers_mut().remove(CONTENT_TYPE);
        let resp = self.send.send_request(req).await?;
        ensure!(resp.status() == 200, "GET stream: HTTP {}", resp.status());
        Ok(EventStream(resp.into_body()))
    }

    pub(crate) async fn delete(&mut self, session: Option<&str>) -> Result<()> {
        if session.is_none() {
            return Ok(());
        }
        let req = self.request(Method::DELETE, session, String::new())?;
        self.send.ready().await?;
        let resp = self.send.send_request(req).await?;
        ensure!(resp.status().is_success(), "DELETE: HTTP {}", resp.status());
        resp.into_body().collect().await?;
        Ok(())
    }
}

#[derive(serde::Deserialize)]
struct Id {
    id: Option<u64>,
}

impl Reply {
    /// The JSON-RPC message with this id: the body itself, or the event of a stream that has it.
    pub(crate) fn message(&self, id: u64) -> Result<&[u8]> {
        if !self.sse {
            return Ok(&self.body);
        }
        // Messages are written on one `data:` line each by every server seen so far.
        for line in self.body.split(|b| *b == b'\n') {
            let Some(data) = line.strip_prefix(b"data:") else { continue };
            if data.trim_ascii().is_empty() {
                continue;
            }
            // The id is nearly always near the front; only a full parse is certain, though.
            if serde_json::from_slice::<Id>(data).is_ok_and(|i| i.id == Some(id)) {
                return Ok(data);
            }
        }
        bail!("the stream ended without an answer: {}", self.excerpt())
    }

    pub(crate) fn excerpt(&self) -> String {
        String::from_utf8_lossy(&self.body[..self.body.len().min(200)]).into_owned()
    }
}

impl EventStream {
    /// The number of events in the next chunk; None at the end of the stream.
    pub(crate) async fn next_events(&mut self) -> Option<u64> {
        let frame = self.0.frame().await?.ok()?;
        let data = frame.into_data().ok()?;
        Some(data.split(|b| *b == b'\n').filter(|l| l.starts_with(b"data:")).count() as u64)
    }
}
