//! Pages for people: sign-in, consent, account. They work without scripts and load nothing from elsewhere.

pub(crate) mod account;
pub(crate) mod assets;
pub(crate) mod consent;
pub(crate) mod error;
pub(crate) mod headers;
pub(crate) mod login;
pub(crate) mod redirect;

use askama::Template;
use axum::Router;
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::{get, post};
use http::StatusCode;
use http::header::{HeaderValue, SET_COOKIE};

use crate::app::Shared;

pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/login", get(login::show).post(login::submit))
        .route("/login/consent", get(consent::show).post(consent::submit))
        .route(assets::STYLESHEET, get(assets::stylesheet))
        .route("/login/portico.svg", get(assets::icon))
        .route("/account", get(account::show))
        .route("/account/sign-out", post(account::sign_out::submit))
        .route("/account/sessions", post(account::sessions::submit))
        .route("/account/applications", post(account::applications::submit))
        .route("/account/password", post(account::password::submit))
}

/// Renders a page, with a cookie if there is one to set.
fn render(status: StatusCode, page: &impl Template, cookie: Option<HeaderValue>) -> Response {
    let mut response = match page.render() {
        Ok(html) => (status, Html(html)).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page cannot be rendered");
            (StatusCode::INTERNAL_SERVER_ERROR, "The page cannot be shown. Try again.").into_response()
        }
    };
    if let Some(cookie) = cookie {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}

/// The host of the deployment, for the foot of every page.
fn host(origin: &str) -> &str {
    origin.split_once("://").map_or(origin, |(_, host)| host)
}
