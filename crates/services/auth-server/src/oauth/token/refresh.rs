//! Renewing a token (RFC 6749 §6) with rotation, grace and reuse detection (AS-21, AS-22).

use portico_ids::PrincipalId;
use portico_oauth_types::{OAuthError, OAuthErrorCode, ResourceUri, Scope, ScopeSet, TokenResponse};
use portico_sealing::Aad;
use secrecy::{ExposeSecret as _, SecretString};

use super::{authorized_target, invalid_grant, same_issuer};
use crate::actor::{Actor, Deed};
use crate::app::{App, secret_hash};
use crate::domain::client::Client;
use crate::domain::resource::Target;
use crate::domain::rotation::{Verdict, judge};
use crate::domain::scopes;
use crate::http::context::Context;
use crate::http::failure::Failure;
use crate::store::families::{Family, RefreshToken, Rotation};
use crate::store::users::User;
use crate::tokens::{Claimant, Login};
use crate::trust::grant_revoked;

/// The one answer to a refresh token that gives nothing.
const REFUSED: &str = "the refresh token is unknown, expired, revoked or not for this client: sign in again";

pub(super) struct Renewal {
    pub(super) refresh_token: SecretString,
    pub(super) scope: Option<ScopeSet>,
    pub(super) resources: Vec<ResourceUri>,
}

pub(super) async fn grant(
    app: &App,
    context: &Context,
    client: &Client,
    renewal: Renewal,
) -> Result<TokenResponse, Failure> {
    let hash = secret_hash(renewal.refresh_token.expose_secret());
    let token = app.stores.families.find_token(&hash).await?.ok_or_else(|| invalid_grant(REFUSED))?;
    let family = app.stores.families.get(token.family_id).await?.ok_or_else(|| invalid_grant(REFUSED))?;
    if family.client_id != client.client_id || !same_issuer(&context.issuer, &family.issuer) {
        return Err(invalid_grant(REFUSED).into());
    }
    let target = authorized_target(app, client, &family.resource, &renewal.resources)?;
    let scopes = narrowed(&family, renewal.scope, &target)?;
    let issuing = app.issuing(PrincipalId::User(family.user_id)).await?;
    let user = app.stores.users.get(family.user_id).await?.filter(|user| !user.disabled);
    let epoch = user.as_ref().map(|user| user.epoch);
    let actor = context.actor.clone().acting_as(PrincipalId::User(family.user_id), &client.client_id);
    // Before the token is used up: a refusal here must not cost the client its chain.
    app.check_target(&PrincipalId::User(family.user_id), &target).await?;
    let Some(successor) = successor(app, &token, &family, epoch).await? else {
        revoke_reused(app, &actor, &family).await?;
        return Err(invalid_grant(REFUSED).into());
    };
    let Some(user) = user else { return Err(invalid_grant(REFUSED).into()) };
    let claimant = Claimant {
        issuing,
        client_id: &client.client_id,
        target: &target,
        scopes,
        grant_id: Some(family.id),
        session: Some(family.session_id),
    };
    let mut response = app.access_token(claimant.clone()).await?;
    if scopes.contains(Scope::Openid) {
        response.id_token =
            Some(id_token(app, context, &family, &user, (&claimant, &response.access_token))?);
    }
    response.refresh_token = Some(successor);
    app.record(&actor, Deed::done("token.refresh", &family.resource, &user.username)).await?;
    Ok(response)
}

fn id_token(
    app: &App,
    context: &Context,
    family: &Family,
    user: &User,
    (claimant, access_token): (&Claimant<'_>, &SecretString),
) -> Result<SecretString, Failure> {
    let authenticated_at = family.authenticated_at;
    // OpenID Connect Core §12.2: no nonce in an ID token from a refresh.
    let login = Login { issuer: &context.issuer, user, authenticated_at, nonce: None };
    Ok(app.id_token(login, claimant, access_token)?)
}

/// A refresh may ask for less, never for more (RFC 6749 §6).
fn narrowed(family: &Family, requested: Option<ScopeSet>, target: &Target) -> Result<ScopeSet, OAuthError> {
    let refuse = |message| OAuthError::new(OAuthErrorCode::InvalidScope, message);
    if requested.is_some_and(|requested| !family.scopes.covers_all(&requested)) {
        return Err(refuse("the scope is wider than what was authorized: authorize again"));
    }
    let scopes = scopes::carried_over(family.scopes, requested, target);
    if scopes.is_empty() {
        return Err(refuse("nothing that was authorized applies to this resource: authorize again"));
    }
    Ok(scopes)
}

/// Finds the next token of the chain; `None`: this one was used before, by somebody else.
async fn successor(
    app: &App,
    token: &RefreshToken,
    family: &Family,
    epoch: Option<i64>,
) -> Result<Option<SecretString>, Failure> {
    let mut token = token.clone();
    // Twice at most: who loses the race against another refresh sees that one's successor the second time.
    for _ in 0..2 {
        let successor_used = match &token.successor_hash {
            Some(hash) => {
                app.stores.families.find_token(hash).await?.is_none_or(|next| next.used_at.is_some())
            }
            None => false,
        };
        match judge(&token, family, epoch, successor_used, app.clock.now()) {
            Verdict::Dead => return Err(invalid_grant(REFUSED).into()),
            Verdict::Reused => return Ok(None),
            Verdict::Repeat => return open_successor(app, &token).map(Some),
            Verdict::Rotate => {
                if let Some(successor) = rotate(app, &token).await? {
                    return Ok(Some(successor));
                }
            }
        }
        token =
            app.stores.families.find_token(&token.token_hash).await?.ok_or_else(|| invalid_grant(REFUSED))?;
    }
    Err(invalid_grant(REFUSED).into())
}

/// Rotates with one compare-and-set; `None`: another refresh was first, or the family was revoked meanwhile.
async fn rotate(app: &App, token: &RefreshToken) -> Result<Option<SecretString>, Failure> {
    let now = app.clock.now();
    let successor = portico_ids::secret_token(&*app.rng);
    let row = hex(&token.token_hash);
    let sealed = app.sealer.seal(&aad(&row), successor.expose_secret().as_bytes());
    let rotated = app
        .stores
        .families
        .rotate(&Rotation {
            token_hash: &token.token_hash,
            successor_hash: &secret_hash(successor.expose_secret()),
            successor_sealed: &sealed,
            now,
            grace_until: now + app.settings.refresh_grace(),
        })
        .await?;
    Ok(rotated.then_some(successor))
}

fn open_successor(app: &App, token: &RefreshToken) -> Result<SecretString, Failure> {
    let row = hex(&token.token_hash);
    let sealed = token.successor_sealed.as_deref().unwrap_or_default();
    let opened = app.sealer.open(&aad(&row), sealed).ok();
    opened
        .and_then(|bytes| String::from_utf8(bytes.expose_secret().to_vec()).ok())
        .map(SecretString::from)
        .ok_or_else(|| {
            tracing::error!("a sealed refresh token does not open: is the key ring the right one?");
            Failure::Internal
        })
}

fn aad(row: &str) -> Aad<'_> {
    Aad { table: "refresh_tokens", row, field: "successor_sealed", version: 1 }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Kills the family of a token that came twice, with every access token of it (RFC 9700 §4.14.2).
async fn revoke_reused(app: &App, actor: &Actor, family: &Family) -> Result<(), Failure> {
    let grant = family.id.to_string();
    let deed = Deed { reason: "refresh_reused", ..Deed::done("grant.revoke", &grant, "") };
    let writes = [grant_revoked(&grant, app.clock.now(), app.settings.token_lifetime())];
    let change = app.change(actor, deed).publish(writes);
    app.stores.families.revoke(family.id, "refresh_reused", &change).await?;
    app.counters.refresh_reuses.inc();
    tracing::warn!(
        client.id = family.client_id,
        grant.id = grant,
        "refresh token was used twice, its family is revoked"
    );
    app.spread().await;
    Ok(())
}
