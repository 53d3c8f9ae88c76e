//! One exchange with one instance of a server: allow-listed headers out, a judged answer back.

mod candidates;
mod judge;
mod outgoing;

pub(crate) use candidates::Candidates;
use judge::{endless, is_of_a_broken_way, judge, silent, unreachable, why_ejected};
pub(crate) use judge::{lost, not_mcp, too_large};
pub(crate) use outgoing::Outgoing;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, HOST, USER_AGENT, VIA};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use portico_ids::SharedRng;
use portico_mcp_types::sse::Decoder;
use portico_mcp_types::{Envelope, Id, Kind, Object, SESSION_ID, code, within_depth};
use portico_outbound::{Body, OutboundClient, OutboundError};
use tokio_util::sync::CancellationToken;

use crate::catalogue::{Begun, Instance, Traffic};
use crate::hop::Hop;
use crate::metrics::{Ejection, GatewayMetrics};
use crate::refusal::Refusal;
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
    rng: SharedRng,
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
pub(crate) struct Load {
    traffic: Arc<Traffic>,
    begun: Begun,
}

impl Load {
    fn on(instance: &Instance) -> Self {
        Self { traffic: Arc::clone(&instance.traffic), begun: instance.traffic.begin() }
    }

    /// Cancelled once the catalogue no longer has the instance.
    pub(crate) fn departed(&self) -> &CancellationToken {
        self.traffic.departed()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.traffic.end();
    }
}

/// How long an instance may take.
#[derive(Debug, Clone, Copy)]
struct Within {
    /// To take the connection; `None`: as long as for all servers.
    connection: Option<Duration>,
    /// To begin its answer, from the beginning.
    answer: Duration,
}

impl Within {
    fn answer(answer: Duration) -> Self {
        Self { connection: None, answer }
    }
}

impl Upstream {
    pub(crate) fn new(
        client: OutboundClient,
        hop: Hop,
        settings: UpstreamSettings,
        (metrics, rng): (GatewayMetrics, SharedRng),
    ) -> Self {
        Self { client, hop: Arc::new(hop), settings: Arc::new(settings), metrics, rng }
    }

    /// Sends a call to this instance and no other, and judges the answer's head.
    pub(crate) async fn exchange(&self, instance: &Instance, outgoing: Outgoing) -> Result<Answer, Refusal> {
        Ok(self.send(instance, outgoing, Within::answer(self.answer_timeout(instance))).await?)
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
        Ok(self.send(instance, outgoing, Within::answer(HOUSEKEEPING)).await?)
    }

    async fn send(
        &self,
        instance: &Instance,
        outgoing: Outgoing,
        within: Within,
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
        let answer = match within.connection {
            Some(connection) => self.client.request_if_connected(request, connection, within.answer).await,
            None => self.client.request(request, within.answer).await,
        };
        self.note(&load, answer.as_ref());
        match answer {
            Ok(response) => judge(response, load, in_session).map_err(Unanswered::Sent),
            Err(error) if error.is_before_send() => Err(Unanswered::Unsent(unreachable(&error))),
            Err(error) => Err(Unanswered::Sent(unreachable(&error))),
        }
    }

    /// Notes how the instance fared with a call.
    fn note(&self, load: &Load, answer: Result<&Response<Incoming>, &OutboundError>) {
        let Load { traffic, begun } = load;
        let ejection = match answer {
            Ok(response) if !is_of_a_broken_way(response.status()) => {
                if traffic.answered(*begun) {
                    self.metrics.instance_returns.inc();
                }
                return;
            }
            Err(error) if error.is_before_send() => {
                traffic.not_connected(*begun, self.random()).then(|| why_ejected(error))
            }
            Ok(_) | Err(_) => traffic.not_answered(*begun, self.random()).then_some(Ejection::NoAnswer),
        };
        if let Some(why) = ejection {
            self.metrics.ejected(why);
        }
    }

    fn random(&self) -> u32 {
        let mut bytes = [0; 4];
        self.rng.fill(&mut bytes);
        u32::from_ne_bytes(bytes)
    }

    /// Reads an answer that Portico itself needs whole, and gives its response message. All of it has to come within the time
    /// that an answer on its way to an agent may be silent: a server that keeps a stream open with comments holds up nobody.
    pub(crate) async fn response_to(
        &self,
        id: Id<'_>,
        answer: Answer,
    ) -> Result<(Bytes, Option<HeaderValue>), Refusal> {
        let within = Duration::from_millis(self.settings.idle_timeout_ms);
        tokio::time::timeout(within, self.read_response(id, answer))
            .await
            .unwrap_or_else(|_| Err(endless(within)))
    }

    async fn read_response(
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
