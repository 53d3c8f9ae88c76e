//! The OAuth and OpenID Connect endpoints, one file each.

pub(crate) mod authorize;
pub(crate) mod client_auth;
pub(crate) mod introspect;
pub(crate) mod jwks;
pub(crate) mod metadata;
pub(crate) mod par;
pub(crate) mod register;
pub(crate) mod revoke;
pub(crate) mod token;
pub(crate) mod userinfo;

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use portico_oauth_types::{OAuthError, OAuthErrorCode, Parameters};

/// Reads a form body (RFC 6749 §4.1.3).
fn form(headers: &HeaderMap, body: &[u8]) -> Result<Parameters, OAuthError> {
    let is_form = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|media| media.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"));
    if !is_form {
        let message = "send the parameters as application/x-www-form-urlencoded";
        return Err(OAuthError::new(OAuthErrorCode::InvalidRequest, message));
    }
    Parameters::parse(body)
}
