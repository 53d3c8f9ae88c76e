//! An authorization on its way through the pages.

use portico_ids::{EndpointName, GrantId, PrincipalId};
use portico_oauth_types::{OAuthError, Parameters, Prompt, RedirectUri};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};

use super::session::SignedIn;
use crate::actor::{Actor, Deed};
use crate::app::{App, secret_hash};
use crate::domain::authorization::{self, CODE_LIFETIME, Pending, Step, unknown_target};
use crate::domain::client::Client;
use crate::domain::issuer::Issuer;
use crate::domain::resource::Target;
use crate::http::failure::Failure;
use crate::store::codes::Code;

/// What the sealed text in page addresses is.
const KIND: &str = "auth.authorization";

/// Where an answer goes, and what every answer carries back (RFC 6749 §4.1.2, RFC 9207 §2).
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) redirect_uri: &'a RedirectUri,
    pub(crate) state: Option<&'a str>,
    pub(crate) issuer: String,
}

impl Answer<'_> {
    pub(crate) fn code(&self, code: &str) -> String {
        self.with(&[("code", code)])
    }

    pub(crate) fn error(&self, error: &OAuthError) -> String {
        self.with(&[("error", error.error.as_str()), ("error_description", &error.error_description)])
    }

    fn with(&self, parameters: &[(&str, &str)]) -> String {
        let mut all = parameters.to_vec();
        all.extend(self.state.map(|state| ("state", state)));
        all.push(("iss", &self.issuer));
        self.redirect_uri.with_parameters(&all)
    }
}

/// Writes an authorization into an address, so that the server keeps nothing for visitors who never come back.
pub(crate) fn seal(app: &App, pending: &Pending) -> String {
    // A struct of strings and times always serialises.
    app.handles.seal(KIND, b"", &serde_json::to_vec(pending).unwrap_or_default())
}

/// Reads it back; too old or altered ones are none.
pub(crate) fn open(app: &App, sealed: &str) -> Option<Pending> {
    let json = app.handles.open(KIND, b"", sealed)?;
    serde_json::from_slice::<Pending>(&json).ok().filter(|pending| pending.is_alive(app.clock.now()))
}

/// The issuer at which an authorization was asked for.
pub(crate) fn issuer(app: &App, pending: &Pending) -> Issuer {
    Issuer::new(app.resources.origin(), EndpointName::parse(&pending.issuer).ok())
}

/// A checked request, and whether pages may be shown for it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Checked {
    pub(crate) pending: Pending,
    /// `prompt=none`: the answer comes at once or not at all.
    pub(crate) silent: bool,
}

/// Checks a request whose client and redirect URI are known to be right.
pub(crate) fn check(
    app: &App,
    issuer: &Issuer,
    (client, redirect_uri): (&Client, &RedirectUri),
    parameters: &Parameters,
) -> Result<Checked, OAuthError> {
    let context = authorization::Context { client, issuer, resources: &app.resources, now: app.clock.now() };
    let (pending, target, prompt) = authorization::check(context, redirect_uri, parameters)?;
    if !app.is_known(&target) {
        return Err(unknown_target());
    }
    Ok(Checked { pending, silent: prompt == Some(Prompt::None) })
}

/// Decides what has to happen next, for this person, and whether the person may use the resource at all (AS-13).
pub(crate) async fn next_step(
    app: &App,
    pending: &Pending,
    client: &Client,
    signed_in: Option<&SignedIn>,
) -> Result<Step, Failure> {
    let Some(SignedIn { session, user }) = signed_in else {
        return Ok(authorization::next_step(pending, None, client, None));
    };
    let consent = app.stores.consents.find(user.id, &client.client_id, &pending.resource).await?;
    let login = authorization::SignedIn { authenticated_at: session.authenticated_at };
    let step = authorization::next_step(pending, Some(login), client, consent.as_ref());
    if step != Step::Login {
        let target = app.resources.target(&pending.resource).ok_or_else(unknown_target)?;
        app.check_target(&PrincipalId::User(user.id), &target).await?;
    }
    Ok(step)
}

/// Gives a code and returns where the browser takes it.
pub(crate) async fn issue(
    app: &App,
    actor: &Actor,
    pending: &Pending,
    signed_in: &SignedIn,
) -> Result<String, Failure> {
    let redirect_uri = redirect_uri(pending)?;
    let secret = portico_ids::secret_token(&*app.rng);
    let SignedIn { session, user } = signed_in;
    let code = Code {
        code_hash: secret_hash(secret.expose_secret()),
        family_id: GrantId::generate(&*app.clock, &*app.rng).as_uuid(),
        client_id: pending.client_id.clone(),
        user_id: user.id,
        user_epoch: user.epoch,
        session_id: session.id,
        redirect_uri: pending.redirect_uri.clone(),
        code_challenge: pending.code_challenge.to_string(),
        issuer: pending.issuer.clone(),
        resource: pending.resource.clone(),
        scopes: pending.scopes,
        nonce: pending.nonce.clone(),
        authenticated_at: session.authenticated_at,
        expires_at: app.clock.now() + CODE_LIFETIME,
        redeemed_at: None,
    };
    app.stores.codes.insert(&code).await?;
    let actor = actor.clone().acting_as(PrincipalId::User(user.id), &pending.client_id);
    app.record(&actor, Deed::done("authorize", &pending.resource, &user.username)).await?;
    Ok(answer(app, pending, &redirect_uri).code(secret.expose_secret()))
}

/// Returns where the browser takes an error.
pub(crate) fn refuse(app: &App, pending: &Pending, error: &OAuthError) -> Result<String, Failure> {
    Ok(answer(app, pending, &redirect_uri(pending)?).error(error))
}

fn answer<'a>(app: &App, pending: &'a Pending, redirect_uri: &'a RedirectUri) -> Answer<'a> {
    Answer { redirect_uri, state: pending.state.as_deref(), issuer: issuer(app, pending).id() }
}

pub(crate) fn redirect_uri(pending: &Pending) -> Result<RedirectUri, Failure> {
    // It was checked before it was sealed.
    RedirectUri::parse(&pending.redirect_uri).map_err(|_| Failure::Internal)
}

impl App {
    /// Tells whether a target exists. Root and API always do.
    pub(crate) fn is_known(&self, target: &Target) -> bool {
        match target {
            Target::Root | Target::Api => true,
            Target::Endpoint(name) => self.catalogue.find(name).is_some(),
        }
    }
}
