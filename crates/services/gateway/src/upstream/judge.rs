//! What an instance's answer is, by its head; and what agents are told of those that are none.

use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Response, StatusCode};
use hyper::body::Incoming;
use portico_mcp_types::SESSION_ID;
use portico_outbound::OutboundError;

use super::{Answer, Load, Reply};
use crate::metrics::Ejection;
use crate::refusal::{Reason, Refusal};

pub(super) fn judge(response: Response<Incoming>, load: Load, in_session: bool) -> Result<Answer, Refusal> {
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

/// What a proxy in front of a server answers that cannot be reached (RFC 9110 §15.6.3 to §15.6.5).
pub(super) fn is_of_a_broken_way(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

fn is_empty(body: &Incoming) -> bool {
    http_body::Body::is_end_stream(body)
}

pub(super) fn why_ejected(error: &OutboundError) -> Ejection {
    match error {
        OutboundError::Refused(_) => Ejection::AddressRefused,
        OutboundError::ConnectTimeout => Ejection::ConnectTimeout,
        _ => Ejection::NoConnection,
    }
}

pub(super) fn unreachable(error: &OutboundError) -> Refusal {
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

pub(super) fn silent(idle: Duration) -> Refusal {
    Refusal::new(Reason::UpstreamTimeout, format!("the server fell silent for {} s", idle.as_secs()))
}

pub(super) fn endless(within: Duration) -> Refusal {
    Refusal::new(
        Reason::UpstreamTimeout,
        format!("the server did not end its answer within {} s", within.as_secs()),
    )
}
