//! `GET /.well-known/…`: metadata of the issuer and of those bound to one endpoint (AS-01), and addresses for the
//! command line. Served from memory: a client that meets an error here gives up (Q22).

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::header::{CACHE_CONTROL, HeaderValue};
use serde_json::json;

use crate::app::Shared;
use crate::domain::client::CLI_CLIENT_ID;
use crate::domain::resource::Target;
use crate::http::context::Context;
use crate::settings::RegistrationMode;

/// Every place where clients look (RFC 8414 §3.1, OpenID Connect Discovery §4.1).
const PLACES: [&str; 5] = [
    "/.well-known/oauth-authorization-server",
    "/.well-known/openid-configuration",
    "/.well-known/oauth-authorization-server/issuer/{name}",
    "/.well-known/openid-configuration/issuer/{name}",
    "/issuer/{name}/.well-known/openid-configuration",
];

pub(crate) fn routes() -> Router<Shared> {
    PLACES
        .iter()
        .fold(Router::new(), |router, place| router.route(place, get(document)))
        .route("/.well-known/portico", get(addresses))
}

async fn document(State(app): State<Shared>, context: Context) -> Response {
    let registration = app.settings.registration.mode != RegistrationMode::Closed;
    let mut document = context.issuer.metadata(registration);
    document.client_id_metadata_document_supported = app.settings.client_documents.enabled;
    cached(Json(document).into_response())
}

/// What the command line needs to know.
async fn addresses(State(app): State<Shared>) -> Response {
    let origin = app.resources.origin();
    let grpc = if app.settings.grpc_origin.is_empty() { origin } else { &app.settings.grpc_origin };
    cached(
        Json(json!({
            "issuer": origin,
            "api": app.resources.uri(&Target::Api),
            "mcp": app.resources.uri(&Target::Root),
            "grpc": grpc,
            "client_id": CLI_CLIENT_ID,
        }))
        .into_response(),
    )
}

/// Keys and addresses change rarely, but must not be held for long.
pub(super) fn cached(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    response
}
