//! `POST /account/password`: a person changes the own password; every session and application is signed out.

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use portico_ids::PrincipalId;
use secrecy::SecretString;

use super::{Form, Note, page};
use crate::actor::Deed;
use crate::app::{App, Shared};
use crate::browser::cookies::Cookie;
use crate::http::context::Context;
use crate::http::failure::Failure;
use crate::pages::error;
use crate::pages::redirect::see_other_with;
use crate::passwords::PasswordError;
use crate::trust::principal_revoked;

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
    match change(&app, &form).await {
        Ok(None) => see_other_with("/login", [Cookie::Login.clear(app.is_secure())]),
        Ok(Some(problem)) => {
            page(&app, &headers, &form.signed_in, Note { problem: Some(problem), ..Note::default() }).await
        }
        Err(failure) => error::page(failure, &context.actor),
    }
}

/// Changes the password, or says why not.
async fn change(app: &App, form: &Form) -> Result<Option<&'static str>, Failure> {
    const BUSY: &str = "Many people are signing in. Try again in a moment.";
    let user = &form.signed_in.user;
    app.limits.sign_in_again(&user.username, &form.signed_in.session.id.to_string())?;
    let given = |name: &str| SecretString::from(form.parameters.get(name).unwrap_or_default());
    let stored = app.stores.users.password_hash(user.id).await?;
    match app.passwords.verify(stored, &given("current")).await {
        Ok(true) => {}
        Ok(false) => return Ok(Some("The current password is wrong.")),
        Err(PasswordError::Busy) => return Ok(Some(BUSY)),
        Err(_) => return Err(Failure::Internal),
    }
    let hash = match app.passwords.hash(&given("new")).await {
        Ok(hash) => hash,
        Err(PasswordError::Length) => {
            return Ok(Some("The new password is too short: use at least 12 characters."));
        }
        Err(PasswordError::Busy) => return Ok(Some(BUSY)),
        Err(PasswordError::Internal) => return Err(Failure::Internal),
    };
    let principal = PrincipalId::User(user.id).to_string();
    let change = app
        .change(&form.actor, Deed::done("user.password", &principal, &user.username))
        .publish([principal_revoked(&principal, app.clock.now(), app.settings.token_lifetime())]);
    app.stores.users.set_password(user.id, &hash, &change).await?;
    app.spread().await;
    Ok(None)
}
