//! `GET /oauth2/userinfo`: who is logged in (OpenID Connect Core §5.3).

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header::{HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};
use portico_authn::bearer_token;
use portico_ids::PrincipalId;
use portico_oauth_types::{AccessTokenClaims, OAuthError, OAuthErrorCode, Scope};
use serde_json::{Value, json};

use crate::app::{App, Shared};
use crate::http::context::Context;
use crate::http::failure::{Failure, no_store};
use crate::jws::{self, ACCESS_TOKEN};

pub(crate) async fn handle(State(app): State<Shared>, _context: Context, headers: HeaderMap) -> Response {
    match claims(&app, &headers).await {
        Ok(claims) => no_store(Json(claims)),
        Err(Failure::OAuth(error)) => challenge(error),
        Err(failure) => failure.into_response(),
    }
}

async fn claims(app: &App, headers: &HeaderMap) -> Result<Value, Failure> {
    let refused = || OAuthError::new(OAuthErrorCode::InvalidToken, "the access token is invalid here");
    let token = bearer_token(headers).map_err(|_| refused())?;
    let claims: AccessTokenClaims =
        jws::open(token, ACCESS_TOKEN, &app.keys.jwks().keys).ok_or_else(refused)?;
    // Any audience will do: the document says nothing but who the token is about.
    let principal = app.verifier.verify(token, &claims.aud).map_err(|_| refused())?;
    if !principal.scopes.contains(Scope::Openid) {
        let message = "the access token lacks the scope openid";
        return Err(OAuthError::new(OAuthErrorCode::InsufficientScope, message).into());
    }
    let PrincipalId::User(id) = principal.id else { return Err(refused().into()) };
    let user = app.stores.users.get(id).await?.ok_or_else(refused)?;
    let mut document = json!({ "sub": principal.id.to_string() });
    if principal.scopes.contains(Scope::Profile) {
        document["preferred_username"] = user.username.into();
        if !user.display_name.is_empty() {
            document["name"] = user.display_name.into();
        }
    }
    if principal.scopes.contains(Scope::Email) && !user.email.is_empty() {
        document["email"] = user.email.into();
        document["email_verified"] = false.into();
    }
    Ok(document)
}

/// RFC 6750 §3.
fn challenge(error: OAuthError) -> Response {
    let status = StatusCode::from_u16(error.error.status()).unwrap_or(StatusCode::UNAUTHORIZED);
    let value =
        format!("Bearer error=\"{}\", error_description=\"{}\"", error.error, error.error_description);
    let mut response = no_store((status, Json(error)));
    if let Ok(value) = HeaderValue::from_str(&value) {
        response.headers_mut().insert(WWW_AUTHENTICATE, value);
    }
    response
}
