//! `POST /oauth2/revoke` (RFC 7009): always 200, whatever the token was (AS-29).

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use chrono::DateTime;
use http::{HeaderMap, StatusCode};
use portico_ids::PrincipalId;
use portico_oauth_types::AccessTokenClaims;

use super::client_auth::authenticate;
use crate::actor::{Actor, Deed};
use crate::app::{App, Shared, secret_hash};
use crate::http::context::Context;
use crate::http::failure::{Failure, no_store};
use crate::jws::{self, ACCESS_TOKEN};
use crate::trust::{grant_revoked, token_revoked};

pub(crate) async fn handle(
    State(app): State<Shared>,
    context: Context,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Failure> {
    let parameters = super::form(&headers, &body)?;
    let client_id = authenticate(&app, &context, &headers, &parameters).await?.client_id();
    let token = parameters.require("token")?;
    let actor = Actor { client_id: client_id.clone(), ..context.actor };
    // The hint only says where to look first (RFC 7009 §2.1); both places are cheap.
    if !revoke_refresh(&app, &actor, token).await? {
        revoke_access(&app, &actor, token).await?;
    }
    Ok(no_store(StatusCode::OK))
}

/// Revokes a refresh token of this client and with it every access token of the same grant.
async fn revoke_refresh(app: &App, actor: &Actor, token: &str) -> Result<bool, Failure> {
    let Some(token) = app.stores.families.find_token(&secret_hash(token)).await? else { return Ok(false) };
    let family = app.stores.families.get(token.family_id).await?;
    if let Some(family) = family.filter(|family| family.client_id == actor.client_id) {
        let grant = family.id.to_string();
        let actor = actor.clone().acting_as(PrincipalId::User(family.user_id), &family.client_id);
        let writes = [grant_revoked(&grant, app.clock.now(), app.settings.token_lifetime())];
        let change = app.change(&actor, Deed::done("grant.revoke", &grant, "")).publish(writes);
        app.stores.families.revoke(family.id, "client", &change).await?;
        app.spread().await;
    }
    Ok(true)
}

/// Revokes an access token of this client.
async fn revoke_access(app: &App, actor: &Actor, token: &str) -> Result<(), Failure> {
    let claims: Option<AccessTokenClaims> = jws::open(token, ACCESS_TOKEN, &app.keys.jwks().keys);
    let Some(claims) = claims.filter(|claims| claims.client_id == actor.client_id) else { return Ok(()) };
    let expires_at = DateTime::from_timestamp(claims.exp, 0).unwrap_or_else(|| app.clock.now());
    if expires_at <= app.clock.now() {
        return Ok(());
    }
    let actor = actor.clone().acting_as(&claims.sub, &claims.client_id);
    let change = app
        .change(&actor, Deed::done("token.revoke", &claims.jti, ""))
        .publish([token_revoked(&claims.jti, expires_at)]);
    app.stores.trust.publish(&change).await?;
    app.spread().await;
    Ok(())
}
