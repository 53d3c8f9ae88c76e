//! Who may call a server without authentication: programs of this machine, and no web page of another origin.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderValue, StatusCode, Uri};

use super::refusal;

/// Refuses what a page that rebound its name to 127.0.0.1 would send (MCP, Streamable HTTP, Security).
pub(super) async fn local_callers_only(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = match request.uri().authority() {
        Some(authority) => Some(authority.clone()),
        None => headers.get(HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok()),
    };
    if !host.is_some_and(|host| is_loopback(host.host())) {
        return refusal(StatusCode::MISDIRECTED_REQUEST, "Host must be localhost, 127.0.0.1 or [::1]");
    }
    if headers.get_all(ORIGIN).iter().any(|origin| !is_local_origin(origin)) {
        return refusal(StatusCode::FORBIDDEN, "requests from pages of another origin are refused");
    }
    next.run(request).await
}

fn is_local_origin(origin: &HeaderValue) -> bool {
    Uri::try_from(origin.as_bytes()).is_ok_and(|origin| {
        matches!(origin.scheme_str(), Some("http" | "https")) && origin.host().is_some_and(is_loopback)
    })
}

fn is_loopback(host: &str) -> bool {
    matches!(host, "127.0.0.1" | "[::1]") || host.eq_ignore_ascii_case("localhost")
}
