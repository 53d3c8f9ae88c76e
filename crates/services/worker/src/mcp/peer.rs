//! One server and the requests to it, each with a deadline and a size cap.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt as _;
use portico_mcp_types::sse::Decoder;
use portico_mcp_types::{
    CLIENT_CAPABILITIES, CLIENT_INFO, Envelope, Kind, MCP_METHOD, META_PROTOCOL_VERSION, Object,
    PROTOCOL_VERSION, Revision, SESSION_ID, code,
};
use portico_outbound::{Body, OutboundClient, OutboundError, collect};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::time::timeout;

/// Largest answer, which is one page of a list.
const ANSWER_LIMIT: usize = 8 * 1024 * 1024;
/// Largest body that comes with an error status.
const ERROR_LIMIT: usize = 64 * 1024;
/// The id of every request: each has an exchange of its own.
const ID: &str = "1";

/// Why a server gave no usable answer. The texts are shown to the instance's owner and hold nothing that it sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error(transparent)]
    Transport(#[from] OutboundError),
    #[error("the server took too long to send its answer")]
    Slow,
    #[error("the server refused the credential with status {0}: check authentication.token of the instance")]
    Unauthorized(u16),
    #[error(
        "the server redirects (status {0}), which is not followed: register the address that it redirects to"
    )]
    Redirect(u16),
    #[error("the server answered with status {0}")]
    Status(u16),
    #[error("the server answered with JSON-RPC error {0}")]
    Rpc(i32),
    #[error("the server's answer is not MCP: {0}")]
    NotMcp(&'static str),
    #[error("the server lists too much: {0}")]
    TooMuch(&'static str),
    #[error("the credential cannot be sent in a header: set the secret again without control characters")]
    Credential,
}

impl CallError {
    /// Whether a server that only knows the other era may answer like this.
    pub(crate) fn may_be_other_era(&self) -> bool {
        match self {
            Self::Status(408 | 429) => false,
            Self::Status(status) => matches!(status, 400..=501),
            Self::Rpc(_) | Self::NotMcp(_) => true,
            _ => false,
        }
    }
}

/// How a request presents itself.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Voice<'a> {
    /// 2026-07-28: everything is in the request.
    Stateless,
    /// `initialize`: there is no session yet.
    Opening,
    /// Inside a session; servers without session state give no id.
    Session { id: Option<&'a HeaderValue>, version: Revision },
}

/// A result with the session id that came with it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) result: Box<RawValue>,
    pub(crate) session: Option<HeaderValue>,
}

impl Answer {
    pub(crate) fn object(&self) -> Result<Object<'_>, CallError> {
        Object::parse(self.result.get(), "a result")
            .map_err(|_| CallError::NotMcp("a result must be a JSON object without duplicate keys"))
    }
}

/// A server at its address, with its own credential.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) client: OutboundClient,
    pub(crate) endpoint: Uri,
    pub(crate) bearer: Option<SecretString>,
}

impl Peer {
    /// Sends a request and waits for its result, at most `deadline` altogether.
    pub(crate) async fn ask(
        &self,
        voice: Voice<'_>,
        method: &'static str,
        params: Map<String, Value>,
        deadline: Duration,
    ) -> Result<Answer, CallError> {
        let exchange = async {
            let id = Some(1);
            let answer = self.send(self.post(voice, method, params, id)?, deadline).await?;
            let session = answer.headers().get(SESSION_ID).cloned();
            let result = read_result(answer, deadline).await?;
            Ok(Answer { result, session })
        };
        timeout(deadline, exchange).await.unwrap_or(Err(CallError::Slow))
    }

    /// Sends a notification.
    pub(crate) async fn tell(
        &self,
        voice: Voice<'_>,
        method: &'static str,
        deadline: Duration,
    ) -> Result<(), CallError> {
        let answer = self.send(self.post(voice, method, Map::new(), None)?, deadline).await?;
        expect_success(answer.status())
    }

    /// Fetches a health URL; its content does not matter.
    pub(crate) async fn get(&self, url: &Uri, deadline: Duration) -> Result<(), CallError> {
        let mut request = self.request(Method::GET, url)?;
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("*/*"));
        let answer = self.send(request, deadline).await?;
        expect_success(answer.status())
    }

    /// Ends a session; a server may not support that (2025-11-25, Session Management).
    pub(crate) async fn end(&self, id: &HeaderValue, version: Revision, deadline: Duration) {
        let sent = async {
            let mut request = self.request(Method::DELETE, &self.endpoint)?;
            let voice = Voice::Session { id: Some(id), version };
            introduce(request.headers_mut(), voice, "");
            self.send(request, deadline).await
        };
        if let Err(error) = sent.await {
            tracing::debug!(error = &error as &dyn std::error::Error, "session at a server not closed");
        }
    }

    fn post(
        &self,
        voice: Voice<'_>,
        method: &'static str,
        mut params: Map<String, Value>,
        id: Option<u8>,
    ) -> Result<Request<Body>, CallError> {
        if matches!(voice, Voice::Stateless) {
            let meta = json!({
                META_PROTOCOL_VERSION: Revision::NEWEST.as_str(),
                CLIENT_CAPABILITIES: {},
                CLIENT_INFO: client_info(),
            });
            params.insert("_meta".to_owned(), meta);
        }
        let mut message = json!({"jsonrpc": "2.0", "method": method, "params": params});
        if let Some(id) = id {
            message["id"] = id.into();
        }
        let mut request = self.request(Method::POST, &self.endpoint)?;
        *request.body_mut() = Body::from(message.to_string());
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        introduce(headers, voice, method);
        Ok(request)
    }

    fn request(&self, method: Method, url: &Uri) -> Result<Request<Body>, CallError> {
        let mut request = Request::new(Body::empty());
        *request.method_mut() = method;
        *request.uri_mut() = url.clone();
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        let agent = concat!("portico-worker/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        if let Some(bearer) = &self.bearer {
            let mut value = HeaderValue::try_from(format!("Bearer {}", bearer.expose_secret()))
                .map_err(|_| CallError::Credential)?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(request)
    }

    async fn send(
        &self,
        request: Request<Body>,
        deadline: Duration,
    ) -> Result<Response<hyper::body::Incoming>, CallError> {
        let answer = self.client.request(request, deadline).await?;
        match answer.status() {
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                Err(CallError::Unauthorized(status.as_u16()))
            }
            _ => Ok(answer),
        }
    }
}

/// Who asks, for `initialize` and `_meta`.
pub(crate) fn client_info() -> Value {
    json!({"name": "portico-worker", "version": env!("CARGO_PKG_VERSION")})
}

/// The headers of an era (2025-06-18 and later: Protocol Version Header; 2026-07-28: Standard Headers).
fn introduce(headers: &mut HeaderMap, voice: Voice<'_>, method: &'static str) {
    match voice {
        Voice::Opening => {}
        Voice::Stateless => {
            let version = HeaderValue::from_static(Revision::NEWEST.as_str());
            headers.insert(PROTOCOL_VERSION, version);
            headers.insert(MCP_METHOD, HeaderValue::from_static(method));
        }
        Voice::Session { id, version } => {
            headers.insert(PROTOCOL_VERSION, HeaderValue::from_static(version.as_str()));
            if let Some(id) = id {
                headers.insert(SESSION_ID, id.clone());
            }
        }
    }
}

fn expect_success(status: StatusCode) -> Result<(), CallError> {
    match status {
        status if status.is_success() => Ok(()),
        status if status.is_redirection() => Err(CallError::Redirect(status.as_u16())),
        status => Err(CallError::Status(status.as_u16())),
    }
}

/// Reads a JSON or SSE answer; with an error status, the JSON-RPC error if there is one.
async fn read_result(
    answer: Response<hyper::body::Incoming>,
    deadline: Duration,
) -> Result<Box<RawValue>, CallError> {
    let status = answer.status();
    let kind = media_type(answer.headers());
    if let Err(refused) = expect_success(status) {
        let Ok(body) = collect(answer.into_body(), ERROR_LIMIT, deadline).await else { return Err(refused) };
        return match result_of(&body) {
            Err(error @ CallError::Rpc(_)) => Err(error),
            _ => Err(refused),
        };
    }
    match kind {
        Media::Json => result_of(&collect(answer.into_body(), ANSWER_LIMIT, deadline).await?),
        Media::Events => read_events(answer.into_body()).await,
        Media::Other => Err(CallError::NotMcp("it is neither application/json nor text/event-stream")),
    }
}

enum Media {
    Json,
    Events,
    Other,
}

fn media_type(headers: &HeaderMap) -> Media {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        Media::Json
    } else if essence.eq_ignore_ascii_case("text/event-stream") {
        Media::Events
    } else {
        Media::Other
    }
}

/// Reads events until the response; what else the server says on the stream is not for us.
async fn read_events(mut body: hyper::body::Incoming) -> Result<Box<RawValue>, CallError> {
    let mut decoder = Decoder::new(ANSWER_LIMIT);
    let mut read = 0_usize;
    while let Some(frame) = body.frame().await {
        let Ok(chunk) = frame.map_err(OutboundError::Body)?.into_data() else { continue };
        read = read.saturating_add(chunk.len());
        if read > ANSWER_LIMIT {
            return Err(OutboundError::TooLarge { limit: ANSWER_LIMIT }.into());
        }
        decoder.push(&chunk);
        loop {
            let event =
                decoder.next_event().map_err(|error| OutboundError::TooLarge { limit: error.limit })?;
            let Some(event) = event else { break };
            if is_response(&event.data) {
                return result_of(&event.data);
            }
        }
    }
    Err(CallError::NotMcp("the stream ended without the response"))
}

fn is_response(data: &Bytes) -> bool {
    Envelope::parse(data).is_ok_and(|envelope| envelope.kind == Kind::Response)
}

/// Takes the result out of a response to our request.
fn result_of(body: &[u8]) -> Result<Box<RawValue>, CallError> {
    let envelope = Envelope::parse(body).map_err(|_| CallError::NotMcp("it is no JSON-RPC message"))?;
    match (envelope.result, envelope.error) {
        // The text of an error is the server's; only its number is repeated.
        (_, Some(error)) => Err(CallError::Rpc(error_code(error))),
        (Some(result), None) if envelope.id.as_json() == ID => Ok(result.to_owned()),
        _ => Err(CallError::NotMcp("it is no response to the request")),
    }
}

fn error_code(error: &RawValue) -> i32 {
    let object = Object::parse(error.get(), "an error").ok();
    let stated = object.and_then(|object| object.get("code")?.get().parse().ok());
    stated.unwrap_or(code::INTERNAL_ERROR)
}
