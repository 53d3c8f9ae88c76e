//! Making access and ID tokens.

use chrono::{DateTime, Utc};
use portico_authn::Principal;
use portico_authz::Action;
use portico_db::StoreError;
use portico_ids::{PrincipalId, SessionId, TokenId};
use portico_oauth_types::{
    AccessTokenClaims, IdTokenClaims, OAuthError, Scope, ScopeSet, TokenResponse, left_half_hash,
};
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use crate::app::App;
use crate::domain::authorization::unknown_target;
use crate::domain::entitlement::roles_claim;
use crate::domain::issuer::Issuer;
use crate::domain::resource::Target;
use crate::domain::revocation;
use crate::jws::{ACCESS_TOKEN, ID_TOKEN, KeyFailure};
use crate::store::users::User;
use crate::trust::principal_key;

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MintError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Key(#[from] KeyFailure),
    /// The client can do something about it.
    #[error(transparent)]
    Refused(#[from] OAuthError),
}

/// Whose token is being made, and the moment that it will be issued at ([`App::issuing`]).
#[derive(Debug, Clone)]
pub(crate) struct Issuing {
    pub(crate) subject: PrincipalId,
    at: i64,
}

/// What a token shall say.
#[derive(Debug, Clone)]
pub(crate) struct Claimant<'a> {
    pub(crate) issuing: Issuing,
    pub(crate) client_id: &'a str,
    pub(crate) target: &'a Target,
    pub(crate) scopes: ScopeSet,
    pub(crate) grant_id: Option<Uuid>,
    pub(crate) session: Option<SessionId>,
}

/// What an ID token is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Login<'a> {
    pub(crate) issuer: &'a Issuer,
    pub(crate) user: &'a User,
    pub(crate) authenticated_at: DateTime<Utc>,
    pub(crate) nonce: Option<&'a str>,
}

impl App {
    /// Checks that a principal may use a target at all. What does not exist and what is not for it look alike.
    pub(crate) async fn check_target(
        &self,
        subject: &PrincipalId,
        target: &Target,
    ) -> Result<Vec<String>, MintError> {
        let roles = roles_claim(&self.stores.grants.of(&subject.to_string()).await?, target, &self.catalogue);
        let Target::Endpoint(name) = target else { return Ok(roles) };
        let endpoint = self.catalogue.find(name).ok_or_else(unknown_target)?;
        let principal = Principal {
            id: subject.clone(),
            client_id: String::new(),
            scopes: Scope::Mcp.into(),
            roles,
            token_id: String::new(),
            key_id: String::new(),
            grant_id: None,
            issued_at: self.clock.now(),
            expires_at: self.clock.now(),
        };
        if !self.authorizer.decide(&principal, Action::Use, &endpoint.resource()).allowed {
            return Err(unknown_target().into());
        }
        Ok(principal.roles)
    }

    /// Begins a token. Whatever decides about it has to be read after this: a change that comes in between then
    /// makes the token older than itself, and so revokes it (RS-27).
    pub(crate) async fn issuing(&self, subject: PrincipalId) -> Result<Issuing, StoreError> {
        let now = self.clock.now();
        let revoked = self.stores.trust.get(&principal_key(&subject.to_string())).await?;
        Ok(Issuing { at: revocation::issued_at(now, revoked.and_then(|row| row.not_before)), subject })
    }

    /// Makes an access token (RFC 9068 §2) with the roles that count for its audience.
    pub(crate) async fn access_token(&self, claimant: Claimant<'_>) -> Result<TokenResponse, MintError> {
        let Issuing { subject, at: iat } = claimant.issuing;
        let roles = self.check_target(&subject, claimant.target).await?;
        let lifetime = self.settings.token_lifetime().num_seconds();
        let claims = AccessTokenClaims {
            iss: self.resources.origin().to_owned(),
            sub: subject,
            aud: self.resources.uri(claimant.target),
            exp: iat + lifetime,
            iat,
            nbf: None,
            jti: TokenId::generate(&*self.clock, &*self.rng).to_string(),
            client_id: claimant.client_id.to_owned(),
            scope: claimant.scopes,
            roles,
            grant_id: claimant.grant_id.map(|id| id.to_string()),
            sid: claimant.session.map(|id| id.to_string()),
            cnf: None,
            act: None,
        };
        let token = self.keys.sign(ACCESS_TOKEN, &claims)?;
        self.counters.tokens_issued.inc();
        let expires_in = u64::try_from(lifetime).unwrap_or_default();
        Ok(TokenResponse::bearer(token, expires_in, claimant.scopes))
    }

    /// Makes an ID token (OpenID Connect Core §2) to go with an access token.
    pub(crate) fn id_token(
        &self,
        login: Login<'_>,
        claimant: &Claimant<'_>,
        access_token: &SecretString,
    ) -> Result<SecretString, KeyFailure> {
        let now = self.clock.now().timestamp();
        let profile = claimant.scopes.contains(Scope::Profile);
        let email = claimant.scopes.contains(Scope::Email) && !login.user.email.is_empty();
        self.keys.sign(
            ID_TOKEN,
            &IdTokenClaims {
                iss: login.issuer.id(),
                sub: claimant.issuing.subject.clone(),
                aud: claimant.client_id.to_owned(),
                exp: now + self.settings.token_lifetime().num_seconds(),
                iat: now,
                auth_time: Some(login.authenticated_at.timestamp()),
                nonce: login.nonce.map(str::to_owned),
                at_hash: Some(left_half_hash(access_token.expose_secret())),
                sid: claimant.session.map(|id| id.to_string()),
                name: profile.then(|| login.user.display_name.clone()).filter(|name| !name.is_empty()),
                preferred_username: profile.then(|| login.user.username.clone()),
                email: email.then(|| login.user.email.clone()),
                // Nobody has checked the addresses of local accounts.
                email_verified: email.then_some(false),
            },
        )
    }
}
