//! `GET /oauth2/jwks`: the keys that tokens are signed with (RFC 7517 §5).

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};

use crate::app::Shared;
use crate::http::context::Context;

pub(crate) async fn handle(State(app): State<Shared>, _context: Context) -> Response {
    super::metadata::cached(Json(app.keys.jwks()).into_response())
}
