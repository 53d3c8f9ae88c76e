//! Metadata documents of the authorization server (RFC 8414, OpenID Connect Discovery) and of resources (RFC 9728).

use serde::{Deserialize, Serialize};

use crate::{AuthMethod, GrantType, ResourceUri, Scope};

/// Well-known names of the authorization server's metadata (RFC 8414 §3, OpenID Connect Discovery §4).
pub const SERVER_WELL_KNOWN: [&str; 2] =
    ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"];

/// Well-known name of a resource's metadata (RFC 9728 §3).
pub const PROTECTED_RESOURCE_WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// Returns every place where clients look for the metadata of `issuer` (RFC 8414 §3.1; OpenID Connect Discovery §4.1
/// appends where RFC 8414 inserts).
#[must_use]
pub fn metadata_urls(issuer: &ResourceUri) -> Vec<String> {
    let (origin, path) = (issuer.origin(), issuer.path());
    let mut urls: Vec<String> =
        SERVER_WELL_KNOWN.iter().map(|name| format!("{origin}{name}{path}")).collect();
    if !path.is_empty() {
        urls.push(format!("{origin}{path}{}", SERVER_WELL_KNOWN[1]));
    }
    urls
}

/// The metadata of the authorization server; the two well-known documents are this one (RFC 8414 §2,
/// OpenID Connect Discovery §3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorizationServerMetadata {
    /// The issuer, byte for byte as in every token (RFC 8414 §3.3).
    pub issuer: String,
    /// Where a browser starts.
    pub authorization_endpoint: String,
    /// Where a client gets tokens.
    pub token_endpoint: String,
    /// Where the public keys are.
    pub jwks_uri: String,
    /// Where a client pushes an authorization request (RFC 9126 §5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pushed_authorization_request_endpoint: Option<String>,
    /// Where a client registers itself (RFC 7591).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration_endpoint: Option<String>,
    /// Where a client revokes a token (RFC 7009).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation_endpoint: Option<String>,
    /// Where a token can be asked about (RFC 7662).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub introspection_endpoint: Option<String>,
    /// Where the claims about the person are (OpenID Connect Core §5.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub userinfo_endpoint: Option<String>,
    /// Scopes that a client may ask for.
    pub scopes_supported: Vec<String>,
    /// Only `code`.
    pub response_types_supported: Vec<String>,
    /// Only `query`.
    pub response_modes_supported: Vec<String>,
    /// Grants of the token endpoint.
    pub grant_types_supported: Vec<GrantType>,
    /// How clients authenticate at the token endpoint; `none` must be listed for public clients.
    pub token_endpoint_auth_methods_supported: Vec<AuthMethod>,
    /// Signature algorithms of client assertions (RFC 8414 §2: required with `private_key_jwt`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_endpoint_auth_signing_alg_values_supported: Option<Vec<String>>,
    /// Only `S256` (RFC 7636 §4.2).
    pub code_challenge_methods_supported: Vec<String>,
    /// Whether responses carry `iss` (RFC 9207 §3).
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
    /// Whether a client id may be the URL of the client's metadata.
    #[serde(default)]
    pub client_id_metadata_document_supported: bool,
    /// Only `public` (OpenID Connect Core §8).
    pub subject_types_supported: Vec<String>,
    /// Only `ES256` (OpenID Connect Discovery §3).
    pub id_token_signing_alg_values_supported: Vec<String>,
    /// Claims that an ID token may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims_supported: Option<Vec<String>>,
    /// Documentation for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_documentation: Option<String>,
}

impl AuthorizationServerMetadata {
    /// Makes the document of `issuer` with the endpoints that every deployment has; optional ones stay absent.
    #[must_use]
    pub fn new(issuer: String, endpoints: ServerEndpoints) -> Self {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Self {
            issuer,
            authorization_endpoint: endpoints.authorization,
            token_endpoint: endpoints.token,
            jwks_uri: endpoints.jwks,
            pushed_authorization_request_endpoint: None,
            registration_endpoint: None,
            revocation_endpoint: None,
            introspection_endpoint: None,
            userinfo_endpoint: None,
            scopes_supported: Scope::ALL.into_iter().map(|scope| scope.as_str().to_owned()).collect(),
            response_types_supported: words(&["code"]),
            response_modes_supported: words(&["query"]),
            grant_types_supported: GrantType::ALL.to_vec(),
            token_endpoint_auth_methods_supported: vec![
                AuthMethod::None,
                AuthMethod::ClientSecretBasic,
                AuthMethod::ClientSecretPost,
            ],
            token_endpoint_auth_signing_alg_values_supported: None,
            code_challenge_methods_supported: words(&["S256"]),
            authorization_response_iss_parameter_supported: true,
            client_id_metadata_document_supported: false,
            subject_types_supported: words(&["public"]),
            id_token_signing_alg_values_supported: words(&["ES256"]),
            claims_supported: None,
            service_documentation: None,
        }
    }
}

/// The endpoints that every authorization server here has.
#[derive(Debug, Clone)]
pub struct ServerEndpoints {
    /// Where a browser starts.
    pub authorization: String,
    /// Where a client gets tokens.
    pub token: String,
    /// Where the public keys are.
    pub jwks: String,
}

/// The metadata of a protected resource (RFC 9728 §2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProtectedResourceMetadata {
    /// The resource, byte for byte the URL that the client was given (RFC 9728 §3.3).
    pub resource: String,
    /// Who issues tokens for it.
    pub authorization_servers: Vec<String>,
    /// Scopes that a client needs; `offline_access` is not one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes_supported: Vec<String>,
    /// Only `header` (RFC 6750 §2.1).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bearer_methods_supported: Vec<String>,
    /// Its name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_name: Option<String>,
    /// Documentation for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_documentation: Option<String>,
}

impl ProtectedResourceMetadata {
    /// Makes the document of `resource`, whose tokens `issuer` issues.
    #[must_use]
    pub fn new(resource: &ResourceUri, issuer: &str, scopes: &[Scope]) -> Self {
        Self {
            resource: resource.to_string(),
            authorization_servers: vec![issuer.to_owned()],
            scopes_supported: scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
            bearer_methods_supported: vec!["header".to_owned()],
            resource_name: None,
            resource_documentation: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rs_02_rs_05_the_document_of_a_resource_has_its_wire_shape() {
        let resource = ResourceUri::parse("https://h/weather/mcp").unwrap();
        let metadata = ProtectedResourceMetadata::new(&resource, "https://h", &[Scope::Mcp]);
        insta::assert_json_snapshot!(metadata, @r#"
        {
          "resource": "https://h/weather/mcp",
          "authorization_servers": [
            "https://h"
          ],
          "scopes_supported": [
            "mcp"
          ],
          "bearer_methods_supported": [
            "header"
          ]
        }
        "#);
    }

    #[test]
    fn as_03_as_04_as_05_the_document_of_the_server_lists_s256_none_and_iss() {
        let endpoints = ServerEndpoints {
            authorization: "https://h/oauth2/authorize".to_owned(),
            token: "https://h/oauth2/token".to_owned(),
            jwks: "https://h/oauth2/jwks".to_owned(),
        };
        let metadata = AuthorizationServerMetadata::new("https://h".to_owned(), endpoints);
        insta::assert_json_snapshot!(metadata, @r#"
        {
          "issuer": "https://h",
          "authorization_endpoint": "https://h/oauth2/authorize",
          "token_endpoint": "https://h/oauth2/token",
          "jwks_uri": "https://h/oauth2/jwks",
          "scopes_supported": [
            "mcp",
            "registry:read",
            "registry:write",
            "admin",
            "openid",
            "profile",
            "email",
            "offline_access"
          ],
          "response_types_supported": [
            "code"
          ],
          "response_modes_supported": [
            "query"
          ],
          "grant_types_supported": [
            "authorization_code",
            "refresh_token",
            "client_credentials"
          ],
          "token_endpoint_auth_methods_supported": [
            "none",
            "client_secret_basic",
            "client_secret_post"
          ],
          "code_challenge_methods_supported": [
            "S256"
          ],
          "authorization_response_iss_parameter_supported": true,
          "client_id_metadata_document_supported": false,
          "subject_types_supported": [
            "public"
          ],
          "id_token_signing_alg_values_supported": [
            "ES256"
          ]
        }
        "#);
    }

    #[test]
    fn as_01_an_issuer_with_a_path_has_three_places() {
        let urls = metadata_urls(&ResourceUri::parse("https://a/t1").unwrap());
        assert_eq!(
            urls,
            [
                "https://a/.well-known/oauth-authorization-server/t1",
                "https://a/.well-known/openid-configuration/t1",
                "https://a/t1/.well-known/openid-configuration",
            ]
        );
    }
}
