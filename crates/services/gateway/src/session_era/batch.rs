use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use portico_mcp_types::sse::Decoder;
use portico_mcp_types::{CallParams, Envelope, Id, Kind, PROTOCOL_VERSION, Revision, method};
use serde_json::value::RawValue;

use super::{request, session_of};
use crate::access::Agent;
use crate::call::Call;
use crate::engine::Engine;
use crate::front::{Inbound, Served, bounded, name_of};
use crate::refusal::{Reason, Refusal};
use crate::relay::{accepted, whole_response};
use crate::upstream::{lost, not_mcp, too_large};

/// Most messages of one batch.
const MAX_MESSAGES: usize = 64;

/// Splits a batch (2025-03-26 only): each message is a call of its own, the answers are one array.
pub(crate) async fn batch(
    engine: &Arc<Engine>,
    head: &Parts,
    agent: &Arc<Agent>,
    (session, body, messages): (&str, &Bytes, Vec<&RawValue>),
    mut call: Call,
) -> Served {
    let version = crate::front::text(head, &PROTOCOL_VERSION);
    let envelopes = match session_of(engine, agent, session, version).await {
        Ok(session) => read(&messages, session.revision()),
        Err(refusal) => Err(refusal),
    };
    let envelopes = match envelopes {
        Ok(envelopes) => envelopes,
        Err(refusal) => return Err((refusal, call)),
    };
    let mut answers: Vec<Bytes> = Vec::new();
    // All answers together are held in memory, as one answer of another kind would be.
    let mut room = engine.upstream.settings.max_event_bytes;
    for (at, (raw, envelope)) in messages.iter().zip(&envelopes).enumerate() {
        let mut own = call.sibling(&bounded(envelope.method()));
        own.request_bytes = raw.get().len();
        let part = Part { engine, head, agent, session, body, raw, envelope, room, is_first: at == 0 };
        let answer = part.answer(own).await;
        if envelope.kind == Kind::Request {
            room = room.saturating_sub(answer.len());
            answers.push(answer);
        }
    }
    // Each message has left its own record.
    call.forget();
    if answers.is_empty() {
        return Ok(accepted());
    }
    let mut array = vec![b'['];
    for (at, answer) in answers.iter().enumerate() {
        if at > 0 {
            array.push(b',');
        }
        array.extend_from_slice(answer);
    }
    array.push(b']');
    Ok(whole_response(StatusCode::OK, Bytes::from(array)))
}

fn read<'a>(messages: &[&'a RawValue], revision: Revision) -> Result<Vec<Envelope<'a>>, Refusal> {
    if revision != Revision::V2025_03_26 {
        return Err(Refusal::new(
            Reason::InvalidMessage,
            format!(
                "batches exist only in revision 2025-03-26, this session speaks {revision}; send one message"
            ),
        ));
    }
    if messages.len() > MAX_MESSAGES {
        return Err(Refusal::new(
            Reason::InvalidMessage,
            format!("a batch has at most {MAX_MESSAGES} messages"),
        ));
    }
    let envelopes = messages.iter().map(|raw| Envelope::read(raw.get())).collect::<Result<Vec<_>, _>>()?;
    if envelopes.iter().any(|envelope| envelope.method() == method::INITIALIZE) {
        return Err(Refusal::new(Reason::InvalidMessage, "initialize is never part of a batch"));
    }
    Ok(envelopes)
}

/// One message of a batch.
struct Part<'a> {
    engine: &'a Arc<Engine>,
    head: &'a Parts,
    agent: &'a Arc<Agent>,
    session: &'a str,
    body: &'a Bytes,
    raw: &'a RawValue,
    envelope: &'a Envelope<'a>,
    /// Bytes that its answer may take.
    room: usize,
    is_first: bool,
}

impl Part<'_> {
    /// The response message within what a single POST would have been answered.
    async fn answer(&self, call: Call) -> Bytes {
        let (id, correlation) = (self.envelope.id, call.correlation.clone());
        let answer = match self.serve(call).await {
            Ok(response) => response_message(self.engine, (id, self.room), response).await,
            Err((refusal, mut call)) => {
                call.refused(&refusal);
                Err(refusal)
            }
        };
        answer.unwrap_or_else(|refusal| refusal.body(id, correlation.as_str()))
    }

    async fn serve(&self, mut call: Call) -> Served {
        // Each message costs what it would cost alone; the request itself has been counted.
        if !self.is_first
            && let Err(refusal) = self.engine.access.count(&self.agent.subject)
        {
            return Err((refusal, call));
        }
        let params = match CallParams::parse(self.envelope.params) {
            Ok(params) => params,
            Err(error) => return Err((error.into(), call)),
        };
        call.name = name_of(&params);
        let body = self.body.slice_ref(self.raw.get().as_bytes());
        let inbound = Inbound {
            head: self.head,
            agent: self.agent,
            body: &body,
            envelope: self.envelope,
            params: &params,
        };
        Box::pin(request::message(self.engine, &inbound, self.session, call)).await
    }
}

async fn response_message(
    engine: &Engine,
    (id, room): (Id<'_>, usize),
    response: Response,
) -> Result<Bytes, Refusal> {
    let events = response.headers().get(CONTENT_TYPE).is_some_and(|value| value == "text/event-stream");
    let body = Limited::new(response.into_body(), room).collect().await;
    let bytes =
        body.map_err(|error| if error.is::<LengthLimitError>() { too_large() } else { lost() })?.to_bytes();
    if !events {
        return Ok(bytes);
    }
    let mut decoder = Decoder::new(engine.upstream.settings.max_event_bytes);
    decoder.push(&bytes);
    while let Some(event) = decoder.next_event().map_err(|_| not_mcp())? {
        if Envelope::parse(&event.data)
            .is_ok_and(|message| message.kind == Kind::Response && message.id == id)
        {
            return Ok(event.data);
        }
    }
    Err(lost())
}
