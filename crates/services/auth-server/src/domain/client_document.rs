//! Clients whose id is the address of their metadata (draft-ietf-oauth-client-id-metadata-document, AS-32): which
//! addresses and documents are taken, and for how long.

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::HeaderMap;
use http::header::{AGE, CACHE_CONTROL, CONTENT_TYPE, EXPIRES};
use portico_oauth_types::{
    AuthMethod, ClientMetadata, OAuthError, OAuthErrorCode, RedirectKind, RedirectUri, RegistrationRequest,
};
use serde::Deserialize;
use serde_json::Value;

/// Longest document that is read (draft §6.6).
pub(crate) const MAX_BYTES: usize = 5 * 1024;
/// A document is kept at least this long, so that its server cannot make every request slow.
const SHORTEST: Duration = Duration::from_mins(5);
/// And at most this long, so that a withdrawn key or address ends.
const LONGEST: Duration = Duration::from_hours(24);
/// Methods without a shared secret (draft §4.1).
const METHODS: [AuthMethod; 2] = [AuthMethod::None, AuthMethod::PrivateKeyJwt];

/// Why there is no client behind an address.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoDocument {
    #[error(
        "the client_id is not the address of client metadata: use https, a path, and no dot segments, fragment or \
         user name"
    )]
    Address,
    #[error(
        "clients of this host are not allowed here: ask an administrator to list the host or register the client"
    )]
    Host,
    #[error("the host of the client_id does not have a public address, so its metadata is not read")]
    NotPublic,
    #[error("the metadata of this client cannot be read at the moment: try again in a minute")]
    Unreachable,
    #[error("the client_id was answered with status {0}: its metadata must be there itself, with status 200")]
    Status(u16),
    #[error("the client_id does not lead to JSON: serve the metadata as application/json")]
    ContentType,
    #[error("the metadata of this client is longer than 5 KiB: shorten it")]
    TooLong,
    #[error("the metadata of this client is not a JSON object with its fields in the right types")]
    Malformed,
    #[error(
        "the metadata names another client_id than its own address: both must be the same, letter by letter"
    )]
    OtherId,
    #[error("the metadata contains a client secret: everybody can read it, so use none or private_key_jwt")]
    Secret,
    #[error("the metadata of this client cannot be used: {0}")]
    Metadata(String),
}

impl NoDocument {
    /// Tells whether it may work in a while, so that a client should not forget what it knows.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable | Self::Status(408 | 429 | 500..=599))
    }
}

impl From<NoDocument> for OAuthError {
    fn from(reason: NoDocument) -> Self {
        let code = if reason.is_passing() {
            OAuthErrorCode::TemporarilyUnavailable
        } else {
            OAuthErrorCode::InvalidClient
        };
        Self::new(code, reason.to_string())
    }
}

/// Tells whether a client id claims to be an address.
pub(crate) fn is_address(client_id: &str) -> bool {
    client_id.starts_with("https://")
}

/// Checks the address (draft §3) and returns its host. The rules beyond those of redirect URIs: https and a path.
pub(crate) fn host(client_id: &str) -> Result<String, NoDocument> {
    let uri = RedirectUri::parse(client_id).map_err(|_| NoDocument::Address)?;
    let authority = uri.receiver();
    let tail = client_id.strip_prefix("https://").and_then(|rest| rest.strip_prefix(authority));
    let path = tail.and_then(|tail| tail.split('?').next()).unwrap_or_default();
    if uri.kind() != RedirectKind::Https || path.len() < 2 {
        return Err(NoDocument::Address);
    }
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    Ok(host.to_ascii_lowercase())
}

/// Tells whether an answer is JSON.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let media = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media == "application/json" || (media.starts_with("application/") && media.ends_with("+json"))
}

/// The fields that matter beside those of a registration.
#[derive(Deserialize)]
struct Document {
    client_id: String,
    #[serde(default)]
    client_secret: Option<Value>,
    #[serde(default)]
    client_secret_expires_at: Option<Value>,
    #[serde(flatten)]
    metadata: RegistrationRequest,
}

/// Reads a document (draft §4.1).
pub(crate) fn read(client_id: &str, body: &[u8]) -> Result<ClientMetadata, NoDocument> {
    // The parser would take an array as an object without names.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(NoDocument::Malformed);
    }
    let document: Document = serde_json::from_slice(body).map_err(|_| NoDocument::Malformed)?;
    if document.client_id != client_id {
        return Err(NoDocument::OtherId);
    }
    if document.client_secret.is_some() || document.client_secret_expires_at.is_some() {
        return Err(NoDocument::Secret);
    }
    let mut request = document.metadata;
    // The default of RFC 7591 is a secret, which these clients cannot have.
    request.token_endpoint_auth_method.get_or_insert_with(|| AuthMethod::None.as_str().to_owned());
    ClientMetadata::from_request(request, &METHODS)
        .map_err(|error| NoDocument::Metadata(error.error_description.into_owned()))
}

/// Returns how long a document is fresh by its answer (RFC 9111 §4.2), within our bounds.
pub(crate) fn lifetime(headers: &HeaderMap, now: DateTime<Utc>) -> Duration {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let mut stated = text(EXPIRES)
        .and_then(|date| DateTime::parse_from_rfc2822(date).ok())
        .and_then(|expires| (expires.to_utc() - now).to_std().ok());
    let lines = headers.get_all(CACHE_CONTROL).iter().filter_map(|line| line.to_str().ok());
    for directive in lines.flat_map(|line| line.split(',')) {
        let directive = directive.trim().to_ascii_lowercase();
        if directive == "no-store" || directive == "no-cache" {
            return SHORTEST;
        }
        if let Some(seconds) = directive.strip_prefix("max-age=") {
            let age = text(AGE).and_then(|age| age.parse().ok()).unwrap_or(0);
            stated = seconds
                .trim_matches('"')
                .parse::<u64>()
                .ok()
                .map(|max| Duration::from_secs(max.saturating_sub(age)));
        }
    }
    stated.unwrap_or(SHORTEST).clamp(SHORTEST, LONGEST)
}

#[cfg(test)]
mod tests {
    use http::header::HeaderName;
    use serde_json::json;

    use super::*;

    const ID: &str = "https://client.example/metadata.json";

    fn with(changes: Value) -> Result<ClientMetadata, NoDocument> {
        let mut document = json!({"client_id": ID, "redirect_uris": ["https://client.example/callback"]});
        let Value::Object(changes) = changes else { panic!("not an object") };
        document.as_object_mut().unwrap().extend(changes);
        read(ID, document.to_string().as_bytes())
    }

    #[test]
    fn as_32_only_plain_https_addresses_with_a_path_are_client_ids() {
        for (id, expected) in [
            (ID, "client.example"),
            ("https://client.example:8443/a/b?c=d", "client.example"),
            ("https://CLIENT.example/a", "client.example"),
            ("https://[2001:db8::1]/a", "[2001:db8::1]"),
        ] {
            assert_eq!(host(id).unwrap(), expected);
        }
        for id in [
            "http://client.example/metadata.json",
            "http://127.0.0.1/metadata.json",
            "https://client.example",
            "https://client.example/",
            "https://client.example?a=/b",
            "https://client.example/a/../b",
            "https://client.example/a/%2e%2E/b",
            "https://client.example/./b",
            "https://client.example/a#b",
            "https://user@client.example/a",
            "https://user:word@client.example/a",
            "https:///a",
            "https://client.example/a b",
        ] {
            assert_eq!(host(id), Err(NoDocument::Address), "{id}");
        }
    }

    #[test]
    fn as_32_documents_with_secrets_or_another_id_are_refused() {
        assert_eq!(with(json!({"client_id": format!("{ID}?")})), Err(NoDocument::OtherId));
        assert_eq!(with(json!({"client_secret": "s"})), Err(NoDocument::Secret));
        assert_eq!(with(json!({"client_secret_expires_at": 0})), Err(NoDocument::Secret));
        for method in ["client_secret_basic", "client_secret_post", "client_secret_jwt", "tls_client_auth"] {
            let read = with(json!({"token_endpoint_auth_method": method}));
            assert!(matches!(read, Err(NoDocument::Metadata(_))), "{method}");
        }
        let http = with(json!({"redirect_uris": ["http://client.example/"]}));
        assert!(matches!(http, Err(NoDocument::Metadata(_))));
        for body in ["", "[]", "not json", "{}", "{\"client_id\":1}"] {
            assert_eq!(read(ID, body.as_bytes()), Err(NoDocument::Malformed), "{body}");
        }
    }

    #[test]
    fn as_32_a_document_without_a_method_is_of_a_public_client() {
        let metadata = with(json!({"jwks": {"keys": [{"kty": "RSA", "n": "x", "e": "AQAB"}]}})).unwrap();
        assert_eq!(metadata.token_endpoint_auth_method, AuthMethod::None);
        assert!(matches!(
            with(
                json!({"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://client.example/jwks"})
            ),
            Err(NoDocument::Metadata(_))
        ));
    }

    #[test]
    fn as_32_documents_are_fresh_as_their_headers_say_within_bounds() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let fresh = |pairs: &[(HeaderName, &str)]| {
            let headers = pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
            lifetime(&headers, now).as_secs()
        };
        assert_eq!(fresh(&[]), 300);
        assert_eq!(fresh(&[(CACHE_CONTROL, "max-age=1")]), 300);
        assert_eq!(fresh(&[(CACHE_CONTROL, "public, max-age=3600")]), 3600);
        assert_eq!(fresh(&[(CACHE_CONTROL, "max-age=3600"), (AGE, "600")]), 3000);
        assert_eq!(fresh(&[(CACHE_CONTROL, "max-age=99999999")]), 86_400);
        assert_eq!(fresh(&[(CACHE_CONTROL, "max-age=3600, no-store")]), 300);
        assert_eq!(fresh(&[(EXPIRES, "Fri, 15 Jan 2027 09:00:00 GMT")]), 3600);
        assert_eq!(fresh(&[(EXPIRES, "0")]), 300);
    }
}
