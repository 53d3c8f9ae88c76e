//! Which client calls (AS-20): public, with a secret, or with a signed assertion.

use bytes::Bytes;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use portico_ids::ServiceAccountId;
use portico_oauth_types::{AuthMethod, ClientAuthentication, OAuthError, OAuthErrorCode, Parameters};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use crate::app::{App, secret_hash};
use crate::domain::client::Client;
use crate::http::context::Context;
use crate::http::failure::Failure;
use crate::jws;
use crate::store::service_accounts::ServiceAccount;

/// Longest life of an assertion (RFC 7523 §3 wants it short).
const ASSERTION_SECONDS: i64 = 300;
/// Clock difference that is allowed.
const LEEWAY_SECONDS: i64 = 60;

/// A client that is who it says.
#[derive(Debug)]
pub(crate) enum Authenticated {
    /// It has proven nothing but that it knows its id.
    Public(Client),
    Confidential(Client),
    ServiceAccount(ServiceAccount),
}

impl Authenticated {
    pub(crate) fn client_id(&self) -> String {
        match self {
            Self::Public(client) | Self::Confidential(client) => client.client_id.clone(),
            Self::ServiceAccount(account) => account.id.to_string(),
        }
    }
}

/// Times and names of an assertion (RFC 7523 §3).
#[derive(Deserialize)]
struct AssertionClaims {
    iss: String,
    sub: String,
    aud: OneOrMany,
    exp: i64,
    #[serde(default)]
    nbf: Option<i64>,
    jti: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// Authenticates the client of a request. Unknown clients and wrong secrets look alike.
pub(crate) async fn authenticate(
    app: &App,
    context: &Context,
    headers: &HeaderMap,
    parameters: &Parameters,
) -> Result<Authenticated, Failure> {
    let header = headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap_or_default());
    match ClientAuthentication::from_request(header, parameters)? {
        ClientAuthentication::Public { client_id } => {
            // Nothing of a public client's document is needed here that was not checked when the person was asked.
            let client = app.stores.clients.get(&client_id).await?.ok_or_else(refused)?;
            match client.metadata.token_endpoint_auth_method {
                AuthMethod::None => Ok(Authenticated::Public(client)),
                _ => Err(refused().into()),
            }
        }
        ClientAuthentication::Secret { client_id, secret, .. } => by_secret(app, &client_id, &secret).await,
        ClientAuthentication::Assertion { client_id, assertion } => {
            by_assertion(app, context, client_id.as_deref(), &assertion).await
        }
    }
}

/// A secret is taken from the header and from the body alike: clients do not always keep to what they registered.
async fn by_secret(app: &App, client_id: &str, secret: &SecretString) -> Result<Authenticated, Failure> {
    let presented = secret_hash(secret.expose_secret());
    let fits = |stored: &[u8]| aws_lc_rs::constant_time::verify_slices_are_equal(stored, &presented).is_ok();
    if let Ok(id) = client_id.parse::<ServiceAccountId>()
        && let Some(account) = app.stores.service_accounts.get(id).await?
    {
        return if fits(&account.secret_hash) && !account.disabled {
            Ok(Authenticated::ServiceAccount(account))
        } else {
            Err(refused().into())
        };
    }
    let client = app.stores.clients.get(client_id).await?.ok_or_else(refused)?;
    match &client.secret_hash {
        Some(stored) if fits(stored) => Ok(Authenticated::Confidential(client)),
        _ => Err(refused().into()),
    }
}

async fn by_assertion(
    app: &App,
    context: &Context,
    named: Option<&str>,
    assertion: &SecretString,
) -> Result<Authenticated, Failure> {
    let token = assertion.expose_secret();
    // Read once without trust to learn whose keys to use, then again with them.
    let claimed = peek_subject(token).ok_or_else(refused)?;
    if named.is_some_and(|named| named != claimed) {
        return Err(refused().into());
    }
    let client = app.client(&context.actor, &claimed).await?.ok_or_else(refused)?;
    let keys = match (&client.metadata.token_endpoint_auth_method, &client.metadata.jwks) {
        (AuthMethod::PrivateKeyJwt, Some(jwks)) => &jwks.keys,
        _ => return Err(refused().into()),
    };
    let claims: AssertionClaims = jws::open_assertion(token, keys).ok_or_else(refused)?;
    let now = app.clock.now().timestamp();
    let audiences = match claims.aud {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    };
    let id = context.issuer.id();
    // RFC 9126 §2 names all three.
    let for_us = [format!("{id}/oauth2/token"), format!("{id}/oauth2/par"), id];
    let valid = claims.iss == client.client_id
        && claims.sub == client.client_id
        && audiences.iter().any(|audience| for_us.contains(audience))
        && claims.exp > now - LEEWAY_SECONDS
        && claims.exp <= now + ASSERTION_SECONDS + LEEWAY_SECONDS
        && claims.nbf.is_none_or(|nbf| nbf <= now + LEEWAY_SECONDS);
    if !valid || !app.used_once(&client.client_id, &claims.jti).await? {
        return Err(refused().into());
    }
    Ok(Authenticated::Confidential(client))
}

/// Reads `sub` without believing it.
fn peek_subject(token: &str) -> Option<String> {
    use base64::Engine as _;
    #[derive(Deserialize)]
    struct Subject {
        sub: String,
    }
    let claims = token.split('.').nth(1)?;
    let json = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).ok()?;
    serde_json::from_slice::<Subject>(&json).ok().map(|subject| subject.sub)
}

impl App {
    /// Notes the name of an assertion; `false` if it was seen before (RFC 7523 §3).
    async fn used_once(&self, client_id: &str, jti: &str) -> Result<bool, Failure> {
        let lifetime =
            std::time::Duration::from_secs((ASSERTION_SECONDS + 2 * LEEWAY_SECONDS).unsigned_abs());
        let key = format!("{client_id} {jti:.256}");
        self.assertions.put_if_absent(&key, Bytes::new(), lifetime).await.map_err(|error| {
            tracing::error!(%error, "the replay table cannot be reached");
            Failure::Unavailable
        })
    }
}

/// The one answer to every failed authentication (RFC 6749 §5.2).
pub(crate) fn refused() -> OAuthError {
    OAuthError::new(
        OAuthErrorCode::InvalidClient,
        "the client is unknown or its credentials are wrong: register it again or check the secret",
    )
}
