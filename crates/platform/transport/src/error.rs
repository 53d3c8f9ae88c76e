//! The two shapes of an error on the wire: google.rpc.ErrorInfo in gRPC, problem+json in HTTP.

use std::collections::HashMap;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use serde::Serialize;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The `domain` of every `google.rpc.ErrorInfo` that Portico sends.
pub const ERROR_DOMAIN: &str = "portico";

/// Makes a gRPC status whose details carry a stable reason (google.rpc.ErrorInfo).
pub fn grpc_error(code: Code, reason: &'static str, message: impl Into<String>) -> Status {
    let details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, HashMap::new());
    Status::with_error_details(code, message, details)
}

/// Makes the same for what may be tried again after a time (google.rpc.RetryInfo).
pub fn grpc_retry_later(
    code: Code,
    reason: &'static str,
    message: impl Into<String>,
    after: Duration,
) -> Status {
    let mut details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, HashMap::new());
    details.set_retry_info(Some(after));
    Status::with_error_details(code, message, details)
}

/// Reads out of a status when to try again, if it says so.
#[must_use]
pub fn retry_after_of(status: &Status) -> Option<Duration> {
    status.get_details_retry_info()?.retry_delay
}

/// Reads the reason out of a status that [`grpc_error`] made, here or in another process.
#[must_use]
pub fn reason_of(status: &Status) -> Option<String> {
    let info = status.get_details_error_info()?;
    (info.domain == ERROR_DOMAIN).then_some(info.reason)
}

#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'a str,
    title: &'a str,
    status: u16,
    detail: String,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<&'a str>,
}

/// Makes an `application/problem+json` response (RFC 9457 §3) with a stable reason.
pub fn problem(
    status: StatusCode,
    reason: &'static str,
    detail: impl Into<String>,
    correlation: Option<&str>,
) -> Response {
    let problem = Problem {
        // RFC 9457 §4.2.1: the type says no more than the status; `reason` is what programs read.
        r#type: "about:blank",
        title: status.canonical_reason().unwrap_or("Error"),
        status: status.as_u16(),
        detail: detail.into(),
        reason,
        correlation_id: correlation,
    };
    // A struct of strings and a number always serialises.
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[test]
    fn grpc_reason_survives_the_wire() {
        let sent = grpc_error(Code::Aborted, "stale_revision", "the server changed meanwhile: read it again");
        let response: http::Response<tonic::body::Body> = sent.into_http();
        let received = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(received.code(), Code::Aborted);
        assert_eq!(reason_of(&received).as_deref(), Some("stale_revision"));
    }

    #[test]
    fn the_time_to_try_again_survives_the_wire_beside_the_reason() {
        let after = Duration::from_millis(1_250);
        let sent = grpc_retry_later(Code::ResourceExhausted, "rate_limited", "you call too often", after);
        let response: http::Response<tonic::body::Body> = sent.into_http();
        let received = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(reason_of(&received).as_deref(), Some("rate_limited"));
        assert_eq!(retry_after_of(&received), Some(after));
        assert_eq!(retry_after_of(&grpc_error(Code::Aborted, "stale_revision", "read it again")), None);
    }

    #[test]
    fn a_status_of_another_domain_has_no_reason_of_ours() {
        assert_eq!(reason_of(&Status::not_found("x")), None);
        let details = ErrorDetails::with_error_info("stale_revision", "example.com", HashMap::new());
        assert_eq!(reason_of(&Status::with_error_details(Code::Aborted, "x", details)), None);
    }

    #[tokio::test]
    async fn problem_has_the_members_of_rfc_9457() {
        let response =
            problem(StatusCode::NOT_FOUND, "not_found", "there is nothing here", Some("c-1234567"));
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(
            std::str::from_utf8(&body).unwrap(),
            r#"{"type":"about:blank","title":"Not Found","status":404,"detail":"there is nothing here","reason":"not_found","correlation_id":"c-1234567"}"#
        );
    }
}
