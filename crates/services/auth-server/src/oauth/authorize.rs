//! `GET|POST /oauth2/authorize` (RFC 6749 §3.1): checks a request and sends the browser on.

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::HeaderMap;
use portico_oauth_types::{AuthorizationRequest, OAuthError, OAuthErrorCode, Parameters, RedirectUri};

use super::par;
use crate::app::{App, Shared};
use crate::browser::flow::{self, Answer, Checked};
use crate::browser::session;
use crate::domain::authorization::{self, Pending, Step};
use crate::domain::client::Client;
use crate::http::context::Context;
use crate::http::failure::Failure;
use crate::pages::error::{self, Onward};
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

/// A request whose answer has somewhere to go.
struct Asked {
    client: Client,
    redirect_uri: RedirectUri,
    parameters: Parameters,
    /// What the client pushed; the parameters of the browser do not count then (RFC 9126 §4).
    pushed: Option<Checked>,
}

impl Asked {
    fn state(&self) -> Option<String> {
        match &self.pushed {
            Some(pushed) => pushed.pending.state.clone(),
            None => AuthorizationRequest::state(&self.parameters).ok().flatten(),
        }
    }
}

async fn handle(
    app: &App,
    context: Context,
    headers: &HeaderMap,
    parameters: Result<Parameters, OAuthError>,
) -> Response {
    let asked = match parameters {
        Ok(parameters) => receive(app, &context, parameters).await,
        Err(error) => Err(error.into()),
    };
    // Without a client and an address that belongs to it there is nowhere to send an error to (AS-11).
    let asked = match asked {
        Ok(asked) => asked,
        Err(failure) => return error::page(failure, &context.actor),
    };
    let (redirect_uri, state) = (asked.redirect_uri.clone(), asked.state());
    let at_once = asked.client.may_be_sent_errors(&redirect_uri);
    let name = asked.client.name().to_owned();
    let answer = Answer { redirect_uri: &redirect_uri, state: state.as_deref(), issuer: context.issuer.id() };
    match proceed(app, &context, headers, asked).await {
        Ok(location) => see_other(&location),
        Err(failure) => {
            let error = failure.into_oauth();
            let location = answer.error(&error);
            if at_once {
                return see_other(&location);
            }
            let onward = Onward { receiver: redirect_uri.receiver(), location: &location };
            error::refused(&error, (&name, onward), &context.actor)
        }
    }
}

async fn receive(app: &App, context: &Context, parameters: Parameters) -> Result<Asked, Failure> {
    let unknown = || {
        let message = "This application is not registered here. Remove the connection in the application and add it \
                       again.";
        OAuthError::new(OAuthErrorCode::InvalidRequest, message)
    };
    let client_id = parameters.get("client_id").ok_or_else(unknown)?;
    let client = app.client(&context.actor, client_id).await?.ok_or_else(unknown)?;
    let pushed = par::take(app, &context.issuer, &client, &parameters).await?;
    let redirect_uri = match &pushed {
        Some(pushed) => flow::redirect_uri(&pushed.pending)?,
        None => authorization::redirect_uri(&client, &parameters)?,
    };
    Ok(Asked { client, redirect_uri, parameters, pushed })
}

/// Returns where the browser goes: to a page, or back with a code.
async fn proceed(app: &App, context: &Context, headers: &HeaderMap, asked: Asked) -> Result<String, Failure> {
    let Asked { client, redirect_uri, parameters, pushed } = asked;
    let Checked { pending, silent } = match pushed {
        Some(pushed) => pushed,
        None if client.metadata.require_pushed_authorization_requests => {
            let message = "this client registered to push its requests: send them to /oauth2/par first";
            return Err(OAuthError::new(OAuthErrorCode::InvalidRequest, message).into());
        }
        None => flow::check(app, &context.issuer, (&client, &redirect_uri), &parameters)?,
    };
    let signed_in = session::current(app, headers).await?;
    let step = flow::next_step(app, &pending, &client, signed_in.as_ref()).await?;
    match (step, silent) {
        (Step::Login, true) => {
            Err(OAuthError::new(OAuthErrorCode::LoginRequired, "nobody is signed in here").into())
        }
        (Step::Consent, true) => {
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
