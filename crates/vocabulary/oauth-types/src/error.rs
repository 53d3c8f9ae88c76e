//! Error codes and the error response.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $status:literal;)+) => {
        /// What went wrong, as a client reads it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum OAuthErrorCode {
            $($(#[$doc])* #[serde(rename = $code)] $name,)+
        }

        impl OAuthErrorCode {
            /// Returns the code as it is written on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }

            /// Returns the HTTP status of a direct answer (not of a redirect).
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)+ }
            }
        }
    };
}

codes! {
    /// A parameter is missing, doubled or malformed (RFC 6749 §4.1.2.1, §5.2).
    InvalidRequest = "invalid_request", 400;
    /// The client did not authenticate (RFC 6749 §5.2).
    InvalidClient = "invalid_client", 401;
    /// The code or the refresh token is unknown, expired, used or not this client's (RFC 6749 §5.2).
    InvalidGrant = "invalid_grant", 400;
    /// The client may not use this grant (RFC 6749 §5.2).
    UnauthorizedClient = "unauthorized_client", 400;
    /// The server does not know this grant (RFC 6749 §5.2).
    UnsupportedGrantType = "unsupported_grant_type", 400;
    /// The server does not know this response type (RFC 6749 §4.1.2.1).
    UnsupportedResponseType = "unsupported_response_type", 400;
    /// The scope is unknown, malformed or wider than what was granted (RFC 6749 §5.2).
    InvalidScope = "invalid_scope", 400;
    /// The person or a policy said no (RFC 6749 §4.1.2.1).
    AccessDenied = "access_denied", 403;
    /// Something broke here (RFC 6749 §4.1.2.1).
    ServerError = "server_error", 500;
    /// The server cannot answer now (RFC 6749 §4.1.2.1).
    TemporarilyUnavailable = "temporarily_unavailable", 503;
    /// The access token is expired, revoked, malformed or not for this resource (RFC 6750 §3.1).
    InvalidToken = "invalid_token", 401;
    /// The access token does not carry the scope that is needed (RFC 6750 §3.1).
    InsufficientScope = "insufficient_scope", 403;
    /// The server cannot revoke this kind of token (RFC 7009 §2.2.1).
    UnsupportedTokenType = "unsupported_token_type", 400;
    /// No redirect URI of the registration is usable (RFC 7591 §3.2.2).
    InvalidRedirectUri = "invalid_redirect_uri", 400;
    /// A field of the registration cannot be honoured (RFC 7591 §3.2.2).
    InvalidClientMetadata = "invalid_client_metadata", 400;
    /// The resource is malformed, unknown or not the one that was granted (RFC 8707 §2).
    InvalidTarget = "invalid_target", 400;
    /// A login is needed, and `prompt=none` forbids it (OpenID Connect Core §3.1.2.6).
    LoginRequired = "login_required", 400;
    /// A consent is needed, and `prompt=none` forbids it (OpenID Connect Core §3.1.2.6).
    ConsentRequired = "consent_required", 400;
    /// The `request` parameter is not supported (OpenID Connect Core §3.1.2.6).
    RequestNotSupported = "request_not_supported", 400;
    /// The `request_uri` parameter is not supported (OpenID Connect Core §3.1.2.6).
    RequestUriNotSupported = "request_uri_not_supported", 400;
}

impl fmt::Display for OAuthErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error response (RFC 6749 §5.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{error}: {error_description}")]
pub struct OAuthError {
    /// The code that a program reads.
    pub error: OAuthErrorCode,
    /// What is wrong and what to do, for a person.
    #[serde(default)]
    pub error_description: Cow<'static, str>,
}

impl OAuthError {
    /// Makes an error response. Characters that RFC 6749 §5.2 does not allow in a description are replaced.
    #[must_use]
    pub fn new(error: OAuthErrorCode, description: impl Into<Cow<'static, str>>) -> Self {
        let description = description.into();
        let error_description = if description.chars().all(is_allowed) {
            description
        } else {
            Cow::Owned(description.chars().map(replace).collect())
        };
        Self { error, error_description }
    }

    pub(crate) fn invalid_request(description: impl Into<Cow<'static, str>>) -> Self {
        Self::new(OAuthErrorCode::InvalidRequest, description)
    }
}

/// RFC 6749 §5.2: `%x20-21 / %x23-5B / %x5D-7E`.
fn is_allowed(c: char) -> bool {
    matches!(c, '\x20'..='\x21' | '\x23'..='\x5b' | '\x5d'..='\x7e')
}

fn replace(c: char) -> char {
    match c {
        '"' => '\'',
        c if is_allowed(c) => c,
        _ => '?',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_on_the_wire_is_the_code_in_the_table() {
        for code in
            [OAuthErrorCode::InvalidRequest, OAuthErrorCode::InvalidTarget, OAuthErrorCode::InsufficientScope]
        {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }

    #[test]
    fn a_description_carries_only_allowed_characters() {
        let error = OAuthError::new(OAuthErrorCode::InvalidScope, "scope \"x\\y\"\r\nis ünknown");
        assert_eq!(error.error_description, "scope 'x?y'??is ?nknown");
    }
}
