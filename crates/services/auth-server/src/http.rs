//! The HTTP side: routes, and what every answer has in common.

pub(crate) mod context;
pub(crate) mod cors;
pub(crate) mod failure;
mod host;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use portico_telemetry::{CORRELATION_HEADER, CorrelationId};

use crate::app::Shared;
use crate::{oauth, pages};

/// Longest body of any request here.
const MAX_BODY: usize = 64 * 1024;

/// Every route of this service.
pub(crate) fn router(app: Shared) -> Router {
    let open = Router::new()
        .merge(under("oauth2/token", || post(oauth::token::handle)))
        .merge(under("oauth2/par", || post(oauth::par::handle)))
        .merge(under("oauth2/register", || post(oauth::register::handle)))
        .merge(under("oauth2/revoke", || post(oauth::revoke::handle)))
        .merge(under("oauth2/jwks", || get(oauth::jwks::handle)))
        .merge(under("oauth2/userinfo", || get(oauth::userinfo::handle).post(oauth::userinfo::handle)))
        .merge(oauth::metadata::routes())
        .layer(from_fn(cors::allow_every_origin));
    let browser = Router::new()
        .merge(under("oauth2/authorize", || get(oauth::authorize::query).post(oauth::authorize::form)))
        .merge(pages::routes())
        .layer(from_fn(pages::headers::harden));
    Router::new()
        .merge(open)
        .merge(browser)
        .merge(under("oauth2/introspect", || post(oauth::introspect::handle)))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn_with_state(app.clone(), host::only_ours))
        .layer(from_fn_with_state(app.clone(), correlate))
        .with_state(app)
}

/// Serves a path for the deployment's issuer and for those bound to one endpoint.
fn under(path: &str, route: impl Fn() -> MethodRouter<Shared>) -> Router<Shared> {
    Router::new().route(&format!("/{path}"), route()).route(&format!("/issuer/{{name}}/{path}"), route())
}

/// Gives every request a correlation id and every answer the same.
async fn correlate(State(app): State<Shared>, mut request: Request, next: Next) -> Response {
    let id = CorrelationId::from_headers(request.headers(), &*app.clock, &*app.rng);
    request.extensions_mut().insert(id.clone());
    let mut response = next.run(request).await;
    response.headers_mut().insert(CORRELATION_HEADER, id.header_value());
    response
}
