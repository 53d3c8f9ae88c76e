//! Who calls a service: a principal with a token, or another service of the deployment.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{Extensions, HeaderMap};
use portico_oauth_types::{ResourceUri, ScopeSet};
use portico_transport::{PeerIdentity, grpc_error};
use tonic::{Code, Status};

use crate::{Principal, TokenRejected, Verifier};

/// Who sent a request; a request extension that only the layers of this crate insert.
#[derive(Debug, Clone)]
pub enum Caller {
    /// Someone with an access token for the management plane.
    Principal(Arc<Principal>),
    /// A service of this deployment, known by its certificate or by the in-process link.
    Service(PeerIdentity),
}

impl Caller {
    /// Returns who sent a gRPC request. Without the layer nobody did: the request is refused.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<&Self, Status> {
        Self::from_extensions(request.extensions()).ok_or_else(|| unauthenticated(TokenRejected::MISSING))
    }

    /// Returns who sent an HTTP request.
    #[must_use]
    pub fn from_extensions(extensions: &Extensions) -> Option<&Self> {
        extensions.get()
    }
}

/// Makes the gRPC answer for a refused token.
pub(crate) fn unauthenticated(rejected: TokenRejected) -> Status {
    let code = if rejected.unavailable { Code::Unavailable } else { Code::Unauthenticated };
    grpc_error(code, rejected.code, rejected.to_string())
}

/// Turns the credentials of a request into a [`Caller`].
#[derive(Debug, Clone)]
pub(crate) struct Authenticator {
    verifier: Verifier,
    audience: Arc<ResourceUri>,
}

impl Authenticator {
    pub(crate) fn new(verifier: Verifier, audience: ResourceUri) -> Self {
        Self { verifier, audience: Arc::new(audience) }
    }

    /// A peer identity comes only from inside the deployment and wins; everyone else needs a token.
    pub(crate) fn caller(
        &self,
        extensions: &Extensions,
        headers: &HeaderMap,
    ) -> Result<Caller, TokenRejected> {
        if let Some(peer) = extensions.get::<PeerIdentity>() {
            return Ok(Caller::Service(peer.clone()));
        }
        let token = bearer_token(headers)?;
        self.verifier.verify(token, self.audience.as_str()).map(Caller::Principal)
    }
}

/// Returns the bearer token of a request (RFC 6750 §2.1). Tokens in a query or a body are never looked at (RS-24).
pub fn bearer_token(headers: &HeaderMap) -> Result<&str, TokenRejected> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(TokenRejected::MISSING)?;
    if values.next().is_some() {
        return Err(TokenRejected::CREDENTIALS);
    }
    let text = value.to_str().map_err(|_| TokenRejected::CREDENTIALS)?;
    let (scheme, token) = text.split_once(' ').ok_or(TokenRejected::CREDENTIALS)?;
    let token = token.trim_matches(' ');
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() || token.contains([' ', ',']) {
        return Err(TokenRejected::CREDENTIALS);
    }
    Ok(token)
}

/// Writes the `WWW-Authenticate` challenge of a resource (RFC 9728 §5.1, RFC 6750 §3). Without a token there is no
/// error to tell (RFC 6750 §3.1).
#[must_use]
pub fn challenge(resource: &ResourceUri, scopes: ScopeSet, rejected: TokenRejected) -> String {
    let metadata = resource.metadata_url();
    let scope = if scopes.is_empty() { String::new() } else { format!(", scope=\"{scopes}\"") };
    let error = if rejected == TokenRejected::MISSING {
        String::new()
    } else {
        format!(", error=\"invalid_token\", error_description=\"{rejected}\"")
    };
    format!("Bearer resource_metadata=\"{metadata}\"{scope}{error}")
}

#[cfg(test)]
mod tests;
