//! `GET|POST /login/consent`: asking a person before a client may act for them (AS-15).

use askama::Template;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use portico_ids::{GrantId, PrincipalId};
use portico_oauth_types::{OAuthError, OAuthErrorCode, Parameters, RedirectKind};

use super::redirect::see_other;
use super::{assets, error, headers as page_headers, host, render};
use crate::actor::Deed;
use crate::app::{App, Shared};
use crate::browser::session::SignedIn;
use crate::browser::{csrf, flow, session};
use crate::domain::authorization::{Pending, Step, unknown_target};
use crate::domain::client::{Client, Registration};
use crate::domain::client_document;
use crate::domain::scopes;
use crate::http::context::Context;
use crate::http::failure::Failure;
use crate::store::consents::Consent;

#[derive(Template)]
#[template(path = "consent.html")]
struct ConsentPage<'a> {
    stylesheet: &'static str,
    host: &'a str,
    client: &'a str,
    client_id: &'a str,
    client_host: Option<String>,
    username: &'a str,
    problem: Option<&'a str>,
    permissions: Vec<&'static str>,
    everywhere: bool,
    resource: &'a str,
    receiver: &'a str,
    registered: &'static str,
    caution: Option<&'static str>,
    form: &'a str,
    request: &'a str,
}

/// An authorization that has come as far as this page.
struct Visit {
    pending: Pending,
    client: Client,
    signed_in: SignedIn,
}

pub(crate) async fn show(
    State(app): State<Shared>,
    context: Context,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let parameters = Parameters::parse(query.unwrap_or_default().as_bytes()).unwrap_or_default();
    let request = parameters.get("request").unwrap_or_default();
    let (step, visit) = match arrive(&app, &context, &headers, request).await {
        Ok(arrived) => arrived,
        Err(response) => return response,
    };
    match step {
        Step::Issue => finish(&app, &context, &visit).await,
        _ => page(&app, &headers, &visit, (request, None)),
    }
}

/// Finds out who is here for what. The answer in the error goes to the browser as it is.
async fn arrive(
    app: &App,
    context: &Context,
    headers: &HeaderMap,
    request: &str,
) -> Result<(Step, Visit), Response> {
    let failed = |failure: Failure| error::page(failure, &context.actor);
    let pending = flow::open(app, request).ok_or_else(|| error::expired(&context.actor))?;
    let client = app.stores.clients.get(&pending.client_id).await.map_err(|error| failed(error.into()))?;
    let client =
        client.filter(|client| pending.is_of(client)).ok_or_else(|| error::expired(&context.actor))?;
    let signed_in = session::current(app, headers).await.map_err(|error| failed(error.into()))?;
    let step = match flow::next_step(app, &pending, &client, signed_in.as_ref()).await {
        Ok(step) => step,
        // The resource is not for this person: the client hears it, with the same words as for one that is not there.
        Err(failure) => return Err(refuse(app, &pending, &failure.into_oauth(), &context.actor)),
    };
    match (step, signed_in) {
        (Step::Consent | Step::Issue, Some(signed_in)) => Ok((step, Visit { pending, client, signed_in })),
        _ => Err(see_other(&format!("/login?request={request}"))),
    }
}

fn refuse(app: &App, pending: &Pending, error: &OAuthError, actor: &crate::actor::Actor) -> Response {
    match flow::refuse(app, pending, error) {
        Ok(location) => see_other(&location),
        Err(failure) => error::page(failure, actor),
    }
}

async fn finish(app: &App, context: &Context, visit: &Visit) -> Response {
    match flow::issue(app, &context.actor, &visit.pending, &visit.signed_in).await {
        Ok(location) => see_other(&location),
        Err(failure) => error::page(failure, &context.actor),
    }
}

fn page(app: &App, headers: &HeaderMap, visit: &Visit, (request, problem): (&str, Option<&str>)) -> Response {
    let Ok(redirect_uri) = flow::redirect_uri(&visit.pending) else {
        return error::page(unknown_target().into(), &crate::actor::Actor::default());
    };
    let form = csrf::issue(app, headers);
    let client = &visit.client;
    let page = ConsentPage {
        stylesheet: assets::STYLESHEET,
        host: host(app.resources.origin()),
        client: client.name(),
        client_id: &client.client_id,
        client_host: client_host(client),
        username: &visit.signed_in.user.username,
        problem,
        permissions: visit.pending.scopes.iter().map(scopes::in_words).collect(),
        everywhere: client.registration == Registration::Builtin,
        resource: &visit.pending.resource,
        receiver: redirect_uri.receiver(),
        registered: match client.registration {
            Registration::Dynamic => "by itself",
            Registration::Static => "by an administrator",
            Registration::Builtin => "comes with Portico",
            Registration::Document => "by its own address",
        },
        caution: caution(client, redirect_uri.kind()),
        form: &form.token,
        request,
    };
    let mut response = render(StatusCode::OK, &page, form.set_cookie);
    page_headers::allow_redirect(&mut response, &redirect_uri);
    response
}

/// Whose application it is: the host of its own address, else the one that it claims.
fn client_host(client: &Client) -> Option<String> {
    match client.registration {
        Registration::Document => client_document::host(&client.client_id).ok(),
        _ => client.metadata.client_uri.as_deref().map(|uri| host(uri).to_owned()),
    }
}

/// What a person should know about who gets the answer (AS-15).
fn caution(client: &Client, kind: RedirectKind) -> Option<&'static str> {
    match kind {
        RedirectKind::Loopback => Some(
            "This application runs on a computer, and nobody has verified who made it. Continue only if you have just \
             started it yourself, on this computer.",
        ),
        RedirectKind::PrivateUse => Some(
            "The answer opens an application on this device, and nobody has verified which one. Continue only if you \
             have just started it yourself.",
        ),
        RedirectKind::Https
            if matches!(client.registration, Registration::Dynamic | Registration::Document) =>
        {
            Some("This application chose its own name. Check that the answer goes to a place that you trust.")
        }
        RedirectKind::Https => None,
    }
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
    let request = parameters.get("request").unwrap_or_default();
    let (_, visit) = match arrive(&app, &context, &headers, request).await {
        Ok(arrived) => arrived,
        Err(response) => return response,
    };
    match parameters.get("decision") {
        Some("allow") => match remember(&app, &context, &visit).await {
            Ok(()) => finish(&app, &context, &visit).await,
            Err(failure) => error::page(failure, &context.actor),
        },
        Some("deny") => deny(&app, &context, &visit).await,
        _ => page(&app, &headers, &visit, (request, Some("Choose Allow or Deny."))),
    }
}

async fn remember(app: &App, context: &Context, visit: &Visit) -> Result<(), Failure> {
    let Visit { pending, client, signed_in } = visit;
    let consent = Consent {
        id: GrantId::generate(&*app.clock, &*app.rng).as_uuid(),
        user_id: signed_in.user.id,
        client_id: client.client_id.clone(),
        resource: pending.resource.clone(),
        scopes: pending.scopes,
        metadata_hash: client.metadata_hash(),
        granted_at: app.clock.now(),
    };
    let actor = context.actor.clone().acting_as(PrincipalId::User(signed_in.user.id), &client.client_id);
    let entry = app.entry(&actor, Deed::done("consent.allow", &pending.resource, client.name()));
    Ok(app.stores.consents.put(&consent, &entry).await?)
}

async fn deny(app: &App, context: &Context, visit: &Visit) -> Response {
    let Visit { pending, client, signed_in } = visit;
    let actor = context.actor.clone().acting_as(PrincipalId::User(signed_in.user.id), &client.client_id);
    let deed = Deed { name: client.name(), ..Deed::refused("consent.allow", &pending.resource, "denied") };
    if let Err(failure) = app.record(&actor, deed).await {
        return error::page(failure.into(), &context.actor);
    }
    let denied = OAuthError::new(OAuthErrorCode::AccessDenied, "the person did not allow it");
    refuse(app, pending, &denied, &context.actor)
}
