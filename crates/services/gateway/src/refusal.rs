//! The one table of refusals: reason, HTTP status and JSON-RPC code, and how they are written.

use std::borrow::Cow;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use portico_mcp_types::{ErrorBody, Id, ParseError, code, error_answer};

/// What an audit record says of a refused call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Allowed,
    Denied,
    Failed,
}

impl Outcome {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:ident, $code:expr, $outcome:ident;)+) => {
        /// Why a call was not carried out.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Reason { $($(#[$doc])* $name),+ }

        impl Reason {
            /// Every reason, for the generated reference.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The stable text in `data.reason`, audit and metrics.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }

            /// The HTTP status.
            #[must_use]
            pub fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status),+ }
            }

            /// The JSON-RPC error code.
            #[must_use]
            pub fn code(self) -> i32 {
                match self { $(Self::$name => $code),+ }
            }

            pub(crate) fn outcome(self) -> Outcome {
                match self { $(Self::$name => Outcome::$outcome),+ }
            }
        }
    };
}

reasons! {
    /// `Host` is not the public origin's.
    WrongHost = "wrong_host", MISDIRECTED_REQUEST, code::INVALID_REQUEST, Denied;
    /// `Origin` is not on the list (RS-32).
    OriginNotAllowed = "origin_not_allowed", FORBIDDEN, code::INVALID_REQUEST, Denied;
    /// Only POST, GET, DELETE and OPTIONS exist; the stateless era has only POST.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, code::INVALID_REQUEST, Denied;
    /// `Content-Type` is not `application/json`, or the body is compressed.
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, code::INVALID_REQUEST, Denied;
    /// `Accept` leaves out what the answer may be.
    NotAcceptable = "not_acceptable", NOT_ACCEPTABLE, code::INVALID_REQUEST, Denied;
    /// The body is over the limit.
    BodyTooLarge = "body_too_large", PAYLOAD_TOO_LARGE, code::INVALID_REQUEST, Denied;
    /// The body did not arrive in time.
    BodyTooSlow = "body_too_slow", REQUEST_TIMEOUT, code::INVALID_REQUEST, Denied;
    /// The body broke off.
    BodyIncomplete = "body_incomplete", BAD_REQUEST, code::PARSE_ERROR, Denied;
    /// The body is not JSON.
    MalformedJson = "malformed_json", BAD_REQUEST, code::PARSE_ERROR, Denied;
    /// The body nests too deep.
    BodyTooDeep = "body_too_deep", BAD_REQUEST, code::INVALID_REQUEST, Denied;
    /// A key stands twice, or is one that is read but for its case.
    DuplicateKey = "duplicate_key", BAD_REQUEST, code::INVALID_REQUEST, Denied;
    /// The body is no JSON-RPC message.
    InvalidMessage = "invalid_message", BAD_REQUEST, code::INVALID_REQUEST, Denied;
    /// The params do not fit the method.
    InvalidParams = "invalid_params", BAD_REQUEST, code::INVALID_PARAMS, Denied;
    /// No token.
    TokenMissing = "token_missing", UNAUTHORIZED, code::SERVER_ERROR, Denied;
    /// A token that does not count here.
    TokenInvalid = "invalid_token", UNAUTHORIZED, code::SERVER_ERROR, Denied;
    /// The token lacks a scope.
    InsufficientScope = "insufficient_scope", FORBIDDEN, code::SERVER_ERROR, Denied;
    /// No role of the principal allows it.
    AccessDenied = "access_denied", FORBIDDEN, code::SERVER_ERROR, Denied;
    /// Keys and revocations are too old to decide.
    TrustStale = "trust_stale", SERVICE_UNAVAILABLE, code::INTERNAL_ERROR, Failed;
    /// The clocks of this gateway and of the auth-server differ by more than the leeway.
    ClockSkew = "clock_skew", SERVICE_UNAVAILABLE, code::INTERNAL_ERROR, Failed;
    /// No endpoint has this name.
    UnknownEndpoint = "unknown_endpoint", NOT_FOUND, code::INVALID_REQUEST, Denied;
    /// Portico sent this request itself: a server's address leads back here.
    LoopDetected = "loop_detected", LOOP_DETECTED, code::INVALID_REQUEST, Denied;
    /// The bucket is empty.
    RateLimited = "rate_limited", TOO_MANY_REQUESTS, code::SERVER_ERROR, Denied;
    /// Neither a session nor a stateless request.
    SessionRequired = "session_required", BAD_REQUEST, code::INVALID_REQUEST, Denied;
    /// No such session for this caller (RS-30: foreign and unknown look the same).
    UnknownSession = "unknown_session", NOT_FOUND, code::INVALID_REQUEST, Denied;
    /// The version header is not the session's.
    VersionMismatch = "version_mismatch", BAD_REQUEST, code::INVALID_REQUEST, Denied;
    /// A header and the body disagree (RS-33).
    HeaderMismatch = "header_mismatch", BAD_REQUEST, code::HEADER_MISMATCH, Denied;
    /// This revision is not served.
    UnsupportedVersion = "unsupported_version", BAD_REQUEST, code::UNSUPPORTED_VERSION, Denied;
    /// The server speaks only the other era.
    EraNotBridged = "era_not_bridged", BAD_REQUEST, code::UNSUPPORTED_VERSION, Failed;
    /// The stateless era does not have this method.
    MethodNotFound = "method_not_found", NOT_FOUND, code::METHOD_NOT_FOUND, Denied;
    /// No tool, prompt or resource of this endpoint has this name.
    UnknownName = "unknown_name", OK, code::INVALID_PARAMS, Denied;
    /// No resource of this endpoint has this URI; the stateless era knows it as [`Reason::UnknownName`].
    UnknownResource = "unknown_resource", OK, code::RESOURCE_NOT_FOUND, Denied;
    /// A cursor, request state or task id that was not given to this caller for this.
    UnknownHandle = "unknown_handle", OK, code::INVALID_PARAMS, Denied;
    /// No instance of the server can be called.
    NoInstance = "no_instance", SERVICE_UNAVAILABLE, code::INTERNAL_ERROR, Failed;
    /// Nothing answers at the server's address.
    UpstreamUnreachable = "upstream_unreachable", BAD_GATEWAY, code::INTERNAL_ERROR, Failed;
    /// The answer did not begin in time.
    UpstreamTimeout = "upstream_timeout", GATEWAY_TIMEOUT, code::INTERNAL_ERROR, Failed;
    /// The server refused Portico's credential.
    UpstreamUnauthorized = "upstream_unauthorized", BAD_GATEWAY, code::INTERNAL_ERROR, Failed;
    /// The server answered an HTTP error.
    UpstreamFailed = "upstream_failed", BAD_GATEWAY, code::INTERNAL_ERROR, Failed;
    /// The server answered something else than JSON or a stream of events.
    UpstreamNotMcp = "upstream_not_mcp", BAD_GATEWAY, code::INTERNAL_ERROR, Failed;
    /// The answer broke off.
    UpstreamLost = "upstream_lost", BAD_GATEWAY, code::INTERNAL_ERROR, Failed;
    /// The server's address is not allowed.
    AddressRefused = "address_refused", BAD_GATEWAY, code::INTERNAL_ERROR, Failed;
    /// The audit spool is full and calls are refused.
    AuditUnavailable = "audit_unavailable", SERVICE_UNAVAILABLE, code::INTERNAL_ERROR, Failed;
    /// What gateways share does not answer or was just emptied, and this one does not know the session.
    CoordinationUnavailable = "coordination_unavailable", SERVICE_UNAVAILABLE, code::INTERNAL_ERROR, Failed;
    /// More is open than the gateway serves at the same time.
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, code::INTERNAL_ERROR, Failed;
}

/// A refused call: what is wrong, and what to do.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// The row of the table.
    pub reason: Reason,
    message: Cow<'static, str>,
    data: Vec<(&'static str, String)>,
    retry_after: Option<Duration>,
    challenge: Option<Box<HeaderValue>>,
}

impl Refusal {
    /// A refusal that says `message`.
    pub fn new(reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, message: message.into(), data: Vec::new(), retry_after: None, challenge: None }
    }

    /// Adds a member of `error.data`; `json` is JSON text.
    #[must_use]
    pub fn with_data(mut self, name: &'static str, json: String) -> Self {
        self.data.push((name, json));
        self
    }

    /// Says when to try again.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Adds a `WWW-Authenticate` challenge (RS-10, RS-11).
    #[must_use]
    pub fn with_challenge(mut self, challenge: HeaderValue) -> Self {
        self.challenge = Some(Box::new(challenge));
        self
    }

    /// What is wrong and what to do.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The JSON-RPC error answer to the request with this id.
    #[must_use]
    pub fn body(&self, id: Id<'_>, correlation: &str) -> bytes::Bytes {
        error_answer(
            id,
            &ErrorBody {
                code: self.reason.code(),
                message: &self.message,
                reason: self.reason.as_str(),
                correlation_id: correlation,
                data: &self.data,
            },
        )
    }

    /// The whole HTTP answer.
    #[must_use]
    pub fn response(&self, id: Id<'_>, correlation: &str) -> Response {
        let mut response = Response::new(Body::from(self.body(id, correlation)));
        *response.status_mut() = self.reason.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(after) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        if let Some(challenge) = &self.challenge {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::clone(challenge));
        }
        if self.reason == Reason::MethodNotAllowed {
            headers.insert(ALLOW, HeaderValue::from_static("POST, GET, DELETE, OPTIONS"));
        }
        response
    }
}

impl From<ParseError> for Refusal {
    fn from(error: ParseError) -> Self {
        let reason = match error {
            ParseError::NotUtf8 | ParseError::Syntax(_) => Reason::MalformedJson,
            ParseError::TooDeep => Reason::BodyTooDeep,
            ParseError::DuplicateKey(_) | ParseError::Lookalike(_) => Reason::DuplicateKey,
            ParseError::NotAnObject(_) | ParseError::Invalid(_) => Reason::InvalidMessage,
            ParseError::Param(..) => Reason::InvalidParams,
        };
        Self::new(reason, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_stable_texts_and_each_stands_once() {
        let mut seen = std::collections::HashSet::new();
        for reason in Reason::ALL {
            let text = reason.as_str();
            assert!(seen.insert(text), "{text} stands twice");
            assert!(text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{text}");
        }
    }

    #[test]
    fn an_answer_carries_reason_correlation_and_challenge() {
        let refusal = Refusal::new(Reason::RateLimited, "too many calls; wait 3 seconds")
            .with_retry_after(Duration::from_secs(3))
            .with_challenge(HeaderValue::from_static("Bearer"));
        let response = refusal.response(Id::Absent, "cid");
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[RETRY_AFTER], "3");
        assert_eq!(response.headers()[WWW_AUTHENTICATE], "Bearer");
        insta::assert_snapshot!(
            String::from_utf8(refusal.body(Id::Absent, "cid").to_vec()).unwrap(),
            @r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"too many calls; wait 3 seconds","data":{"reason":"rate_limited","correlation_id":"cid"}}}"#
        );
    }
}
