use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http_body_util::{BodyExt, Limited};
use portico_mcp_types::sse::Decoder;
use portico_mcp_types::{CallParams, Envelope, Id, Kind, PROTOCOL_VERSION, Revision, method};
use serde_json::value::RawValue;

use super::{request, session_of};
use crate::access::Agent;
use crate::call::Call;
use crate::engine::Engine;
use crate::front::{Inbound, Served};
use crate::refusal::{Reason, Refusal};
use crate::relay::{accepted, whole_response};
use crate::upstream::{lost, not_mcp};

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
    for (raw, envelope) in messages.iter().zip(&envelopes) {
        let mut part = call.sibling(envelope.method());
        part.request_bytes = raw.get().len();
        let answer = match CallParams::parse(envelope.params) {
            Ok(params) => {
                let body = body.slice_ref(raw.get().as_bytes());
                let inbound = Inbound { head, agent, body: &body, envelope, params: &params };
                let served = Box::pin(request::message(engine, &inbound, session, part)).await;
                answer_of(engine, (envelope.id, call.correlation.as_str()), served).await
            }
            Err(error) => {
                let refusal = Refusal::from(error);
                part.refused(&refusal);
                refusal.body(envelope.id, call.correlation.as_str())
            }
        };
        if envelope.kind == Kind::Request {
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

/// The response message within what a single POST would have been answered.
async fn answer_of(engine: &Engine, (id, correlation): (Id<'_>, &str), served: Served) -> Bytes {
    match served {
        Ok(response) => match response_message(engine, id, response).await {
            Ok(message) => message,
            Err(refusal) => refusal.body(id, correlation),
        },
        Err((refusal, mut call)) => {
            call.refused(&refusal);
            refusal.body(id, correlation)
        }
    }
}

async fn response_message(engine: &Engine, id: Id<'_>, response: Response) -> Result<Bytes, Refusal> {
    let limit = engine.upstream.settings.max_event_bytes;
    let events = response.headers().get(CONTENT_TYPE).is_some_and(|value| value == "text/event-stream");
    let body: Body = response.into_body();
    let bytes = Limited::new(body, limit).collect().await.map_err(|_| lost())?.to_bytes();
    if !events {
        return Ok(bytes);
    }
    let mut decoder = Decoder::new(limit);
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
