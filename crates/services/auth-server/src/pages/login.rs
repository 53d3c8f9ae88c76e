//! `GET|POST /login`: signing in with a password.

use askama::Template;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use portico_ids::PrincipalId;
use portico_oauth_types::Parameters;
use secrecy::{ExposeSecret as _, SecretString};

use super::redirect::{see_other, see_other_with};
use super::{assets, error, headers as page_headers, host, render};
use crate::actor::Deed;
use crate::app::{App, Shared};
use crate::browser::cookies::Cookie;
use crate::browser::{csrf, flow, known, session};
use crate::domain::authorization::Pending;
use crate::domain::names::Username;
use crate::http::context::Context;
use crate::http::failure::Failure;
use crate::limits::Limited;
use crate::passwords::PasswordError;
use crate::store::users::User;

/// The one answer to a wrong name, a wrong password and a disabled account.
const WRONG: &str = "The user name or the password is wrong.";

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage<'a> {
    stylesheet: &'static str,
    host: &'a str,
    client: Option<String>,
    problem: Option<&'a str>,
    form: &'a str,
    request: Option<&'a str>,
    username: &'a str,
}

pub(crate) async fn show(
    State(app): State<Shared>,
    context: Context,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let parameters = Parameters::parse(query.unwrap_or_default().as_bytes()).unwrap_or_default();
    let request = parameters.get("request");
    let pending = match request.map(|sealed| flow::open(&app, sealed)) {
        Some(None) => return error::expired(&context.actor),
        Some(pending) => pending,
        None => None,
    };
    if pending.is_none() && matches!(session::current(&app, &headers).await, Ok(Some(_))) {
        return see_other("/account");
    }
    page(&app, &headers, Attempt { pending: pending.as_ref(), request, username: "" }, None).await
}

/// What a visitor has entered so far.
#[derive(Clone, Copy)]
struct Attempt<'a> {
    pending: Option<&'a Pending>,
    request: Option<&'a str>,
    username: &'a str,
}

async fn page(
    app: &App,
    headers: &HeaderMap,
    attempt: Attempt<'_>,
    problem: Option<(StatusCode, &str)>,
) -> Response {
    let client = match attempt.pending {
        None => None,
        Some(pending) => app
            .stores
            .clients
            .get(&pending.client_id)
            .await
            .ok()
            .flatten()
            .map(|client| client.name().to_owned()),
    };
    let form = csrf::issue(app, headers);
    let page = LoginPage {
        stylesheet: assets::STYLESHEET,
        host: host(app.resources.origin()),
        client,
        problem: problem.map(|(_, text)| text),
        form: &form.token,
        request: attempt.request,
        username: attempt.username,
    };
    let status = problem.map_or(StatusCode::OK, |(status, _)| status);
    let mut response = render(status, &page, form.set_cookie);
    if let Some(Ok(redirect_uri)) = attempt.pending.map(flow::redirect_uri) {
        page_headers::allow_redirect(&mut response, &redirect_uri);
    }
    response
}

pub(crate) async fn submit(
    State(app): State<Shared>,
    context: Context,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let parameters = Parameters::parse(&body).unwrap_or_default();
    if !csrf::holds(&app, &headers, parameters.get("form")) {
        return error::foreign_form(&context.actor);
    }
    let request = parameters.get("request");
    let pending = match request.map(|sealed| flow::open(&app, sealed)) {
        Some(None) => return error::expired(&context.actor),
        Some(pending) => pending,
        None => None,
    };
    let typed = parameters.get("username").unwrap_or_default();
    let password = SecretString::from(parameters.get("password").unwrap_or_default());
    let mut limited = None;
    let problem = match sign_in(&app, &context, &headers, (typed, &password)).await {
        Ok(user) => return welcome(&app, &context, &headers, (&user, request)).await,
        Err(Refusal::Wrong) => (StatusCode::UNAUTHORIZED, WRONG),
        Err(Refusal::Limited(now)) => {
            limited = Some(now);
            (StatusCode::TOO_MANY_REQUESTS, "Too many attempts. Wait a minute, then try again.")
        }
        Err(Refusal::Busy) => {
            (StatusCode::SERVICE_UNAVAILABLE, "Many people are signing in. Try again in a moment.")
        }
        Err(Refusal::Failed(failure)) => return error::page(failure, &context.actor),
    };
    let attempt = Attempt { pending: pending.as_ref(), request, username: typed };
    let mut response = page(&app, &headers, attempt, Some(problem)).await;
    if let Some(limited) = limited {
        response.headers_mut().insert(RETRY_AFTER, limited.retry_after());
    }
    response
}

enum Refusal {
    Wrong,
    Limited(Limited),
    Busy,
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Finds the person behind a name and a password, in the same time whether there is one or not (AS-43).
async fn sign_in(
    app: &App,
    context: &Context,
    headers: &HeaderMap,
    (typed, password): (&str, &SecretString),
) -> Result<User, Refusal> {
    let name = Username::typed(typed).ok();
    let counted = name.as_ref().map_or("", Username::as_str);
    let admitted = match known::browser(app, headers, counted) {
        Some(browser) => app.limits.sign_in_again(counted, &browser),
        None => app.limits.sign_in(counted, &context.actor.peer),
    };
    if let Err(limited) = admitted {
        app.counters.sign_ins_refused.inc();
        return Err(Refusal::Limited(limited));
    }
    let user = match &name {
        Some(name) => app.stores.users.find(name.as_str()).await?,
        None => None,
    };
    let stored = match &user {
        Some(user) => app.stores.users.password_hash(user.id).await?,
        None => None,
    };
    let right = match app.passwords.verify(stored, password).await {
        Ok(right) => right,
        Err(PasswordError::Busy) => return Err(Refusal::Busy),
        Err(error) => {
            tracing::error!(%error, "a password cannot be verified");
            return Err(Refusal::Failed(Failure::Internal));
        }
    };
    match user {
        Some(user) if right && !user.disabled => {
            app.counters.sign_ins.inc();
            Ok(user)
        }
        user => {
            // A name that nobody has may be a password typed into the wrong field: it is not written down.
            let known = user.as_ref().map_or("", |user| user.username.as_str());
            app.counters.sign_ins_refused.inc();
            let deed = Deed { name: known, ..Deed::refused("session.start", "", "wrong_credentials") };
            app.record(&context.actor, deed).await?;
            Err(Refusal::Wrong)
        }
    }
}

async fn welcome(
    app: &App,
    context: &Context,
    headers: &HeaderMap,
    (user, request): (&User, Option<&str>),
) -> Response {
    let actor = context.actor.clone().acting_as(PrincipalId::User(user.id), "");
    match session::start(app, headers, &actor, user).await {
        Ok(token) => {
            let cookie = Cookie::Login.set(token.expose_secret(), app.is_secure());
            let cookies = [cookie, known::remember(app, &user.username)];
            match request {
                Some(request) => see_other_with(&format!("/login/consent?request={request}"), cookies),
                None => see_other_with("/account", cookies),
            }
        }
        Err(failure) => error::page(failure.into(), &context.actor),
    }
}
