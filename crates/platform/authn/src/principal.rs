//! Who a request acts as.

use chrono::{DateTime, Utc};
use portico_ids::PrincipalId;
use portico_oauth_types::{AccessTokenClaims, Scope, ScopeSet};

/// The subject of a verified access token and what the token allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Who acts.
    pub id: PrincipalId,
    /// The client that acts for them.
    pub client_id: String,
    /// What the token allows.
    pub scopes: ScopeSet,
    /// Roles: `ROLE_UUID` everywhere, `ROLE_UUID@ENDPOINT_NAME` on one endpoint.
    pub roles: Vec<String>,
    /// The token's own name (`jti`).
    pub token_id: String,
    /// The key that signed the token (`kid`).
    pub key_id: String,
    /// The grant that the token came from.
    pub grant_id: Option<String>,
    /// When the token was issued.
    pub issued_at: DateTime<Utc>,
    /// When the token ends.
    pub expires_at: DateTime<Utc>,
}

impl Principal {
    /// Tells whether the token allows what `scope` stands for.
    #[must_use]
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.covers(&scope)
    }

    /// Takes over checked claims; `None` if a time is outside the calendar.
    pub(crate) fn from_claims(claims: AccessTokenClaims, key_id: &str) -> Option<Self> {
        Some(Self {
            issued_at: DateTime::from_timestamp(claims.iat, 0)?,
            expires_at: DateTime::from_timestamp(claims.exp, 0)?,
            id: claims.sub,
            client_id: claims.client_id,
            scopes: claims.scope,
            roles: claims.roles,
            token_id: claims.jti,
            key_id: key_id.to_owned(),
            grant_id: claims.grant_id,
        })
    }
}
