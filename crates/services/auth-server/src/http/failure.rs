//! Errors of the OAuth endpoints as programs read them (RFC 6749 §5.2).

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, HeaderValue, PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE};
use portico_db::StoreError;
use portico_oauth_types::{OAuthError, OAuthErrorCode};

use crate::jws::KeyFailure;
use crate::limits::Limited;
use crate::tokens::MintError;

/// Why a request was not done. Internals are logged, never sent.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The client can do something about it.
    OAuth(OAuthError),
    /// Later it may work.
    Limited(Limited),
    /// The database is away or busy.
    Unavailable,
    /// This replica may not write what it would have to seal.
    Behind,
    /// A fault of ours.
    Internal,
}

impl From<OAuthError> for Failure {
    fn from(error: OAuthError) -> Self {
        Self::OAuth(error)
    }
}

impl From<Limited> for Failure {
    fn from(limited: Limited) -> Self {
        Self::Limited(limited)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "a store failed");
        match error {
            StoreError::Busy(_) | StoreError::Unavailable(_) => Self::Unavailable,
            StoreError::RingBehind { .. } => Self::Behind,
            _ => Self::Internal,
        }
    }
}

impl From<KeyFailure> for Failure {
    fn from(error: KeyFailure) -> Self {
        tracing::error!(%error, "signing failed");
        Self::Internal
    }
}

impl From<MintError> for Failure {
    fn from(error: MintError) -> Self {
        match error {
            MintError::Store(error) => error.into(),
            MintError::Key(error) => error.into(),
            MintError::Refused(error) => Self::OAuth(error),
        }
    }
}

impl Failure {
    /// Says it in the words of OAuth, for answers that go through a browser.
    pub(crate) fn into_oauth(self) -> OAuthError {
        match self {
            Self::OAuth(error) => error,
            Self::Limited(_) => {
                OAuthError::new(OAuthErrorCode::TemporarilyUnavailable, "too many requests: wait a moment")
            }
            Self::Unavailable => OAuthError::new(
                OAuthErrorCode::TemporarilyUnavailable,
                "the server cannot reach its database: try again in a moment",
            ),
            Self::Behind => OAuthError::new(
                OAuthErrorCode::TemporarilyUnavailable,
                "this replica of the server is behind with its keys: try again in a moment",
            ),
            Self::Internal => OAuthError::new(
                OAuthErrorCode::ServerError,
                "the server failed: try again, then tell the operator the correlation id",
            ),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let retry_after = match &self {
            Self::Limited(limited) => Some(limited.retry_after()),
            _ => None,
        };
        let limited = retry_after.is_some();
        let error = self.into_oauth();
        let status = if limited {
            StatusCode::TOO_MANY_REQUESTS
        } else {
            StatusCode::from_u16(error.error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
        };
        let challenge = match error.error {
            OAuthErrorCode::InvalidClient => Some(HeaderValue::from_static("Basic realm=\"portico\"")),
            _ => None,
        };
        let mut response = no_store((status, Json(error)));
        if let Some(challenge) = challenge {
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        if let Some(retry_after) = retry_after {
            response.headers_mut().insert(RETRY_AFTER, retry_after);
        }
        response
    }
}

/// Marks an answer as one that no cache may keep (RFC 6749 §5.1).
pub(crate) fn no_store(response: impl IntoResponse) -> Response {
    let mut response = response.into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(PRAGMA, HeaderValue::from_static("no-cache"));
    response
}
