//! `GET|POST /oauth2/authorize` (RFC 6749 §3.1): checks a request and sends the browser on.

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::HeaderMap;
use portico_oauth_types::{
    AuthorizationRequest, OAuthError, OAuthErrorCode, Parameters, Prompt, RedirectUri,
};

use crate::app::{App, Shared};
use crate::browser::flow::{self, Answer};
use crate::browser::session;
use crate::domain::authorization::{self, Pending, Step};
use crate::domain::client::Client;
use crate::http::context::Context;
use crate::http::failure::Failure;
use crate::pages::error;
use crate::pages::redirect::see_other;

pub(crate) async fn query(
    State(app): State<Shared>,
    context: Context,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    handle(&app, context, &headers, Parameters::parse(query.unwrap_or_default().as_bytes())).await
}

/// OpenID Connect Core §3.1.2.1 wants POST as well.
pub(crate) async fn form(
    State(app): State<Shared>,
    context: Context,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let parameters = super::form(&headers, &body);
    handle(&app, context, &headers, parameters).await
}

async fn handle(
    app: &App,
    context: Context,
    headers: &HeaderMap,
    parameters: Result<Parameters, OAuthError>,
) -> Response {
    let found = match parameters {
        Ok(parameters) => receiver(app, &parameters).await.map(|found| (found, parameters)),
        Err(error) => Err(error.into()),
    };
    // Without a client and an address that belongs to it there is nowhere to send an error to (AS-11).
    let ((client, redirect_uri), parameters) = match found {
        Ok(found) => found,
        Err(failure) => return error::page(failure, &context.actor),
    };
    let state = AuthorizationRequest::state(&parameters).ok().flatten();
    let answer = Answer { redirect_uri: &redirect_uri, state: state.as_deref(), issuer: context.issuer.id() };
    match proceed(app, &context, headers, (&client, &redirect_uri), &parameters).await {
        Ok(location) => see_other(&location),
        Err(failure) => see_other(&answer.error(&failure.into_oauth())),
    }
}

async fn receiver(app: &App, parameters: &Parameters) -> Result<(Client, RedirectUri), Failure> {
    let unknown = || {
        let message = "This application is not registered here. Remove the connection in the application and add it \
                       again.";
        OAuthError::new(OAuthErrorCode::InvalidRequest, message)
    };
    let client_id = parameters.get("client_id").ok_or_else(unknown)?;
    let client = app.stores.clients.get(client_id).await?.ok_or_else(unknown)?;
    let redirect_uri = authorization::redirect_uri(&client, parameters)?;
    Ok((client, redirect_uri))
}

/// Returns where the browser goes: to a page, or back with a code.
async fn proceed(
    app: &App,
    context: &Context,
    headers: &HeaderMap,
    (client, redirect_uri): (&Client, &RedirectUri),
    parameters: &Parameters,
) -> Result<String, Failure> {
    let checked = authorization::Context {
        client,
        issuer: &context.issuer,
        resources: &app.resources,
        now: app.clock.now(),
    };
    let (pending, target, prompt) = authorization::check(checked, redirect_uri, parameters)?;
    if !app.is_known(&target) {
        return Err(authorization::unknown_target().into());
    }
    let signed_in = session::current(app, headers).await?;
    let step = flow::next_step(app, &pending, client, signed_in.as_ref()).await?;
    match (step, prompt) {
        (Step::Login, Some(Prompt::None)) => {
            Err(OAuthError::new(OAuthErrorCode::LoginRequired, "nobody is signed in here").into())
        }
        (Step::Consent, Some(Prompt::None)) => {
            Err(OAuthError::new(OAuthErrorCode::ConsentRequired, "the person has to be asked").into())
        }
        (Step::Login, _) => Ok(page("/login", app, &pending)),
        (Step::Consent, _) => Ok(page("/login/consent", app, &pending)),
        (Step::Issue, _) => match &signed_in {
            Some(signed_in) => flow::issue(app, &context.actor, &pending, signed_in).await,
            None => Ok(page("/login", app, &pending)),
        },
    }
}

fn page(path: &str, app: &App, pending: &Pending) -> String {
    format!("{path}?request={}", flow::seal(app, pending))
}
