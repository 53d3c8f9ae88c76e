//! The token endpoint (RFC 6749 §3.2) and introspection (RFC 7662).

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize, Serializer};

use crate::{CodeVerifier, OAuthError, OAuthErrorCode, Parameters, ResourceUri, ScopeSet};

/// A grant that the token endpoint takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantType {
    /// A person allowed it (RFC 6749 §4.1).
    AuthorizationCode,
    /// A token that is renewed (RFC 6749 §6).
    RefreshToken,
    /// The client acts for itself (RFC 6749 §4.4).
    ClientCredentials,
}

impl GrantType {
    /// Every grant.
    pub const ALL: [Self; 3] = [Self::AuthorizationCode, Self::RefreshToken, Self::ClientCredentials];

    /// Returns the grant as requests name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AuthorizationCode => "authorization_code",
            Self::RefreshToken => "refresh_token",
            Self::ClientCredentials => "client_credentials",
        }
    }

    /// Reads a grant.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|grant| grant.as_str() == text)
    }
}

/// A token request without the client's authentication.
#[derive(Debug, Clone)]
pub enum TokenRequest {
    /// Redeems a code (RFC 6749 §4.1.3).
    AuthorizationCode {
        /// The code.
        code: SecretString,
        /// The redirect URI as it was in the authorization request.
        redirect_uri: Option<String>,
        /// Proves that the same program asked (RFC 7636 §4.5).
        code_verifier: CodeVerifier,
        /// Narrows what the token is for (RFC 8707 §2.2).
        resources: Vec<ResourceUri>,
    },
    /// Renews a token (RFC 6749 §6).
    RefreshToken {
        /// The refresh token.
        refresh_token: SecretString,
        /// Narrows the scope.
        scope: Option<ScopeSet>,
        /// Narrows what the token is for.
        resources: Vec<ResourceUri>,
    },
    /// Gets a token for the client itself (RFC 6749 §4.4.2).
    ClientCredentials {
        /// The scopes that are asked for; `None` means the default.
        scope: Option<ScopeSet>,
        /// What the token shall be for; empty means the default.
        resources: Vec<ResourceUri>,
    },
}

impl TokenRequest {
    /// Reads the body of a token request.
    pub fn parse(parameters: &Parameters) -> Result<Self, OAuthError> {
        let Some(grant) = GrantType::parse(parameters.require("grant_type")?) else {
            let message = "grant_type must be authorization_code, refresh_token or client_credentials";
            return Err(OAuthError::new(OAuthErrorCode::UnsupportedGrantType, message));
        };
        let resources = parameters.resources()?;
        match grant {
            GrantType::AuthorizationCode => Ok(Self::AuthorizationCode {
                code: SecretString::from(parameters.require("code")?),
                redirect_uri: parameters.get("redirect_uri").map(str::to_owned),
                code_verifier: CodeVerifier::parse(parameters.require("code_verifier")?)
                    .map_err(|error| OAuthError::invalid_request(error.to_string()))?,
                resources,
            }),
            GrantType::RefreshToken => Ok(Self::RefreshToken {
                refresh_token: SecretString::from(parameters.require("refresh_token")?),
                scope: parameters.scope()?,
                resources,
            }),
            GrantType::ClientCredentials => {
                Ok(Self::ClientCredentials { scope: parameters.scope()?, resources })
            }
        }
    }

    /// Returns which grant it is.
    #[must_use]
    pub const fn grant_type(&self) -> GrantType {
        match self {
            Self::AuthorizationCode { .. } => GrantType::AuthorizationCode,
            Self::RefreshToken { .. } => GrantType::RefreshToken,
            Self::ClientCredentials { .. } => GrantType::ClientCredentials,
        }
    }
}

/// A successful token response (RFC 6749 §5.1). It must be sent with `Cache-Control: no-store`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TokenResponse {
    /// The access token.
    #[serde(serialize_with = "expose")]
    pub access_token: SecretString,
    /// Always `Bearer` (RFC 6750 §4).
    pub token_type: String,
    /// Seconds until the access token ends.
    pub expires_in: u64,
    /// Renews the access token.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "expose_some")]
    pub refresh_token: Option<SecretString>,
    /// Who logged in (OpenID Connect Core §3.1.3.3).
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "expose_some")]
    pub id_token: Option<SecretString>,
    /// What the access token allows.
    #[serde(default)]
    pub scope: ScopeSet,
}

impl TokenResponse {
    /// Makes a response with an access token only.
    #[must_use]
    pub fn bearer(access_token: SecretString, expires_in: u64, scope: ScopeSet) -> Self {
        let token_type = "Bearer".to_owned();
        Self { access_token, token_type, expires_in, refresh_token: None, id_token: None, scope }
    }
}

/// What introspection says about a token (RFC 7662 §2.2); everything but `active` is absent for one that is not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntrospectionResponse {
    /// Whether the token can be used now.
    pub active: bool,
    /// What it allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<ScopeSet>,
    /// The client that it was issued to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The name of the subject for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// `Bearer` for access tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_type: Option<String>,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exp: Option<i64>,
    /// When it was issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iat: Option<i64>,
    /// Who acts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aud: Option<String>,
    /// Who issued it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// Its own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
}

/// Writes a secret to the client that it was made for.
pub(crate) fn expose<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}

/// Writes a secret, if there is one, to the client that it was made for.
#[expect(clippy::ref_option, reason = "the signature that serde calls")]
pub(crate) fn expose_some<S: Serializer>(
    secret: &Option<SecretString>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match secret {
        Some(secret) => expose(secret, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scope;

    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

    fn read(body: &str) -> Result<TokenRequest, OAuthErrorCode> {
        TokenRequest::parse(&Parameters::parse(body.as_bytes()).unwrap()).map_err(|error| error.error)
    }

    #[test]
    fn requests_of_every_grant_are_read() {
        for (body, grant) in [
            (
                format!("grant_type=authorization_code&code=c&code_verifier={VERIFIER}"),
                GrantType::AuthorizationCode,
            ),
            ("grant_type=refresh_token&refresh_token=r&scope=mcp".to_owned(), GrantType::RefreshToken),
            ("grant_type=client_credentials&resource=https://h/api".to_owned(), GrantType::ClientCredentials),
        ] {
            assert_eq!(read(&body).map(|request| request.grant_type()).ok(), Some(grant), "{body}");
        }
    }

    #[test]
    fn as_10_other_requests_are_refused_with_their_code() {
        use OAuthErrorCode as Code;
        for (body, code) in [
            ("", Code::InvalidRequest),
            ("grant_type=password&username=a&password=b", Code::UnsupportedGrantType),
            ("grant_type=authorization_code&code=c", Code::InvalidRequest),
            ("grant_type=authorization_code&code=c&code_verifier=short", Code::InvalidRequest),
            ("grant_type=refresh_token", Code::InvalidRequest),
            ("grant_type=refresh_token&refresh_token=r&scope=fly", Code::InvalidScope),
            ("grant_type=client_credentials&resource=h", Code::InvalidTarget),
        ] {
            assert_eq!(read(body).err(), Some(code), "{body}");
        }
    }

    #[test]
    fn a_response_has_its_wire_shape_and_hides_tokens_from_debug_output() {
        let mut response = TokenResponse::bearer("access".into(), 600, Scope::Mcp.into());
        response.refresh_token = Some("renewal".into());
        assert_eq!(
            serde_json::to_value(&response).unwrap(),
            serde_json::json!({
                "access_token": "access", "token_type": "Bearer", "expires_in": 600, "refresh_token": "renewal",
                "scope": "mcp",
            })
        );
        let shown = format!("{response:?}");
        assert!(!shown.contains("access\"") && !shown.contains("renewal"));
    }

    #[test]
    fn as_29_an_inactive_token_says_nothing_else() {
        let inactive = serde_json::to_string(&IntrospectionResponse::default()).unwrap();
        assert_eq!(inactive, r#"{"active":false}"#);
    }
}
