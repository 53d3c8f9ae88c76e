//! `POST /account/sessions`: ends another session of the same person.

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use portico_ids::SessionId;

use super::{Note, page};
use crate::actor::Deed;
use crate::app::Shared;
use crate::http::context::Context;
use crate::pages::error;

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
    let Ok(id) = form.parameters.get("session").unwrap_or_default().parse::<SessionId>() else {
        let note = Note { problem: Some("There is no such session."), ..Note::default() };
        return page(&app, &headers, &form.signed_in, note).await;
    };
    let entry = app.entry(&form.actor, Deed::done("session.end", &id.to_string(), ""));
    match app.stores.sessions.end(form.signed_in.user.id, id, &entry).await {
        Ok(()) => {
            let note = Note { message: Some("The session has ended."), ..Note::default() };
            page(&app, &headers, &form.signed_in, note).await
        }
        Err(failure) => error::page(failure.into(), &context.actor),
    }
}
