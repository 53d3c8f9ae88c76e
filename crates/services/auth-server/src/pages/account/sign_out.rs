//! `POST /account/sign-out`: ends this browser's session. Applications keep their own access.

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;

use crate::actor::Deed;
use crate::app::Shared;
use crate::browser::cookies::Cookie;
use crate::http::context::Context;
use crate::pages::error;
use crate::pages::redirect::see_other_with;

pub(crate) async fn submit(
    State(app): State<Shared>,
    context: Context,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let form = match super::form(&app, &context, &headers, &body).await {
        Ok(form) => form,
        Err(response) => return response,
    };
    let session = form.signed_in.session;
    let entry = app.entry(&form.actor, Deed::done("session.end", &session.id.to_string(), ""));
    match app.stores.sessions.end(session.user_id, session.id, &entry).await {
        Ok(()) => see_other_with("/login", [Cookie::Login.clear(app.is_secure())]),
        Err(failure) => error::page(failure.into(), &context.actor),
    }
}
