//! `GET /account`: what a person's account is used for, and ending it.

pub(crate) mod applications;
pub(crate) mod password;
pub(crate) mod sessions;
pub(crate) mod sign_out;

use askama::Template;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, SecondsFormat, Utc};
use http::{HeaderMap, StatusCode};
use portico_ids::PrincipalId;
use portico_oauth_types::Parameters;

use super::redirect::see_other;
use super::{assets, error, host, render};
use crate::actor::Actor;
use crate::app::{App, Shared};
use crate::browser::csrf;
use crate::browser::session::{self, SignedIn};
use crate::domain::user_agent::describe;
use crate::http::context::Context;
use crate::http::failure::Failure;

#[derive(Template)]
#[template(path = "account.html")]
struct AccountPage<'a> {
    stylesheet: &'static str,
    host: &'a str,
    username: &'a str,
    display_name: &'a str,
    email: &'a str,
    message: Option<&'a str>,
    problem: Option<&'a str>,
    applications: Vec<Application>,
    sessions: Vec<Session>,
    form: &'a str,
}

struct Application {
    client_id: String,
    name: String,
    resource: String,
    scopes: String,
    last_used: Moment,
}

struct Session {
    id: String,
    agent: String,
    address: String,
    last_seen: Moment,
    current: bool,
}

pub(crate) async fn show(State(app): State<Shared>, context: Context, headers: HeaderMap) -> Response {
    match session::current(&app, &headers).await {
        Ok(Some(signed_in)) => page(&app, &headers, &signed_in, Note::default()).await,
        Ok(None) => see_other("/login"),
        Err(failure) => error::page(failure.into(), &context.actor),
    }
}

/// What the page says about what was just done.
#[derive(Clone, Copy, Default)]
struct Note<'a> {
    message: Option<&'a str>,
    problem: Option<&'a str>,
}

async fn page(app: &App, headers: &HeaderMap, signed_in: &SignedIn, note: Note<'_>) -> Response {
    let (applications, sessions) = match contents(app, signed_in).await {
        Ok(contents) => contents,
        Err(failure) => return error::page(failure, &Actor::default()),
    };
    let form = csrf::issue(app, headers);
    let page = AccountPage {
        stylesheet: assets::STYLESHEET,
        host: host(app.resources.origin()),
        username: &signed_in.user.username,
        display_name: &signed_in.user.display_name,
        email: &signed_in.user.email,
        message: note.message,
        problem: note.problem,
        applications,
        sessions,
        form: &form.token,
    };
    let status = if note.problem.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    render(status, &page, form.set_cookie)
}

async fn contents(app: &App, signed_in: &SignedIn) -> Result<(Vec<Application>, Vec<Session>), Failure> {
    let mut applications = Vec::new();
    for family in app.stores.families.alive(signed_in.user.id, app.clock.now()).await? {
        let client = app.stores.clients.get(&family.client_id).await?;
        applications.push(Application {
            name: client.map_or_else(|| family.client_id.clone(), |client| client.name().to_owned()),
            client_id: family.client_id,
            resource: family.resource,
            scopes: family.scopes.to_string(),
            last_used: Moment::of(family.last_used_at),
        });
    }
    let sessions = app.stores.sessions.list(signed_in.user.id).await?;
    let sessions = sessions
        .into_iter()
        .map(|session| Session {
            current: session.id == signed_in.session.id,
            id: session.id.to_string(),
            agent: describe(&session.user_agent),
            address: session.address,
            last_seen: Moment::of(session.last_seen_at),
        })
        .collect();
    Ok((applications, sessions))
}

/// A moment for programs and for people.
struct Moment {
    exact: String,
    words: String,
}

impl Moment {
    fn of(at: DateTime<Utc>) -> Self {
        Self {
            exact: at.to_rfc3339_opts(SecondsFormat::Secs, true),
            words: at.format("%-d %b %Y, %H:%M UTC").to_string(),
        }
    }
}

/// A form of this page, sent by a signed-in person.
struct Form {
    parameters: Parameters,
    signed_in: SignedIn,
    actor: Actor,
}

/// Reads a form; the answer in the error goes to the browser as it is.
async fn form(app: &App, context: &Context, headers: &HeaderMap, body: &Bytes) -> Result<Form, Response> {
    let parameters = Parameters::parse(body).unwrap_or_default();
    let signed_in = session::current(app, headers)
        .await
        .map_err(|failure| error::page(failure.into(), &context.actor))?
        .ok_or_else(|| see_other("/login"))?;
    if !csrf::holds(app, headers, parameters.get("form")) {
        return Err(error::foreign_form(&context.actor));
    }
    let actor = context.actor.clone().acting_as(PrincipalId::User(signed_in.user.id), "");
    Ok(Form { parameters, signed_in, actor })
}
