//! `POST /oauth2/introspect` (RFC 7662): confidential clients and service accounts ask about their own tokens;
//! everything else is `active: false`, so that nobody learns whether a token exists (AS-29).

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use portico_ids::PrincipalId;
use portico_oauth_types::{AccessTokenClaims, IntrospectionResponse};

use super::client_auth::{Authenticated, authenticate, refused};
use crate::app::{App, Shared, secret_hash};
use crate::domain::rotation::{Verdict, judge};
use crate::http::context::Context;
use crate::http::failure::{Failure, no_store};
use crate::jws::{self, ACCESS_TOKEN};

pub(crate) async fn handle(
    State(app): State<Shared>,
    context: Context,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Failure> {
    let parameters = super::form(&headers, &body)?;
    let client_id = match authenticate(&app, &context, &headers, &parameters).await? {
        // RFC 7662 §2.1: the caller must authenticate, and a public client cannot.
        Authenticated::Public(_) => return Err(refused().into()),
        client => client.client_id(),
    };
    let token = parameters.require("token")?;
    let known = match access_token(&app, token, &client_id) {
        Some(answer) => Some(answer),
        None => refresh_token(&app, token, &client_id).await?,
    };
    Ok(no_store(Json(known.unwrap_or_default())))
}

fn access_token(app: &App, token: &str, client_id: &str) -> Option<IntrospectionResponse> {
    let claims: AccessTokenClaims = jws::open(token, ACCESS_TOKEN, &app.keys.jwks().keys)?;
    if claims.client_id != client_id || app.verifier.verify(token, &claims.aud).is_err() {
        return None;
    }
    Some(IntrospectionResponse {
        active: true,
        scope: Some(claims.scope),
        client_id: Some(claims.client_id),
        username: None,
        token_type: Some("Bearer".to_owned()),
        exp: Some(claims.exp),
        iat: Some(claims.iat),
        sub: Some(claims.sub.to_string()),
        aud: Some(claims.aud),
        iss: Some(claims.iss),
        jti: Some(claims.jti),
    })
}

async fn refresh_token(
    app: &App,
    token: &str,
    client_id: &str,
) -> Result<Option<IntrospectionResponse>, Failure> {
    let Some(token) = app.stores.families.find_token(&secret_hash(token)).await? else { return Ok(None) };
    let Some(family) = app.stores.families.get(token.family_id).await? else { return Ok(None) };
    let user = app.stores.users.get(family.user_id).await?.filter(|user| !user.disabled);
    let epoch = user.as_ref().map(|user| user.epoch);
    let usable = judge(&token, &family, epoch, false, app.clock.now()) == Verdict::Rotate;
    if !usable || family.client_id != client_id {
        return Ok(None);
    }
    Ok(Some(IntrospectionResponse {
        active: true,
        scope: Some(family.scopes),
        client_id: Some(family.client_id),
        username: user.map(|user| user.username),
        exp: Some(family.expires_at.timestamp()),
        iat: Some(family.created_at.timestamp()),
        sub: Some(PrincipalId::User(family.user_id).to_string()),
        aud: Some(family.resource),
        iss: Some(app.resources.origin().to_owned()),
        ..IntrospectionResponse::default()
    }))
}
