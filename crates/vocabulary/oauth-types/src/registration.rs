//! Dynamic client registration (RFC 7591). What a client registers never grants trust.

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::token::expose_some;
use crate::{
    AuthMethod, GrantType, InvalidRedirectUri, JwkSet, OAuthError, OAuthErrorCode, RedirectKind, RedirectUri,
    ScopeSet,
};

/// Longest body of a registration.
pub const MAX_REGISTRATION_BYTES: usize = 16 * 1024;

/// Most redirect URIs of one client.
pub const MAX_REDIRECT_URIS: usize = 10;

/// Longest text of a client that is shown to people.
const MAX_NAME_CHARS: usize = 100;

/// A registration as it arrives (RFC 7591 §2). Fields that are not here are ignored.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct RegistrationRequest {
    /// Where responses may go.
    #[serde(default)]
    pub redirect_uris: Option<Vec<String>>,
    /// How the client wants to authenticate.
    #[serde(default)]
    pub token_endpoint_auth_method: Option<String>,
    /// Grants that it wants to use.
    #[serde(default)]
    pub grant_types: Option<Vec<String>>,
    /// Response types that it wants to use.
    #[serde(default)]
    pub response_types: Option<Vec<String>>,
    /// Its name for people.
    #[serde(default)]
    pub client_name: Option<String>,
    /// Its home page.
    #[serde(default)]
    pub client_uri: Option<String>,
    /// Scopes that it may ask for.
    #[serde(default)]
    pub scope: Option<String>,
    /// `web` or `native` (OpenID Connect Registration §2).
    #[serde(default)]
    pub application_type: Option<String>,
    /// Its public keys, for `private_key_jwt`.
    #[serde(default)]
    pub jwks: Option<JwkSet>,
    /// Names the software across deployments.
    #[serde(default)]
    pub software_id: Option<String>,
    /// Its version.
    #[serde(default)]
    pub software_version: Option<String>,
    /// Whether only pushed authorization requests of the client shall count (RFC 9126 §6).
    #[serde(default)]
    pub require_pushed_authorization_requests: Option<bool>,
}

/// Where a client runs (OpenID Connect Registration §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ApplicationType {
    /// On a server.
    Web,
    /// On a person's machine.
    Native,
}

/// The metadata of a client as it is kept and echoed (RFC 7591 §3.2.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientMetadata {
    /// Where responses may go: the usable ones of the request.
    pub redirect_uris: Vec<RedirectUri>,
    /// How the client authenticates.
    pub token_endpoint_auth_method: AuthMethod,
    /// Grants that it may use.
    pub grant_types: Vec<GrantType>,
    /// Only `code`.
    pub response_types: Vec<String>,
    /// Its name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_name: Option<String>,
    /// Its home page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_uri: Option<String>,
    /// Scopes that it may ask for; `None` means no limit of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<ScopeSet>,
    /// Where it runs.
    pub application_type: ApplicationType,
    /// Its public keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<JwkSet>,
    /// Names the software across deployments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software_id: Option<String>,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software_version: Option<String>,
    /// Whether only pushed authorization requests count (RFC 9126 §6).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub require_pushed_authorization_requests: bool,
}

impl ClientMetadata {
    /// Keeps what can be honoured and refuses what cannot (RFC 7591 §3.2.2). `supported` lists the authentication
    /// methods of this server.
    pub fn from_request(request: RegistrationRequest, supported: &[AuthMethod]) -> Result<Self, OAuthError> {
        let redirect_uris = usable_redirect_uris(request.redirect_uris.as_deref().unwrap_or_default())?;
        let method = auth_method(request.token_endpoint_auth_method.as_deref(), supported)?;
        if method == AuthMethod::PrivateKeyJwt
            && request.jwks.as_ref().is_none_or(|jwks| jwks.keys.is_empty())
        {
            return Err(refused("private_key_jwt needs jwks with at least one EC P-256 key"));
        }
        let types = request.response_types.as_deref();
        if types.is_some_and(|types| !types.is_empty() && !types.iter().any(|one| one == "code")) {
            return Err(refused("response_types must contain code"));
        }
        Ok(Self {
            application_type: application_type(request.application_type.as_deref(), &redirect_uris),
            redirect_uris,
            token_endpoint_auth_method: method,
            grant_types: grant_types(request.grant_types.as_deref())?,
            response_types: vec!["code".to_owned()],
            client_name: request.client_name.as_deref().and_then(plain_text),
            client_uri: request.client_uri.filter(|uri| is_https(uri)),
            scope: registered_scope(request.scope.as_deref())?,
            jwks: request.jwks,
            software_id: request.software_id.as_deref().and_then(plain_text),
            software_version: request.software_version.as_deref().and_then(plain_text),
            require_pushed_authorization_requests: request
                .require_pushed_authorization_requests
                .unwrap_or_default(),
        })
    }

    /// Tells whether one of the registered URIs allows `requested`.
    #[must_use]
    pub fn allows_redirect(&self, requested: &RedirectUri) -> bool {
        self.redirect_uris.iter().any(|registered| registered.matches(requested))
    }
}

/// What the client gets back (RFC 7591 §3.2.1).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClientInformation {
    /// The name by which the server knows the client.
    pub client_id: String,
    /// When it was registered, in seconds since 1970.
    pub client_id_issued_at: i64,
    /// Its secret, shown once.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "expose_some")]
    pub client_secret: Option<SecretString>,
    /// When the secret ends; 0 means never. Required beside a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret_expires_at: Option<i64>,
    /// What was registered.
    #[serde(flatten)]
    pub metadata: ClientMetadata,
}

/// Leaves out URIs that cannot be used as long as one remains: clients register several, and give up when a server
/// refuses all for one.
fn usable_redirect_uris(texts: &[String]) -> Result<Vec<RedirectUri>, OAuthError> {
    if texts.len() > MAX_REDIRECT_URIS {
        let message = "redirect_uris has more than 10 entries: register fewer";
        return Err(OAuthError::new(OAuthErrorCode::InvalidRedirectUri, message));
    }
    let mut usable = Vec::new();
    let mut first_refusal: Option<InvalidRedirectUri> = None;
    for text in texts {
        match RedirectUri::parse(text) {
            Ok(uri) if usable.contains(&uri) => {}
            Ok(uri) => usable.push(uri),
            Err(error) => first_refusal = first_refusal.or(Some(error)),
        }
    }
    match first_refusal {
        _ if !usable.is_empty() => Ok(usable),
        Some(error) => Err(OAuthError::new(OAuthErrorCode::InvalidRedirectUri, error.to_string())),
        None => Err(OAuthError::new(
            OAuthErrorCode::InvalidRedirectUri,
            "redirect_uris is empty: register at least one",
        )),
    }
}

/// RFC 7591 §2: without a wish it is `client_secret_basic`.
fn auth_method(wish: Option<&str>, supported: &[AuthMethod]) -> Result<AuthMethod, OAuthError> {
    let wish = wish.unwrap_or(AuthMethod::ClientSecretBasic.as_str());
    AuthMethod::parse(wish).filter(|method| supported.contains(method)).ok_or_else(|| {
        let names: Vec<&str> = supported.iter().map(|method| method.as_str()).collect();
        refused(format!("token_endpoint_auth_method must be one of: {}", names.join(", ")))
    })
}

/// RFC 7591 §2: without a wish it is the authorization code. A client cannot give itself an identity of its own, so
/// client credentials are left out as unknown grants are.
fn grant_types(wishes: Option<&[String]>) -> Result<Vec<GrantType>, OAuthError> {
    let Some(wishes) = wishes.filter(|wishes| !wishes.is_empty()) else {
        return Ok(vec![GrantType::AuthorizationCode]);
    };
    if !wishes.iter().any(|wish| wish == GrantType::AuthorizationCode.as_str()) {
        return Err(refused("grant_types must contain authorization_code"));
    }
    let mut kept = vec![GrantType::AuthorizationCode];
    if wishes.iter().any(|wish| wish == GrantType::RefreshToken.as_str()) {
        kept.push(GrantType::RefreshToken);
    }
    Ok(kept)
}

fn registered_scope(text: Option<&str>) -> Result<Option<ScopeSet>, OAuthError> {
    let known = text.map(ScopeSet::parse_known).transpose().map_err(|error| refused(error.to_string()))?;
    Ok(known.filter(|scopes| !scopes.is_empty()))
}

/// Without a word of the client, its URIs tell (OpenID Connect Registration §2).
fn application_type(wish: Option<&str>, uris: &[RedirectUri]) -> ApplicationType {
    match wish {
        Some("native") => ApplicationType::Native,
        _ if uris.iter().any(|uri| uri.kind() != RedirectKind::Https) => ApplicationType::Native,
        _ => ApplicationType::Web,
    }
}

/// Takes out what could make a text look like another one: control, bidirectional and invisible characters.
fn plain_text(text: &str) -> Option<String> {
    let shown: String = text.chars().filter(|c| !c.is_control() && !is_invisible(*c)).collect();
    let short: String = shown.trim().chars().take(MAX_NAME_CHARS).collect();
    Some(short.trim_end().to_owned()).filter(|name| !name.is_empty())
}

/// Unicode format characters (general category Cf), variation selectors and the line and paragraph separators.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{115f}' | '\u{1160}'
        | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

fn is_https(text: &str) -> bool {
    RedirectUri::parse(text).is_ok_and(|uri| uri.kind() == RedirectKind::Https)
}

fn refused(description: impl Into<std::borrow::Cow<'static, str>>) -> OAuthError {
    OAuthError::new(OAuthErrorCode::InvalidClientMetadata, description)
}

#[cfg(test)]
mod tests;
