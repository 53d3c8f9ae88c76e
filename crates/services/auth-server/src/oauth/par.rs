//! `POST /oauth2/par`: a client sends its authorization request directly, and only a reference goes through the
//! browser (RFC 9126, AS-18).

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use portico_coordination::CoordinationError;
use portico_oauth_types::{OAuthError, OAuthErrorCode, Parameters};
use secrecy::ExposeSecret as _;
use serde::Serialize;

use super::client_auth::{Authenticated, authenticate};
use crate::app::{App, Shared};
use crate::browser::flow::{self, Checked};
use crate::domain::authorization;
use crate::domain::client::Client;
use crate::domain::issuer::Issuer;
use crate::http::context::Context;
use crate::http::failure::{Failure, no_store};

/// How long a pushed request waits for its browser (RFC 9126 §2.2).
const LIFETIME: Duration = Duration::from_mins(1);
/// What pushed requests are sealed as, with their key as associated data: whoever can write to the table must not be able
/// to say where a person's code goes.
const KIND: &str = "auth.pushed";
/// What references start with (RFC 9126 §2.2).
const PREFIX: &str = "urn:ietf:params:oauth:request_uri:";

/// What the client sends the browser with.
#[derive(Serialize)]
struct Reference {
    request_uri: String,
    expires_in: u64,
}

pub(crate) async fn handle(
    State(app): State<Shared>,
    context: Context,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Failure> {
    let parameters = super::form(&headers, &body)?;
    app.limits.push(&context.actor.peer)?;
    // A client that is only known by its address is read first: authenticating it needs its keys.
    if let Some(client_id) = parameters.get("client_id") {
        app.client(&context.actor, client_id).await?;
    }
    let client = match authenticate(&app, &context, &headers, &parameters).await? {
        Authenticated::Public(client) | Authenticated::Confidential(client) => client,
        Authenticated::ServiceAccount(_) => {
            let message = "a service account has no browser: use the grant client_credentials";
            return Err(OAuthError::new(OAuthErrorCode::UnauthorizedClient, message).into());
        }
    };
    if parameters.get("request_uri").is_some() {
        return Err(OAuthError::new(
            OAuthErrorCode::InvalidRequest,
            "push the parameters themselves, not a request_uri",
        )
        .into());
    }
    let redirect_uri = authorization::redirect_uri(&client, &parameters)?;
    let checked = flow::check(&app, &context.issuer, (&client, &redirect_uri), &parameters)?;
    let reference = push(&app, &context.issuer, &client, &checked).await?;
    Ok(no_store((StatusCode::CREATED, Json(reference))))
}

async fn push(app: &App, issuer: &Issuer, client: &Client, checked: &Checked) -> Result<Reference, Failure> {
    let secret = portico_ids::secret_token(&*app.rng);
    let request_uri = format!("{PREFIX}{}", secret.expose_secret());
    let json = serde_json::to_vec(checked).map_err(|_| Failure::Internal)?;
    let key = key(issuer, &client.client_id, &request_uri);
    let sealed = app.handles.seal(KIND, key.as_bytes(), &json);
    app.pushed.put(&key, sealed.into(), LIFETIME).await.map_err(unavailable)?;
    Ok(Reference { request_uri, expires_in: LIFETIME.as_secs() })
}

/// Names a pushed request by everything that it is bound to: at another issuer and for another client it is not there.
fn key(issuer: &Issuer, client_id: &str, request_uri: &str) -> String {
    format!("{} {client_id} {request_uri}", issuer.key())
}

/// Takes the request that the parameters refer to, at most once; `None` if they refer to none.
pub(super) async fn take(
    app: &App,
    issuer: &Issuer,
    client: &Client,
    parameters: &Parameters,
) -> Result<Option<Checked>, Failure> {
    let Some(request_uri) = parameters.get("request_uri").filter(|uri| uri.starts_with(PREFIX)) else {
        return Ok(None);
    };
    let key = key(issuer, &client.client_id, request_uri);
    let taken = app.pushed.take(&key).await.map_err(unavailable)?;
    let checked = taken.and_then(|sealed| open(app, &key, &sealed));
    let checked = checked.filter(|checked| checked.pending.is_of(client)).ok_or_else(|| {
        let message = "This request has expired, was used before or belongs to another application. Go back to the \
                       application and start again.";
        OAuthError::new(OAuthErrorCode::InvalidRequest, message)
    })?;
    Ok(Some(checked))
}

/// Opens what was pushed under this key; what this deployment did not put there is as good as nothing.
fn open(app: &App, key: &str, sealed: &[u8]) -> Option<Checked> {
    let sealed = std::str::from_utf8(sealed).ok()?;
    let Some(json) = app.handles.open(KIND, key.as_bytes(), sealed) else {
        tracing::error!("a pushed request was not sealed by this deployment: see who can write to Redis");
        return None;
    };
    let checked = serde_json::from_slice::<Checked>(&json).ok()?;
    checked.pending.is_alive(app.clock.now()).then_some(checked)
}

#[expect(clippy::needless_pass_by_value, reason = "used as a function of an error")]
fn unavailable(error: CoordinationError) -> Failure {
    tracing::error!(%error, "the table of pushed requests cannot be reached");
    Failure::Unavailable
}
