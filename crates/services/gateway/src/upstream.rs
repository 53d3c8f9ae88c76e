//! One exchange with one instance of a server: allow-listed headers out, a judged answer back.

mod candidates;
mod outgoing;

pub(crate) use candidates::Candidates;
pub(crate) use outgoing::Outgoing;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT, VIA};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use portico_mcp_types::sse::Decoder;
use portico_mcp_types::{Envelope, Id, Kind, Object, SESSION_ID, code, within_depth};
use portico_outbound::{Body, OutboundClient, OutboundError};

use crate::catalogue::{Instance, Traffic};
use crate::hop::Hop;
use crate::metrics::{Ejection, GatewayMetrics};
use crate::refusal::{Reason, Refusal};
use crate::settings::UpstreamSettings;

/// Longest that an upstream may take to answer what is not a call of an agent.
const HOUSEKEEPING: Duration = Duration::from_secs(10);

/// Calls instances; the agent's token has no way in here (RS-25).
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    client: OutboundClient,
    pub(crate) hop: Arc<Hop>,
    pub(crate) settings: Arc<UpstreamSettings>,
    metrics: GatewayMetrics,
}

/// What an instance answered, judged by status and type only; the body has not been read.
#[derive(Debug)]
pub(crate) enum Answer {
    /// 2xx without content.
    Accepted,
    /// One JSON message; a status other than 200 comes with a JSON-RPC error.
    Json(Reply),
    /// The same, read already.
    Read(StatusCode, Bytes),
    /// A stream of events.
    Events(Reply),
    /// 404 without a JSON-RPC error, or with one while a session was named.
    NotFound,
    /// 405.
    MethodNotAllowed,
}

/// Why there is no answer.
#[derive(Debug)]
enum Unanswered {
    /// No byte of the request reached a server: another one can get it.
    Unsent(Refusal),
    /// The server may have carried it out.
    Sent(Refusal),
}

impl From<Unanswered> for Refusal {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Unsent(refusal) | Unanswered::Sent(refusal) => refusal,
        }
    }
}

/// An answer with a body.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    /// The session that the server opened.
    pub(crate) session: Option<HeaderValue>,
    pub(crate) body: Incoming,
    /// Counts as load on the instance until dropped.
    pub(crate) load: Load,
}

/// One call in flight.
#[derive(Debug)]
pub(crate) struct Load(Arc<Traffic>);

impl Load {
    fn on(instance: &Instance) -> Self {
        instance.traffic.begin();
        Self(Arc::clone(&instance.traffic))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Upstream {
    pub(crate) fn new(
        client: OutboundClient,
        hop: Hop,
        settings: UpstreamSettings,
        metrics: GatewayMetrics,
    ) -> Self {
        Self { client, hop: Arc::new(hop), settings: Arc::new(settings), metrics }
    }

    /// Sends a call to this instance and no other, and judges the answer's head.
    pub(crate) async fn exchange(&self, instance: &Instance, outgoing: Outgoing) -> Result<Answer, Refusal> {
        Ok(self.send(instance, outgoing, self.answer_timeout(instance)).await?)
    }

    fn answer_timeout(&self, instance: &Instance) -> Duration {
        instance.answer_timeout.unwrap_or(Duration::from_millis(self.settings.answer_timeout_ms))
    }

    /// Sends something that no agent waits for long for.
    pub(crate) async fn housekeeping(
        &self,
        instance: &Instance,
        outgoing: Outgoing,
    ) -> Result<Answer, Refusal> {
        Ok(self.send(instance, outgoing, HOUSEKEEPING).await?)
    }

    async fn send(
        &self,
        instance: &Instance,
        outgoing: Outgoing,
        deadline: Duration,
    ) -> Result<Answer, Unanswered> {
        let load = Load::on(instance);
        let in_session = outgoing.headers.contains_key(SESSION_ID);
        let mut request = Request::new(Body::from(outgoing.body));
        *request.method_mut() = outgoing.method;
        *request.uri_mut() = instance.uri.clone();
        let mut headers = outgoing.headers;
        headers.insert(HOST, instance.host.clone());
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("portico/", env!("CARGO_PKG_VERSION"))));
        headers.insert(VIA, self.hop.via());
        if let Some(credential) = &instance.credential {
            headers.insert(AUTHORIZATION, credential.clone());
        }
        *request.headers_mut() = headers;
        match self.client.request(request, deadline).await {
            Ok(response) => {
                instance.traffic.answered();
                judge(response, load, in_session).map_err(Unanswered::Sent)
            }
            Err(error) if error.is_before_send() => {
                if instance.traffic.eject() {
                    self.metrics.ejected(why_ejected(&error));
                }
                Err(Unanswered::Unsent(unreachable(&error)))
            }
            Err(error) => Err(Unanswered::Sent(unreachable(&error))),
        }
    }

    /// Reads an answer that Portico itself needs whole, and gives its response message.
    pub(crate) async fn response_to(
        &self,
        id: Id<'_>,
        answer: Answer,
    ) -> Result<(Bytes, Option<HeaderValue>), Refusal> {
        match answer {
            Answer::Json(reply) => {
                let session = reply.session.clone();
                match self.read_json(reply.body, self.settings.max_event_bytes).await? {
                    JsonBody::Whole(bytes) => Ok((bytes, session)),
                    JsonBody::Begun(..) => Err(too_large()),
                }
            }
            Answer::Events(reply) => {
                let session = reply.session.clone();
                Ok((self.response_event(id, reply.body).await?, session))
            }
            Answer::Read(_, message) => Ok((message, None)),
            Answer::Accepted | Answer::NotFound | Answer::MethodNotAllowed => Err(not_mcp()),
        }
    }

    /// Reads JSON up to `limit` bytes; what is larger is given back begun.
    pub(crate) async fn read_json(&self, mut body: Incoming, limit: usize) -> Result<JsonBody, Refusal> {
        let idle = Duration::from_millis(self.settings.idle_timeout_ms);
        let mut first = Bytes::new();
        let mut more: Option<BytesMut> = None;
        while let Some(data) = next_data(&mut body, idle).await? {
            match &mut more {
                Some(buffer) => buffer.extend_from_slice(&data),
                None if first.is_empty() => first = data,
                None => {
                    let buffer = more.insert(BytesMut::with_capacity(first.len() + data.len()));
                    buffer.extend_from_slice(&first);
                    buffer.extend_from_slice(&data);
                }
            }
            if more.as_ref().map_or(first.len(), BytesMut::len) > limit {
                return Ok(JsonBody::Begun(more.map_or(first, BytesMut::freeze), body));
            }
        }
        let whole = more.map_or(first, BytesMut::freeze);
        // What says it is JSON and starts otherwise is an error page.
        if whole.trim_ascii_start().first() == Some(&b'{') {
            Ok(JsonBody::Whole(whole))
        } else {
            Err(not_mcp())
        }
    }

    async fn response_event(&self, id: Id<'_>, mut body: Incoming) -> Result<Bytes, Refusal> {
        let idle = Duration::from_millis(self.settings.idle_timeout_ms);
        let mut decoder = Decoder::new(self.settings.max_event_bytes);
        while let Some(data) = next_data(&mut body, idle).await? {
            decoder.push(&data);
            while let Some(event) = decoder.next_event().map_err(|_| too_large())? {
                if is_response_to(id, &event.data) {
                    return Ok(event.data);
                }
            }
        }
        Err(lost())
    }
}

/// JSON from an upstream.
#[derive(Debug)]
pub(crate) enum JsonBody {
    Whole(Bytes),
    /// Larger than is held back: what came so far, and the rest.
    Begun(Bytes, Incoming),
}

/// The next piece of a body; `None` at its end.
pub(crate) async fn next_data(body: &mut Incoming, idle: Duration) -> Result<Option<Bytes>, Refusal> {
    loop {
        let frame = tokio::time::timeout(idle, body.frame()).await.map_err(|_| silent(idle))?;
        match frame {
            None => return Ok(None),
            Some(Err(_)) => return Err(lost()),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

fn is_response_to(id: Id<'_>, message: &[u8]) -> bool {
    within_depth(message)
        && Envelope::parse(message).is_ok_and(|envelope| envelope.kind == Kind::Response && envelope.id == id)
}

/// Whether a server answered that it does not have the method.
pub(crate) fn is_unknown_method(envelope: &Envelope<'_>) -> bool {
    let error = envelope.error.and_then(|error| Object::parse(error.get(), "error").ok());
    let said = error.and_then(|error| error.get("code")).map_or("", |raw| raw.get());
    said == code::METHOD_NOT_FOUND.to_string()
}

fn judge(response: Response<Incoming>, load: Load, in_session: bool) -> Result<Answer, Refusal> {
    let (head, body) = response.into_parts();
    let essence = head
        .headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map_or("", |value| value.split(';').next().unwrap_or("").trim());
    let json = essence.eq_ignore_ascii_case("application/json");
    let events = essence.eq_ignore_ascii_case("text/event-stream");
    let session = head.headers.get(SESSION_ID).cloned();
    let empty = is_empty(&body);
    let reply = |status| Reply { status, session, body, load };
    match head.status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Refusal::new(
            Reason::UpstreamUnauthorized,
            "the server refused Portico's credential for it; its owner must set a valid one",
        )),
        StatusCode::METHOD_NOT_ALLOWED => Ok(Answer::MethodNotAllowed),
        StatusCode::NOT_FOUND if in_session || !json => Ok(Answer::NotFound),
        StatusCode::ACCEPTED | StatusCode::NO_CONTENT => Ok(Answer::Accepted),
        status if status.is_success() && json => Ok(Answer::Json(reply(StatusCode::OK))),
        status if status.is_success() && events => Ok(Answer::Events(reply(StatusCode::OK))),
        status if status.is_success() && empty => Ok(Answer::Accepted),
        status if status.is_client_error() && json => Ok(Answer::Json(reply(status))),
        status if status.is_client_error() || status.is_server_error() => Err(Refusal::new(
            Reason::UpstreamFailed,
            format!("the server answered HTTP {}; its owner can find out why", status.as_u16()),
        )),
        _ => Err(not_mcp()),
    }
}

fn is_empty(body: &Incoming) -> bool {
    http_body::Body::is_end_stream(body)
}

fn why_ejected(error: &OutboundError) -> Ejection {
    match error {
        OutboundError::Refused(_) => Ejection::AddressRefused,
        OutboundError::ConnectTimeout => Ejection::ConnectTimeout,
        _ => Ejection::NoConnection,
    }
}

fn unreachable(error: &OutboundError) -> Refusal {
    match error {
        OutboundError::Refused(refused) => Refusal::new(
            Reason::AddressRefused,
            format!(
                "the server's address is not allowed ({}); an operator must allow it",
                refused.reason.as_str()
            ),
        ),
        OutboundError::FirstByteTimeout => Refusal::new(
            Reason::UpstreamTimeout,
            "the server did not begin to answer in time; try again later, or ask its owner to raise the timeout",
        ),
        error if error.is_before_send() => {
            Refusal::new(Reason::UpstreamUnreachable, "the server cannot be reached; try again later")
        }
        _ => lost(),
    }
}

/// The answer is of a type that no MCP server sends.
pub(crate) fn not_mcp() -> Refusal {
    Refusal::new(
        Reason::UpstreamNotMcp,
        "the server answered something that is no MCP message; its registered address may be wrong",
    )
}

/// The answer broke off.
pub(crate) fn lost() -> Refusal {
    Refusal::new(
        Reason::UpstreamLost,
        "the server broke off its answer; whether it carried out the call is not known",
    )
}

pub(crate) fn too_large() -> Refusal {
    Refusal::new(Reason::UpstreamNotMcp, "the server answered more than Portico takes in one piece")
}

fn silent(idle: Duration) -> Refusal {
    Refusal::new(Reason::UpstreamTimeout, format!("the server fell silent for {} s", idle.as_secs()))
}
