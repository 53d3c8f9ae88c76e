//! The stylesheet and the icon.

use axum::response::{IntoResponse as _, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

/// Where the stylesheet is; the release is part of the address, so that a new one is never styled by an old one.
pub(crate) const STYLESHEET: &str = concat!("/login/portico-", env!("CARGO_PKG_VERSION"), ".css");

pub(crate) async fn stylesheet() -> Response {
    let headers = [(CONTENT_TYPE, "text/css; charset=utf-8"), (CACHE_CONTROL, "public, max-age=86400")];
    (headers, include_str!("../../templates/portico.css")).into_response()
}

pub(crate) async fn icon() -> Response {
    let headers = [(CONTENT_TYPE, "image/svg+xml"), (CACHE_CONTROL, "public, max-age=86400")];
    (headers, include_str!("../../templates/portico.svg")).into_response()
}
