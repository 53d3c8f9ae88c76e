//! What every page tells the browser (AS-16): no scripts, no frames, no referrer, no cache.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use portico_oauth_types::{RedirectKind, RedirectUri};

/// Everything but where forms may go.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'; \
     form-action 'self'";

/// Adds the headers that a page has not set itself. No opener policy is among them: clients open these pages in a
/// window of their own and wait for it to come back to them.
pub(crate) async fn harden(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(POLICY));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    for (name, value) in [
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Lets a form end at the client's address: browsers check `form-action` on the redirect behind a form too
/// (CSP Level 3 §6.4.1).
pub(crate) fn allow_redirect(response: &mut Response, redirect_uri: &RedirectUri) {
    let source = source(redirect_uri);
    if let Ok(value) = HeaderValue::from_str(&format!("{POLICY} {source}")) {
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, value);
    }
}

/// Writes a redirect URI as a CSP source; there is none for an IPv6 address but its scheme.
fn source(redirect_uri: &RedirectUri) -> String {
    let scheme = redirect_uri.as_str().split(':').next().unwrap_or_default();
    match redirect_uri.kind() {
        RedirectKind::Https | RedirectKind::Loopback if !redirect_uri.receiver().starts_with('[') => {
            format!("{scheme}://{}", redirect_uri.receiver())
        }
        _ => format!("{scheme}:"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_may_end_at_the_client_and_nowhere_else() {
        for (uri, expected) in [
            ("https://claude.ai/api/mcp/auth_callback", "https://claude.ai"),
            ("http://127.0.0.1:33418/", "http://127.0.0.1:33418"),
            ("http://[::1]:4000/cb", "http:"),
            ("cursor://anysphere.cursor-mcp/oauth/callback", "cursor:"),
        ] {
            assert_eq!(source(&RedirectUri::parse(uri).unwrap()), expected);
        }
    }
}
