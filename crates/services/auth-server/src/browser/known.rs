//! Browsers in which a person has signed in before. They have attempts of their own, so that strangers who use up those
//! for an account do not lock its owner out.

use chrono::{DateTime, Duration, Utc};
use http::HeaderMap;
use http::header::HeaderValue;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};

use super::cookies::Cookie;
use crate::app::App;

/// What the sealed text of the cookie is; the user name is its associated data.
const KIND: &str = "auth.known_browser";
/// How long a browser is remembered.
const REMEMBERED: Duration = Duration::days(180);

#[derive(Serialize, Deserialize)]
struct Known {
    id: String,
    until: DateTime<Utc>,
}

/// Makes the cookie of a browser in which somebody has just signed in.
pub(crate) fn remember(app: &App, username: &str) -> Option<HeaderValue> {
    let id = portico_ids::secret_token(&*app.rng).expose_secret().to_owned();
    let known = Known { id, until: app.clock.now() + REMEMBERED };
    // A struct of a string and a time always serialises.
    let payload = serde_json::to_vec(&known).unwrap_or_default();
    let sealed = app.handles.seal(KIND, username.as_bytes(), &payload);
    Cookie::Known.keep(&sealed, REMEMBERED, app.is_secure())
}

/// Names the browser of a request, if somebody has signed in to this account with it.
pub(crate) fn browser(app: &App, headers: &HeaderMap, username: &str) -> Option<String> {
    let sealed = Cookie::Known.read(headers, app.is_secure())?;
    let payload = app.handles.open(KIND, username.as_bytes(), &sealed)?;
    let known = serde_json::from_slice::<Known>(&payload).ok()?;
    (app.clock.now() < known.until).then_some(known.id)
}
