use axum::body::Body;
use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, VARY,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use portico_mcp_types::MCP_PARAM_PREFIX;

/// Request headers that a page may send (RS-36).
const ALLOWED: &str = "authorization, content-type, accept, mcp-protocol-version, mcp-method, mcp-name, \
                       mcp-session-id, last-event-id, dpop, x-correlation-id, traceparent, tracestate, baggage";
/// Answer headers that a page may read (RS-36).
const EXPOSED: &str =
    "WWW-Authenticate, Mcp-Session-Id, MCP-Protocol-Version, DPoP-Nonce, X-Correlation-Id, Retry-After";

/// Answers a preflight request of an allowed origin; it needs no token (RS-36).
pub(crate) fn preflight(asked: &HeaderMap, origin: Option<&HeaderValue>) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST, GET, DELETE, OPTIONS"));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed_headers(asked));
    expose(headers, origin);
    response
}

/// `Mcp-Param-*` cannot be listed beforehand, so those that the page asks for are (a wildcard excludes Authorization).
fn allowed_headers(asked: &HeaderMap) -> HeaderValue {
    let mut allowed = ALLOWED.to_owned();
    let asked = asked.get(ACCESS_CONTROL_REQUEST_HEADERS).and_then(|value| value.to_str().ok()).unwrap_or("");
    for name in asked.split(',').map(str::trim).filter(|name| name.len() <= 100).take(64) {
        let lower = name.to_ascii_lowercase();
        if lower.starts_with(MCP_PARAM_PREFIX) {
            allowed.push_str(", ");
            allowed.push_str(&lower);
        }
    }
    HeaderValue::try_from(allowed).unwrap_or(HeaderValue::from_static(ALLOWED))
}

/// Lets the page at `origin`, which the guard has let pass, read the answer. Credentials are never allowed.
pub(crate) fn expose(headers: &mut HeaderMap, origin: Option<&HeaderValue>) {
    let Some(origin) = origin else { return };
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    headers.insert(VARY, HeaderValue::from_static("Origin"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::ACCESS_CONTROL_ALLOW_CREDENTIALS;

    #[test]
    fn rs_36_preflight_lists_headers_and_never_allows_credentials() {
        let asked = HeaderMap::from_iter([(
            ACCESS_CONTROL_REQUEST_HEADERS,
            HeaderValue::from_static("Authorization, Mcp-Param-Region, X-Evil"),
        )]);
        let origin = HeaderValue::from_static("https://a.example");
        let response = preflight(&asked, Some(&origin));
        assert_eq!(response.status(), 204);
        let allowed = response.headers()[ACCESS_CONTROL_ALLOW_HEADERS].to_str().unwrap();
        assert!(allowed.contains("authorization") && allowed.contains("mcp-param-region"));
        assert!(!allowed.contains("x-evil"));
        assert_eq!(response.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], "https://a.example");
        assert!(!response.headers().contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
    }
}
