//! `POST /oauth2/token` (RFC 6749 §3.2).

mod authorization_code;
mod client_credentials;
mod refresh;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use portico_oauth_types::{GrantType, OAuthError, OAuthErrorCode, ResourceUri, TokenRequest, TokenResponse};

use super::client_auth::{Authenticated, authenticate};
use crate::app::{App, Shared};
use crate::domain::client::Client;
use crate::domain::issuer::Issuer;
use crate::domain::resource::Target;
use crate::http::context::Context;
use crate::http::failure::{Failure, no_store};

pub(crate) async fn handle(
    State(app): State<Shared>,
    context: Context,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Failure> {
    let parameters = super::form(&headers, &body)?;
    let client = authenticate(&app, &context, &headers, &parameters).await?;
    let request = TokenRequest::parse(&parameters)?;
    let response = grant(&app, &context, client, request).await?;
    Ok(no_store(Json(response)))
}

async fn grant(
    app: &App,
    context: &Context,
    client: Authenticated,
    request: TokenRequest,
) -> Result<TokenResponse, Failure> {
    let grant_type = request.grant_type();
    match (client, request) {
        (Authenticated::ServiceAccount(account), TokenRequest::ClientCredentials { scope, resources }) => {
            client_credentials::grant(app, context, &account, (scope, &resources)).await
        }
        (Authenticated::Public(client) | Authenticated::Confidential(client), request) => {
            if !client.may(grant_type) {
                return Err(unauthorized(grant_type).into());
            }
            let response = match request {
                TokenRequest::AuthorizationCode { code, redirect_uri, code_verifier, resources } => {
                    let redemption =
                        authorization_code::Redemption { code, redirect_uri, code_verifier, resources };
                    authorization_code::grant(app, context, &client, redemption).await?
                }
                TokenRequest::RefreshToken { refresh_token, scope, resources } => {
                    refresh::grant(
                        app,
                        context,
                        &client,
                        refresh::Renewal { refresh_token, scope, resources },
                    )
                    .await?
                }
                TokenRequest::ClientCredentials { .. } => return Err(unauthorized(grant_type).into()),
            };
            // Only now: by asking alone nobody keeps a client from being removed. The tokens are made, so they are given
            // whether this succeeds or not.
            if let Err(error) = app.stores.clients.touch(&client.client_id, app.clock.now()).await {
                tracing::warn!(%error, client.id = client.client_id, "the use of a client cannot be noted");
            }
            Ok(response)
        }
        (Authenticated::ServiceAccount(_), _) => Err(unauthorized(grant_type).into()),
    }
}

fn unauthorized(grant: GrantType) -> OAuthError {
    let message = format!("this client may not use the grant {}", grant.as_str());
    OAuthError::new(OAuthErrorCode::UnauthorizedClient, message)
}

fn invalid_grant(message: &'static str) -> OAuthError {
    OAuthError::new(OAuthErrorCode::InvalidGrant, message)
}

/// Reads which resource a token is for: the one that was authorized, or a part of it (RFC 8707 §2.2).
fn authorized_target(
    app: &App,
    client: &Client,
    authorized: &str,
    requested: &[ResourceUri],
) -> Result<Target, OAuthError> {
    let refuse = || {
        let message = "the resource is not one that was authorized: ask for that one or authorize again";
        OAuthError::new(OAuthErrorCode::InvalidTarget, message)
    };
    let authorized = app.resources.target(authorized).ok_or_else(refuse)?;
    let wanted = match requested {
        [] => return Ok(authorized),
        [one] => app.resources.target(one.as_str()).ok_or_else(refuse)?,
        _ => return Err(refuse()),
    };
    if client.may_ask_for(&authorized, &wanted) { Ok(wanted) } else { Err(refuse()) }
}

/// Checks that a code or refresh token is used at the issuer that gave it.
fn same_issuer(issuer: &Issuer, stored: &str) -> bool {
    issuer.key() == stored
}

/// Tells whether a client gets refresh tokens.
fn may_refresh(client: &Client) -> bool {
    client.may(GrantType::RefreshToken)
}
