//! `POST /oauth2/register`: a client registers itself (RFC 7591, AS-30, AS-31). Nothing that it says grants trust.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};
use portico_ids::ClientId;
use portico_oauth_types::{
    ClientInformation, MAX_REGISTRATION_BYTES, OAuthError, OAuthErrorCode, RegistrationRequest,
};
use secrecy::ExposeSecret as _;

use crate::actor::{Actor, Deed};
use crate::app::{App, Shared, secret_hash};
use crate::domain::client::{self, Client, Registration};
use crate::http::context::Context;
use crate::http::failure::{Failure, no_store};
use crate::settings::RegistrationMode;

pub(crate) async fn handle(
    State(app): State<Shared>,
    context: Context,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Failure> {
    admit(&app, &headers, &context.actor)?;
    if body.len() > MAX_REGISTRATION_BYTES {
        return Err(invalid("the registration is longer than 16 KiB: shorten it").into());
    }
    let request = parse(&body)
        .ok_or_else(|| invalid("the body is not a JSON object with client metadata (RFC 7591 section 2)"))?;
    let metadata = client::register(request)?;
    let secret =
        metadata.token_endpoint_auth_method.has_secret().then(|| portico_ids::secret_token(&*app.rng));
    let client = Client {
        client_id: ClientId::generate(&*app.clock, &*app.rng).to_string(),
        metadata,
        secret_hash: secret.as_ref().map(|secret| secret_hash(secret.expose_secret())),
        registration: Registration::Dynamic,
        created_at: app.clock.now(),
        last_used_at: None,
    };
    let actor = Actor { client_id: client.client_id.clone(), ..context.actor };
    let entry = app.entry(&actor, Deed::done("client.register", &client.client_id, client.name()));
    app.stores.clients.register(&client, &entry).await?;
    app.counters.clients_registered.inc();
    let information = ClientInformation {
        client_id: client.client_id,
        client_id_issued_at: client.created_at.timestamp(),
        client_secret_expires_at: secret.as_ref().map(|_| 0),
        client_secret: secret,
        metadata: client.metadata,
    };
    Ok(no_store((StatusCode::CREATED, Json(information))))
}

/// Reads the metadata. Only an object: the parser would take an array as one without names.
fn parse(body: &[u8]) -> Option<RegistrationRequest> {
    body.trim_ascii_start().starts_with(b"{").then(|| serde_json::from_slice(body).ok()).flatten()
}

/// Decides whether this caller may register at all, now.
fn admit(app: &App, headers: &HeaderMap, actor: &Actor) -> Result<(), Failure> {
    let refused = |message: &'static str| OAuthError::new(OAuthErrorCode::InvalidToken, message);
    match app.settings.registration.mode {
        RegistrationMode::Open => {}
        RegistrationMode::Closed => {
            let message = "registration is closed here: ask an administrator to register the client";
            return Err(OAuthError::new(OAuthErrorCode::AccessDenied, message).into());
        }
        RegistrationMode::Token => {
            let presented = headers
                .get(AUTHORIZATION)
                .and_then(|value| value.to_str().ok())
                .and_then(|value| value.strip_prefix("Bearer "))
                .unwrap_or_default();
            let expected = app.initial_access_token.as_ref().map(|token| secret_hash(token.expose_secret()));
            let right = expected.is_some_and(|expected| {
                aws_lc_rs::constant_time::verify_slices_are_equal(&expected, &secret_hash(presented)).is_ok()
            });
            if !right {
                return Err(refused("registration needs the initial access token of this deployment").into());
            }
        }
    }
    Ok(app.limits.register(&actor.peer)?)
}

fn invalid(message: &'static str) -> OAuthError {
    OAuthError::new(OAuthErrorCode::InvalidClientMetadata, message)
}
