//! Errors that have nowhere to go but the page itself (AS-11).

use askama::Template;
use axum::response::Response;
use http::StatusCode;
use http::header::RETRY_AFTER;
use portico_oauth_types::OAuthError;

use super::{assets, render};
use crate::actor::Actor;
use crate::domain::names::displayable;
use crate::http::failure::Failure;

/// Longest explanation.
const LONGEST: usize = 400;

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    stylesheet: &'static str,
    host: &'a str,
    heading: &'a str,
    detail: &'a str,
    onward: Option<Onward<'a>>,
    correlation: &'a str,
}

/// A way on for who reads the page.
pub(crate) struct Onward<'a> {
    /// Where it leads, as people read it.
    pub(crate) receiver: &'a str,
    pub(crate) location: &'a str,
}

/// Shows what a client has got wrong, and lets the person decide whether to take the answer to it.
pub(crate) fn refused(error: &OAuthError, (client, onward): (&str, Onward<'_>), actor: &Actor) -> Response {
    let status = StatusCode::from_u16(error.error.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let reason = displayable(&error.error_description, LONGEST);
    let detail = format!("{client} asked for something that it cannot have: {reason}.");
    let page = ErrorPage { onward: Some(onward), ..ErrorPage::new(("Nothing was allowed", &detail), actor) };
    render(status, &page, None)
}

/// Shows why a request cannot go on.
pub(crate) fn page(failure: Failure, actor: &Actor) -> Response {
    let (status, heading) = match &failure {
        Failure::OAuth(_) => (StatusCode::BAD_REQUEST, "This link does not work"),
        Failure::Limited(_) => (StatusCode::TOO_MANY_REQUESTS, "Too many attempts"),
        Failure::Unavailable | Failure::Behind => {
            (StatusCode::SERVICE_UNAVAILABLE, "Not available right now")
        }
        Failure::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "Something went wrong"),
    };
    let retry_after = match &failure {
        Failure::Limited(limited) => Some(limited.retry_after()),
        _ => None,
    };
    // It may repeat what the address of the page says.
    let detail = displayable(&failure.into_oauth().error_description, LONGEST);
    let mut response = show(status, (heading, &detail), actor);
    if let Some(retry_after) = retry_after {
        response.headers_mut().insert(RETRY_AFTER, retry_after);
    }
    response
}

/// Shows that a sign-in took too long or its address was cut.
pub(crate) fn expired(actor: &Actor) -> Response {
    let detail =
        "The sign-in took too long or its address is incomplete. Go back to the application and start again.";
    show(StatusCode::BAD_REQUEST, ("This sign-in has expired", detail), actor)
}

/// Shows that a form did not come from one of our pages.
pub(crate) fn foreign_form(actor: &Actor) -> Response {
    let detail =
        "The form was open for too long, or cookies are off. Go back, reload the page and send it again.";
    show(StatusCode::FORBIDDEN, ("The form cannot be accepted", detail), actor)
}

fn show(status: StatusCode, (heading, detail): (&str, &str), actor: &Actor) -> Response {
    render(status, &ErrorPage::new((heading, detail), actor), None)
}

impl<'a> ErrorPage<'a> {
    fn new((heading, detail): (&'a str, &'a str), actor: &'a Actor) -> Self {
        let correlation = &actor.correlation_id;
        Self { stylesheet: assets::STYLESHEET, host: "", heading, detail, onward: None, correlation }
    }
}
