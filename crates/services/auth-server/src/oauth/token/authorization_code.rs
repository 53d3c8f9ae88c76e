//! Redeeming an authorization code (RFC 6749 §4.1.3, AS-10).

use chrono::{DateTime, Utc};
use portico_db::StoreError;
use portico_ids::PrincipalId;
use portico_oauth_types::{CodeChallenge, CodeVerifier, ResourceUri, Scope, TokenResponse};
use secrecy::{ExposeSecret as _, SecretString};

use super::{authorized_target, invalid_grant, may_refresh, same_issuer};
use crate::actor::{Actor, Deed};
use crate::app::{App, secret_hash};
use crate::domain::client::Client;
use crate::domain::{rotation, scopes};
use crate::http::context::Context;
use crate::http::failure::Failure;
use crate::store::codes::{Code, Redeemed};
use crate::store::families::Family;
use crate::tokens::{Claimant, Login};
use crate::trust::grant_revoked;

/// The one answer to a code that gives nothing.
const REFUSED: &str = "the code is unknown, expired, used or not for this client: authorize again";

pub(super) struct Redemption {
    pub(super) code: SecretString,
    pub(super) redirect_uri: Option<String>,
    pub(super) code_verifier: CodeVerifier,
    pub(super) resources: Vec<ResourceUri>,
}

pub(super) async fn grant(
    app: &App,
    context: &Context,
    client: &Client,
    redemption: Redemption,
) -> Result<TokenResponse, Failure> {
    let now = app.clock.now();
    let code = match app.stores.codes.redeem(&secret_hash(redemption.code.expose_secret()), now).await? {
        Redeemed::Fresh(code) => code,
        Redeemed::Again(code) => {
            revoke(app, &context.actor, *code).await?;
            return Err(invalid_grant(REFUSED).into());
        }
        Redeemed::Unknown => return Err(invalid_grant(REFUSED).into()),
    };
    // The code is used up even if it does not fit: whoever guesses has one try.
    if !fits(&code, context, client, &redemption) {
        return Err(invalid_grant(REFUSED).into());
    }
    let target = authorized_target(app, client, &code.resource, &redemption.resources)?;
    let issuing = app.issuing(PrincipalId::User(code.user_id)).await?;
    let user = app.stores.users.get(code.user_id).await?;
    let user = user
        .filter(|user| !user.disabled && user.epoch == code.user_epoch)
        .ok_or_else(|| invalid_grant(REFUSED))?;
    let claimant = Claimant {
        issuing,
        client_id: &client.client_id,
        target: &target,
        scopes: scopes::carried_over(code.scopes, None, &target),
        grant_id: Some(code.family_id),
        session: Some(code.session_id),
    };
    let mut response = app.access_token(claimant.clone()).await?;
    if code.scopes.contains(Scope::Openid) {
        let login = Login {
            issuer: &context.issuer,
            user: &user,
            authenticated_at: code.authenticated_at,
            nonce: code.nonce.as_deref(),
        };
        response.id_token = Some(app.id_token(login, &claimant, &response.access_token)?);
    }
    response.refresh_token = may_refresh(client).then(|| portico_ids::secret_token(&*app.rng));
    let first = response.refresh_token.as_ref().map(|token| secret_hash(token.expose_secret()));
    let family = family(*code, now);
    let actor = context.actor.clone().acting_as(&claimant.issuing.subject, &client.client_id);
    let entry = app.entry(&actor, Deed::done("token.issue", &family.resource, &user.username));
    match app.stores.families.create(&family, first.as_deref(), &entry).await {
        Ok(()) => Ok(response),
        // The code came a second time meanwhile: nothing may come of it.
        Err(StoreError::AlreadyExists) => Err(invalid_grant(REFUSED).into()),
        Err(error) => Err(error.into()),
    }
}

fn family(code: Code, now: DateTime<Utc>) -> Family {
    Family {
        id: code.family_id,
        client_id: code.client_id,
        user_id: code.user_id,
        user_epoch: code.user_epoch,
        session_id: code.session_id,
        issuer: code.issuer,
        resource: code.resource,
        scopes: code.scopes,
        offline: code.scopes.contains(Scope::OfflineAccess),
        authenticated_at: code.authenticated_at,
        created_at: now,
        last_used_at: now,
        expires_at: now + rotation::ABSOLUTE,
        revoked_at: None,
    }
}

fn fits(code: &Code, context: &Context, client: &Client, redemption: &Redemption) -> bool {
    let proven = CodeChallenge::parse(&code.code_challenge)
        .is_ok_and(|challenge| challenge.verify(&redemption.code_verifier));
    // OAuth 2.1 §4.1.3 no longer asks for redirect_uri here; who sends it must send the same.
    let same_redirect = redemption.redirect_uri.as_ref().is_none_or(|uri| *uri == code.redirect_uri);
    proven
        && same_redirect
        && code.client_id == client.client_id
        && same_issuer(&context.issuer, &code.issuer)
}

/// A code that comes twice was stolen: what came of it ends (RFC 6749 §4.1.2).
async fn revoke(app: &App, actor: &Actor, code: Code) -> Result<(), Failure> {
    let grant = code.family_id.to_string();
    let actor = actor.clone().acting_as(PrincipalId::User(code.user_id), &code.client_id);
    let deed = Deed { reason: "code_reused", ..Deed::done("grant.revoke", &grant, "") };
    let writes = [grant_revoked(&grant, app.clock.now(), app.settings.token_lifetime())];
    let change = app.change(&actor, deed).publish(writes);
    tracing::warn!(client.id = code.client_id, "authorization code was used twice, its tokens are revoked");
    let now = app.clock.now();
    let killed = Family { revoked_at: Some(now), ..family(code, now) };
    // Twice at most: the first redemption may come to its end between the two steps.
    for _ in 0..2 {
        if app.stores.families.revoke(killed.id, "code_reused", &change).await? {
            app.spread().await;
            return Ok(());
        }
        // It may still be under way: a dead family takes its place, and it gives no token.
        match app.stores.families.create(&killed, None, &app.entry(&actor, deed)).await {
            Ok(()) => return Ok(()),
            Err(StoreError::AlreadyExists) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // It was dead already.
    Ok(())
}
