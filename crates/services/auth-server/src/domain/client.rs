//! OAuth clients and what is known about them.

use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use chrono::{DateTime, Utc};
use portico_oauth_types::{
    AuthMethod, ClientMetadata, GrantType, OAuthError, RedirectKind, RedirectUri, RegistrationRequest,
};

use super::resource::Target;

/// The command line's own client: public, on a loopback port.
pub(crate) const CLI_CLIENT_ID: &str = "portico-cli";

/// Authentication methods of clients.
pub(crate) const AUTH_METHODS: [AuthMethod; 4] = AuthMethod::ALL;

/// Redirect URIs of services that register `none` and then insist on a secret (AS-31).
const WANT_A_SECRET: [&str; 4] = [
    "https://www.perplexity.ai/rest/connections/oauth_callback",
    "https://www.perplexity.com/rest/connections/oauth_callback",
    "https://enterprise.perplexity.ai/rest/connections/oauth_callback",
    "https://enterprise.perplexity.com/rest/connections/oauth_callback",
];

/// How a client came to be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Registration {
    /// It registered itself (RFC 7591); swept away when unused.
    Dynamic,
    /// An administrator registered it.
    Static,
    /// It comes with Portico.
    Builtin,
    /// Its id is the address of its metadata; swept away when unused.
    Document,
}

impl Registration {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Dynamic => "dynamic",
            Self::Static => "static",
            Self::Builtin => "builtin",
            Self::Document => "document",
        }
    }
}

/// The stored word is none of ours.
#[derive(Debug, thiserror::Error)]
#[error("not a known kind of registration")]
pub(crate) struct UnknownRegistration;

impl FromStr for Registration {
    type Err = UnknownRegistration;

    fn from_str(text: &str) -> Result<Self, UnknownRegistration> {
        [Self::Dynamic, Self::Static, Self::Builtin, Self::Document]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or(UnknownRegistration)
    }
}

/// A client.
#[expect(clippy::struct_field_names, reason = "client_id is the name of the protocol")]
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Client {
    pub(crate) client_id: String,
    pub(crate) metadata: ClientMetadata,
    pub(crate) secret_hash: Option<Vec<u8>>,
    pub(crate) registration: Registration,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) last_used_at: Option<DateTime<Utc>>,
}

impl Client {
    /// What people are shown: the name that the client gave itself, else its id.
    pub(crate) fn name(&self) -> &str {
        self.metadata.client_name.as_deref().unwrap_or(&self.client_id)
    }

    pub(crate) fn may(&self, grant: GrantType) -> bool {
        self.metadata.grant_types.contains(&grant)
    }

    /// Tells whether a token of an authorization for one target may be for another: every endpoint is a part of
    /// `/mcp`, and the command line that comes with Portico speaks for its person everywhere.
    pub(crate) fn may_ask_for(&self, authorized: &Target, wanted: &Target) -> bool {
        wanted == authorized
            || self.registration == Registration::Builtin
            || matches!((authorized, wanted), (Target::Root, Target::Endpoint(_)))
    }

    /// Hashes what a person sees when asked: a consent holds for exactly that (AS-15). Of a document that its server
    /// can change, everything counts.
    pub(crate) fn metadata_hash(&self) -> Vec<u8> {
        if self.registration == Registration::Document {
            // Strings, lists and names of ours always serialise.
            let all = serde_json::to_vec(&self.metadata).unwrap_or_default();
            return digest(&SHA256, &all).as_ref().to_vec();
        }
        let mut shown = self.name().to_owned();
        for text in self
            .metadata
            .client_uri
            .iter()
            .map(String::as_str)
            .chain(self.metadata.redirect_uris.iter().map(RedirectUri::as_str))
        {
            shown.push('\n');
            shown.push_str(text);
        }
        digest(&SHA256, shown.as_bytes()).as_ref().to_vec()
    }

    /// Tells whether an error may be sent here before any person has seen where that is. Otherwise whoever registers a
    /// client would have links that begin with this deployment's name and lead elsewhere (RFC 9700 §4.11.2).
    pub(crate) fn may_be_sent_errors(&self, redirect_uri: &RedirectUri) -> bool {
        let vouched_for = matches!(self.registration, Registration::Static | Registration::Builtin);
        vouched_for || redirect_uri.kind() != RedirectKind::Https
    }

    /// Tells whether an earlier consent may stand for a new one. Any program on a machine can listen on a loopback
    /// port or claim a private scheme, so those are asked about every time (RFC 8252 §8.6, AS-12).
    pub(crate) fn remembers_consent(redirect_uri: &RedirectUri) -> bool {
        redirect_uri.kind() == RedirectKind::Https
    }
}

/// Reads a registration (RFC 7591 §2, AS-30); known services that need a secret get one (AS-31).
pub(crate) fn register(mut request: RegistrationRequest) -> Result<ClientMetadata, OAuthError> {
    let uris = request.redirect_uris.as_deref().unwrap_or_default();
    let wants_secret = uris.iter().any(|uri| WANT_A_SECRET.contains(&uri.as_str()));
    if wants_secret && request.token_endpoint_auth_method.as_deref() == Some("none") {
        request.token_endpoint_auth_method = Some(AuthMethod::ClientSecretPost.as_str().to_owned());
    }
    ClientMetadata::from_request(request, &AUTH_METHODS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, uri: &str) -> RegistrationRequest {
        RegistrationRequest {
            redirect_uris: Some(vec![uri.into()]),
            token_endpoint_auth_method: Some(method.into()),
            ..RegistrationRequest::default()
        }
    }

    #[test]
    fn as_31_the_method_is_honoured_or_a_secret_is_given() {
        let method = |request| register(request).unwrap().token_endpoint_auth_method;
        assert_eq!(method(request("none", "http://127.0.0.1/cb")), AuthMethod::None);
        assert_eq!(
            method(request("client_secret_post", "https://a.example/cb")),
            AuthMethod::ClientSecretPost
        );
        assert_eq!(method(request("none", WANT_A_SECRET[0])), AuthMethod::ClientSecretPost);
    }

    #[test]
    fn as_15_the_metadata_hash_covers_what_is_shown() {
        let client = |name: &str, uri: &str| Client {
            client_id: "c".into(),
            metadata: register(RegistrationRequest {
                client_name: Some(name.into()),
                ..request("none", uri)
            })
            .unwrap(),
            secret_hash: None,
            registration: Registration::Dynamic,
            created_at: DateTime::UNIX_EPOCH,
            last_used_at: None,
        };
        let hash = client("A", "https://a.example/cb").metadata_hash();
        assert_eq!(hash, client("A", "https://a.example/cb").metadata_hash());
        assert_ne!(hash, client("B", "https://a.example/cb").metadata_hash());
        assert_ne!(hash, client("A", "https://b.example/cb").metadata_hash());
    }

    #[test]
    fn as_12_only_https_redirects_remember_a_consent() {
        let remembered = |uri: &str| Client::remembers_consent(&RedirectUri::parse(uri).unwrap());
        assert!(remembered("https://claude.ai/api/mcp/auth_callback"));
        assert!(!remembered("http://127.0.0.1:33418/"));
        assert!(!remembered("cursor://anysphere.cursor-mcp/oauth/callback"));
    }
}
