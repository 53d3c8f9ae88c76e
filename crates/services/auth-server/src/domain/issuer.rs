//! The issuer and its variants bound to one endpoint: the same server, another default resource (AS-01, AS-02).

use portico_ids::EndpointName;
use portico_oauth_types::{AuthMethod, AuthorizationServerMetadata, ServerEndpoints};

use super::resource::Target;

/// An issuer as clients see it. Access tokens always carry the deployment's own issuer; ID tokens and authorization
/// responses carry this one, because clients compare it with the metadata that they read (RFC 9207 §2.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Issuer {
    origin: String,
    endpoint: Option<EndpointName>,
}

impl Issuer {
    pub(crate) fn new(public_origin: &str, endpoint: Option<EndpointName>) -> Self {
        Self { origin: public_origin.to_owned(), endpoint }
    }

    /// Returns the identifier, byte for byte what the metadata URL was made from.
    pub(crate) fn id(&self) -> String {
        match &self.endpoint {
            None => self.origin.clone(),
            Some(name) => format!("{}/issuer/{name}", self.origin),
        }
    }

    /// Returns how it is stored: the endpoint's name, empty for the deployment's own.
    pub(crate) fn key(&self) -> &str {
        self.endpoint.as_ref().map_or("", EndpointName::as_str)
    }

    /// Returns what a request without `resource` is for (Q19).
    pub(crate) fn default_target(&self) -> Target {
        self.endpoint.clone().map_or(Target::Root, Target::Endpoint)
    }

    /// Makes the document that both well-known names serve (RFC 8414 §2, OpenID Connect Discovery §3).
    pub(crate) fn metadata(&self, registration: bool) -> AuthorizationServerMetadata {
        let id = self.id();
        let endpoint = |name: &str| format!("{id}/oauth2/{name}");
        let mut document = AuthorizationServerMetadata::new(
            id.clone(),
            ServerEndpoints {
                authorization: endpoint("authorize"),
                token: endpoint("token"),
                jwks: endpoint("jwks"),
            },
        );
        document.pushed_authorization_request_endpoint = Some(endpoint("par"));
        document.registration_endpoint = registration.then(|| endpoint("register"));
        document.revocation_endpoint = Some(endpoint("revoke"));
        document.introspection_endpoint = Some(endpoint("introspect"));
        document.userinfo_endpoint = Some(endpoint("userinfo"));
        document.token_endpoint_auth_methods_supported = AuthMethod::ALL.to_vec();
        document.token_endpoint_auth_signing_alg_values_supported = Some(vec!["ES256".to_owned()]);
        document.claims_supported = Some(
            ["iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "at_hash", "sid", "name"]
                .into_iter()
                .chain(["preferred_username", "email", "email_verified"])
                .map(str::to_owned)
                .collect(),
        );
        document
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issuer(endpoint: Option<&str>) -> Issuer {
        Issuer::new("https://portico.example", endpoint.map(|name| EndpointName::parse(name).unwrap()))
    }

    #[test]
    fn as_02_every_endpoint_of_the_document_is_under_its_issuer() {
        for issuer in [issuer(None), issuer(Some("time"))] {
            let document = issuer.metadata(true);
            assert_eq!(document.issuer, issuer.id());
            assert_eq!(document.token_endpoint, format!("{}/oauth2/token", issuer.id()));
        }
        assert_eq!(issuer(Some("time")).id(), "https://portico.example/issuer/time");
    }

    #[test]
    fn as_03_as_04_as_05_the_document_says_what_clients_look_for() {
        let document = serde_json::to_value(issuer(None).metadata(true)).unwrap();
        assert_eq!(document["code_challenge_methods_supported"], serde_json::json!(["S256"]));
        let methods = document["token_endpoint_auth_methods_supported"].as_array().unwrap();
        assert!(methods.iter().any(|method| method == "none"));
        assert_eq!(document["authorization_response_iss_parameter_supported"], true);
        assert_eq!(document["response_modes_supported"], serde_json::json!(["query"]));
        assert!(document["scopes_supported"].as_array().unwrap().len() >= 8);
        assert!(document.get("authorization_grant_profiles_supported").is_none());
        for endpoint in [
            "revocation_endpoint",
            "introspection_endpoint",
            "userinfo_endpoint",
            "pushed_authorization_request_endpoint",
        ] {
            assert!(document[endpoint].as_str().unwrap().starts_with("https://portico.example/oauth2/"));
        }
    }

    #[test]
    fn as_13_a_bound_issuer_has_its_endpoint_as_default_resource() {
        assert_eq!(issuer(None).default_target(), Target::Root);
        assert_eq!(
            issuer(Some("time")).default_target(),
            Target::Endpoint(EndpointName::parse("time").unwrap())
        );
    }
}
