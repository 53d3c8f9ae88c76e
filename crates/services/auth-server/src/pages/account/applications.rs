//! `POST /account/applications`: takes an application's access away.

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;

use super::{Form, Note, page};
use crate::actor::Deed;
use crate::app::{App, Shared};
use crate::http::context::Context;
use crate::http::failure::Failure;
use crate::pages::error;
use crate::trust::grant_revoked;

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
    match remove(&app, &form).await {
        Ok(()) => {
            let note = Note { message: Some("The application has no access any more."), ..Note::default() };
            page(&app, &headers, &form.signed_in, note).await
        }
        Err(failure) => error::page(failure, &context.actor),
    }
}

async fn remove(app: &App, form: &Form) -> Result<(), Failure> {
    let user = form.signed_in.user.id;
    let client_id = form.parameters.get("client_id").unwrap_or_default();
    app.stores.consents.forget(user, client_id).await?;
    for family in app.stores.families.given(user, client_id).await? {
        let grant = family.to_string();
        let writes = [grant_revoked(&grant, app.clock.now(), app.settings.token_lifetime())];
        let change = app.change(&form.actor, Deed::done("grant.revoke", &grant, client_id)).publish(writes);
        app.stores.families.revoke(family, "person", &change).await?;
    }
    app.spread().await;
    Ok(())
}
