//! An authorization under way: what was asked, and what has to happen before a code may be given.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Duration, Utc};
use portico_oauth_types::{
    AuthorizationRequest, CodeChallenge, OAuthError, OAuthErrorCode, Parameters, Prompt, RedirectUri,
    ResourceUri, ScopeSet,
};
use serde::{Deserialize, Serialize};

use super::client::Client;
use super::issuer::Issuer;
use super::resource::{Resources, Target};
use super::scopes;
use crate::store::consents::Consent;

/// How long a person may take between the request and the answer.
pub(crate) const PENDING_FOR: Duration = Duration::minutes(15);
/// How long a code lives (AS-10).
pub(crate) const CODE_LIFETIME: Duration = Duration::seconds(60);

/// A checked request, carried sealed through the login and consent pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pending {
    pub(crate) client_id: String,
    pub(crate) redirect_uri: String,
    pub(crate) state: Option<String>,
    /// [`Issuer::key`].
    pub(crate) issuer: String,
    pub(crate) resource: String,
    pub(crate) scopes: ScopeSet,
    pub(crate) code_challenge: CodeChallenge,
    pub(crate) nonce: Option<String>,
    pub(crate) must_consent: bool,
    /// The login must be at least this new.
    pub(crate) login_after: Option<DateTime<Utc>>,
    /// What the client was when it asked, [`Client::metadata_hash`].
    pub(crate) client_hash: String,
    pub(crate) asked_at: DateTime<Utc>,
}

/// Who is signed in, as far as an authorization cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SignedIn {
    pub(crate) authenticated_at: DateTime<Utc>,
}

/// What has to happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Login,
    Consent,
    Issue,
}

/// Finds where the answer goes. An error here must be shown, never sent anywhere (AS-11, RFC 6749 §4.1.2.1).
pub(crate) fn redirect_uri(client: &Client, parameters: &Parameters) -> Result<RedirectUri, OAuthError> {
    let refuse = |message: &'static str| OAuthError::new(OAuthErrorCode::InvalidRequest, message);
    let Some(text) = parameters.get("redirect_uri") else {
        return match client.metadata.redirect_uris.as_slice() {
            [only] => Ok(only.clone()),
            _ => Err(refuse("The parameter redirect_uri is missing.")),
        };
    };
    let requested = RedirectUri::parse(text)
        .map_err(|error| OAuthError::new(OAuthErrorCode::InvalidRequest, error.to_string()))?;
    if !client.metadata.allows_redirect(&requested) {
        return Err(refuse("The redirect_uri is not one that this client registered."));
    }
    Ok(requested)
}

/// Reads which resource a request is for (RFC 8707 §2); without one it is the issuer's default.
pub(crate) fn target(
    resources: &Resources,
    issuer: &Issuer,
    requested: &[ResourceUri],
) -> Result<Target, OAuthError> {
    let refuse = |message: &'static str| OAuthError::new(OAuthErrorCode::InvalidTarget, message);
    match requested {
        [] => Ok(issuer.default_target()),
        [one] => {
            let target = resources.target(one.as_str()).ok_or_else(unknown_target)?;
            if !issuer.key().is_empty() && target != issuer.default_target() {
                return Err(refuse("this issuer gives tokens for its own endpoint only"));
            }
            Ok(target)
        }
        _ => Err(refuse("a token is for one resource: send resource once")),
    }
}

/// The one answer for a resource that does not exist and for one that the caller may not use.
pub(crate) fn unknown_target() -> OAuthError {
    OAuthError::new(
        OAuthErrorCode::InvalidTarget,
        "the resource does not exist here or is not for you: use the URL of an endpoint that you may use",
    )
}

/// Everything that a request needs beside its parameters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) client: &'a Client,
    pub(crate) issuer: &'a Issuer,
    pub(crate) resources: &'a Resources,
    pub(crate) now: DateTime<Utc>,
}

/// Checks a request whose client and redirect URI are known to be right; errors go back to the client.
pub(crate) fn check(
    context: Context<'_>,
    redirect_uri: &RedirectUri,
    parameters: &Parameters,
) -> Result<(Pending, Target, Option<Prompt>), OAuthError> {
    let request = AuthorizationRequest::parse(parameters)?;
    let target = target(context.resources, context.issuer, &request.resources)?;
    let scopes = scopes::grantable(request.scope, &target)
        .map_err(|error| OAuthError::new(OAuthErrorCode::InvalidScope, error.to_string()))?;
    let scopes = match context.client.metadata.scope {
        Some(limit) => scopes.iter().filter(|scope| limit.covers(scope)).collect(),
        None => scopes,
    };
    if scopes.is_empty() {
        let message = "the client registered for none of the requested scopes";
        return Err(OAuthError::new(OAuthErrorCode::InvalidScope, message));
    }
    // An age beyond all time asks for nothing.
    let by_age = request
        .max_age
        .and_then(|seconds| Duration::try_seconds(i64::try_from(seconds).ok()?))
        .and_then(|age| context.now.checked_sub_signed(age));
    let login_after = if request.prompt == Some(Prompt::Login) { Some(context.now) } else { by_age };
    let pending = Pending {
        client_id: context.client.client_id.clone(),
        redirect_uri: redirect_uri.as_str().to_owned(),
        state: AuthorizationRequest::state(parameters)?,
        issuer: context.issuer.key().to_owned(),
        resource: context.resources.uri(&target),
        scopes,
        code_challenge: request.code_challenge,
        nonce: request.nonce,
        must_consent: request.prompt == Some(Prompt::Consent) || !Client::remembers_consent(redirect_uri),
        login_after,
        client_hash: URL_SAFE_NO_PAD.encode(context.client.metadata_hash()),
        asked_at: context.now,
    };
    Ok((pending, target, request.prompt))
}

/// Decides what has to happen next.
pub(crate) fn next_step(
    pending: &Pending,
    signed_in: Option<SignedIn>,
    client: &Client,
    consent: Option<&Consent>,
) -> Step {
    let fresh = |login: SignedIn| pending.login_after.is_none_or(|moment| login.authenticated_at >= moment);
    if !signed_in.is_some_and(fresh) {
        return Step::Login;
    }
    let consented = consent.is_some_and(|consent| {
        consent.resource == pending.resource
            && consent.scopes.covers_all(&pending.scopes)
            && consent.metadata_hash == client.metadata_hash()
    });
    if pending.must_consent || !consented { Step::Consent } else { Step::Issue }
}

impl Pending {
    /// Tells whether the client is still what it was when it asked.
    pub(crate) fn is_of(&self, client: &Client) -> bool {
        self.client_hash == URL_SAFE_NO_PAD.encode(client.metadata_hash())
    }

    pub(crate) fn is_alive(&self, now: DateTime<Utc>) -> bool {
        now < self.asked_at + PENDING_FOR
    }
}

#[cfg(test)]
mod tests;
