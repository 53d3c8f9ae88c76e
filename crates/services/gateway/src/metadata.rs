//! Protected-resource metadata (RFC 9728) and the challenges that lead to it.

use axum::body::Body;
use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, CACHE_CONTROL, CONTENT_TYPE,
};
use http::{HeaderValue, StatusCode};
use serde_json::json;

use crate::catalogue::Snapshot;

/// Where metadata documents are served; the bare path is 404 (RS-03).
pub(crate) const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// The scope that calling needs.
pub(crate) const SCOPE: &str = "mcp";

/// The metadata of the resource at `path`, e.g. `/demo/mcp`; `None` if there is none (RS-05).
///
/// Built from the configured origin, never from what a request says (RS-06).
pub(crate) fn document(origin: &str, issuer: &str, path: &str, snapshot: &Snapshot) -> Option<String> {
    let (name, scopes) = match path {
        "/mcp" => ("Portico".to_owned(), vec![SCOPE]),
        "/api" => ("Portico management".to_owned(), vec!["registry:read", "registry:write", "admin"]),
        _ => {
            let endpoint = snapshot.endpoint(path.strip_prefix('/')?.strip_suffix("/mcp")?)?;
            (endpoint.name.clone(), vec![SCOPE])
        }
    };
    let document = json!({
        "resource": format!("{origin}{path}"),
        "authorization_servers": [issuer],
        "scopes_supported": scopes,
        "bearer_methods_supported": ["header"],
        "resource_name": name,
    });
    Some(document.to_string())
}

/// Answers a preflight: SDKs in browsers send MCP headers with their request for a document (RS-36).
pub(crate) fn preflight() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET"));
    headers.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("accept, content-type, mcp-protocol-version, x-correlation-id"),
    );
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

/// Wraps a document; everybody may read and keep it for five minutes (RS-05).
pub(crate) fn response(document: String) -> Response {
    let mut response = Response::new(Body::from(document));
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

/// What a 401 or 403 asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// No token came: no error code (RFC 6750 §3.1).
    TokenMissing,
    /// The token does not count.
    InvalidToken,
    /// The token lacks a scope (RS-11).
    InsufficientScope,
}

/// `WWW-Authenticate` for the resource at `path`; values are quoted, because one SDK reads only quoted ones (RS-10).
pub(crate) fn challenge(origin: &str, path: &str, kind: Challenge) -> HeaderValue {
    let error = match kind {
        Challenge::TokenMissing => "",
        Challenge::InvalidToken => "error=\"invalid_token\", ",
        Challenge::InsufficientScope => "error=\"insufficient_scope\", ",
    };
    let text = format!("Bearer {error}scope=\"{SCOPE}\", resource_metadata=\"{origin}{WELL_KNOWN}{path}\"");
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("Bearer"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::testing::{ORIGIN, endpoint, server, snapshot};

    #[test]
    fn rs_01_to_05_the_document_of_an_endpoint() {
        let snapshot = snapshot(vec![server(1, "demo"), endpoint("demo", &[1])]);
        let written = document(ORIGIN, ORIGIN, "/demo/mcp", &snapshot).unwrap();
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&written).unwrap(),
            json!({
                "resource": "http://127.0.0.1:8080/demo/mcp",
                "authorization_servers": ["http://127.0.0.1:8080"],
                "scopes_supported": ["mcp"],
                "bearer_methods_supported": ["header"],
                "resource_name": "demo",
            })
        );
        assert!(document(ORIGIN, ORIGIN, "/mcp", &snapshot).is_some());
        assert!(document(ORIGIN, ORIGIN, "/api", &snapshot).unwrap().contains("registry:read"));
        for path in ["", "/", "/other/mcp", "/demo", "/demo/mcp/", "/demo/sse/x", "mcp"] {
            assert!(document(ORIGIN, ORIGIN, path, &snapshot).is_none(), "{path}");
        }
    }

    #[test]
    fn rs_10_challenges_are_quoted_and_name_the_metadata() {
        assert_eq!(
            challenge(ORIGIN, "/demo/mcp", Challenge::TokenMissing),
            "Bearer scope=\"mcp\", resource_metadata=\"http://127.0.0.1:8080/.well-known/oauth-protected-resource/demo/mcp\""
        );
        let step_up = challenge(ORIGIN, "/mcp", Challenge::InsufficientScope);
        assert!(step_up.to_str().unwrap().starts_with("Bearer error=\"insufficient_scope\", scope=\"mcp\""));
        assert!(!step_up.to_str().unwrap().contains("offline_access"));
    }
}
