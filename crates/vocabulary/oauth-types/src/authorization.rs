//! The authorization request (RFC 6749 §4.1.1).

use crate::{CodeChallenge, OAuthError, OAuthErrorCode, Parameters, ResourceUri, ScopeSet};

/// Longest `state` and `nonce` that are taken.
const MAX_OPAQUE_BYTES: usize = 2048;

/// What the client asks about login and consent (OpenID Connect Core §3.1.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prompt {
    /// No page may be shown.
    None,
    /// The person logs in again.
    Login,
    /// The person is asked again.
    Consent,
}

/// Everything of an authorization request but the client and its redirect URI: these two are checked first, because
/// an error may be sent to a redirect URI only when it belongs to the client (RFC 6749 §4.1.2.1).
#[derive(Debug, Clone)]
pub struct AuthorizationRequest {
    /// The scopes that are asked for; `None` means the default.
    pub scope: Option<ScopeSet>,
    /// What the token shall be for; empty means the default.
    pub resources: Vec<ResourceUri>,
    /// The proof key.
    pub code_challenge: CodeChallenge,
    /// Bound into the ID token.
    pub nonce: Option<String>,
    /// What the client asks about login and consent.
    pub prompt: Option<Prompt>,
    /// How many seconds ago the login may have been (OpenID Connect Core §3.1.2.1).
    pub max_age: Option<u64>,
}

impl AuthorizationRequest {
    /// Reads the request behind `client_id`, `redirect_uri` and `state`.
    pub fn parse(parameters: &Parameters) -> Result<Self, OAuthError> {
        if parameters.get("request").is_some() {
            return Err(OAuthError::new(
                OAuthErrorCode::RequestNotSupported,
                "send plain parameters, not request",
            ));
        }
        if parameters.get("request_uri").is_some() {
            let message = "send plain parameters, not request_uri";
            return Err(OAuthError::new(OAuthErrorCode::RequestUriNotSupported, message));
        }
        if parameters.require("response_type")? != "code" {
            return Err(OAuthError::new(
                OAuthErrorCode::UnsupportedResponseType,
                "response_type must be code",
            ));
        }
        if parameters.get("response_mode").is_some_and(|mode| mode != "query") {
            return Err(OAuthError::invalid_request("response_mode must be query"));
        }
        let code_challenge = CodeChallenge::from_request(
            parameters.get("code_challenge"),
            parameters.get("code_challenge_method"),
        )
        .map_err(|error| OAuthError::invalid_request(error.to_string()))?;
        Ok(Self {
            scope: parameters.scope()?,
            resources: parameters.resources()?,
            code_challenge,
            nonce: opaque(parameters, "nonce")?,
            prompt: prompt(parameters.get("prompt"))?,
            max_age: max_age(parameters.get("max_age"))?,
        })
    }

    /// Reads `state`, which every response carries back as it came.
    pub fn state(parameters: &Parameters) -> Result<Option<String>, OAuthError> {
        opaque(parameters, "state")
    }
}

fn opaque(parameters: &Parameters, name: &'static str) -> Result<Option<String>, OAuthError> {
    match parameters.get(name) {
        Some(value) if value.len() > MAX_OPAQUE_BYTES => {
            Err(OAuthError::invalid_request(format!("the parameter {name} is longer than 2048 bytes")))
        }
        value => Ok(value.map(str::to_owned)),
    }
}

/// `none` stands alone (OpenID Connect Core §3.1.2.1); words that are unknown here are left out.
fn prompt(text: Option<&str>) -> Result<Option<Prompt>, OAuthError> {
    let mut strongest = None;
    let words: Vec<&str> = text.unwrap_or_default().split(' ').filter(|word| !word.is_empty()).collect();
    if words.contains(&"none") && words.len() > 1 {
        return Err(OAuthError::invalid_request("prompt=none goes with no other prompt"));
    }
    for word in words {
        strongest = match word {
            "none" => Some(Prompt::None),
            "login" | "select_account" => Some(Prompt::Login),
            "consent" if strongest.is_none() => Some(Prompt::Consent),
            _ => strongest,
        };
    }
    Ok(strongest)
}

fn max_age(text: Option<&str>) -> Result<Option<u64>, OAuthError> {
    text.map(|text| {
        text.parse().map_err(|_| OAuthError::invalid_request("max_age must be a number of seconds"))
    })
    .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scope;

    const PKCE: &str =
        "code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256";

    fn read(query: &str) -> Result<AuthorizationRequest, OAuthErrorCode> {
        AuthorizationRequest::parse(&Parameters::parse(query.as_bytes()).unwrap())
            .map_err(|error| error.error)
    }

    #[test]
    fn as_10_as_13_a_full_request_is_read() {
        let request = read(&format!(
            "response_type=code&{PKCE}&scope=mcp+openid&resource=https://h/mcp&nonce=n&prompt=consent+login&max_age=60"
        ))
        .unwrap();
        assert_eq!(request.scope, Some([Scope::Mcp, Scope::Openid].into_iter().collect()));
        assert_eq!(request.resources[0].as_str(), "https://h/mcp");
        assert_eq!((request.nonce.as_deref(), request.prompt), (Some("n"), Some(Prompt::Login)));
        assert_eq!(request.max_age, Some(60));
    }

    #[test]
    fn as_10_other_requests_are_refused_with_their_code() {
        use OAuthErrorCode as Code;
        let long = format!("response_type=code&{PKCE}&nonce={}", "n".repeat(2049));
        for (query, code) in [
            (PKCE, Code::InvalidRequest),
            ("response_type=code", Code::InvalidRequest),
            (
                "response_type=code&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
                Code::InvalidRequest,
            ),
            (&format!("response_type=token&{PKCE}"), Code::UnsupportedResponseType),
            (&format!("response_type=code id_token&{PKCE}"), Code::UnsupportedResponseType),
            (&format!("response_type=code&response_mode=fragment&{PKCE}"), Code::InvalidRequest),
            (&format!("response_type=code&request=x&{PKCE}"), Code::RequestNotSupported),
            (&format!("response_type=code&request_uri=x&{PKCE}"), Code::RequestUriNotSupported),
            (&format!("response_type=code&resource=mcp&{PKCE}"), Code::InvalidTarget),
            (&format!("response_type=code&prompt=none+login&{PKCE}"), Code::InvalidRequest),
            (&format!("response_type=code&max_age=-1&{PKCE}"), Code::InvalidRequest),
            (&long, Code::InvalidRequest),
        ] {
            assert_eq!(read(query).err(), Some(code), "{query}");
        }
    }
}
