//! Who is signed in in this browser.

use http::HeaderMap;
use http::header::USER_AGENT;
use portico_db::StoreError;
use portico_ids::SessionId;
use secrecy::{ExposeSecret as _, SecretString};

use super::cookies::Cookie;
use crate::actor::{Actor, Deed};
use crate::app::{App, secret_hash};
use crate::domain::names::displayable;
use crate::domain::session::{ABSOLUTE, TOUCH_EVERY, is_alive};
use crate::store::sessions::LoginSession;
use crate::store::users::User;

/// A person with a living session.
#[derive(Debug)]
pub(crate) struct SignedIn {
    pub(crate) session: LoginSession,
    pub(crate) user: User,
}

/// Finds the session of a request.
pub(crate) async fn current(app: &App, headers: &HeaderMap) -> Result<Option<SignedIn>, StoreError> {
    let Some(token) = Cookie::Login.read(headers, app.is_secure()) else { return Ok(None) };
    let Some(session) = app.stores.sessions.find(&secret_hash(&token)).await? else { return Ok(None) };
    let Some(user) = app.stores.users.get(session.user_id).await? else { return Ok(None) };
    let now = app.clock.now();
    if !is_alive(&session, &user, now) {
        return Ok(None);
    }
    if now >= session.last_seen_at + TOUCH_EVERY {
        app.stores.sessions.touch(session.id, now).await?;
    }
    Ok(Some(SignedIn { session, user }))
}

/// Starts a session under a new name (AS-17): whatever the browser had before is ended.
pub(crate) async fn start(
    app: &App,
    headers: &HeaderMap,
    actor: &Actor,
    user: &User,
) -> Result<SecretString, StoreError> {
    if let Some(before) = current(app, headers).await? {
        let entry = app.entry(actor, Deed::done("session.end", &before.session.id.to_string(), ""));
        app.stores.sessions.end(before.user.id, before.session.id, &entry).await?;
    }
    let token = portico_ids::secret_token(&*app.rng);
    let now = app.clock.now();
    let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let session = LoginSession {
        id: SessionId::generate(&*app.clock, &*app.rng),
        token_hash: secret_hash(token.expose_secret()),
        user_id: user.id,
        user_epoch: user.epoch,
        user_agent: displayable(agent, 256),
        address: actor.peer.clone(),
        authenticated_at: now,
        last_seen_at: now,
        expires_at: now + ABSOLUTE,
    };
    let entry = app.entry(actor, Deed::done("session.start", &session.id.to_string(), &user.username));
    app.stores.sessions.create(&session, &entry).await?;
    Ok(token)
}
