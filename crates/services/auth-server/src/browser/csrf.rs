//! Forms that only our own pages can send (AS-16): a token derived from two cookies that nobody else can read or set.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::{HeaderValue, ORIGIN};
use secrecy::ExposeSecret as _;

use super::cookies::Cookie;
use crate::app::App;

/// Where a request came from, as browsers tell it (Fetch Metadata §2.3).
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// What a page puts into its forms, and the cookie that goes with it if the browser has none yet.
#[derive(Debug)]
pub(crate) struct FormToken {
    pub(crate) token: String,
    pub(crate) set_cookie: Option<HeaderValue>,
}

/// Makes the token for the forms of a page.
pub(crate) fn issue(app: &App, headers: &HeaderMap) -> FormToken {
    let secure = app.is_secure();
    let login = Cookie::Login.read(headers, secure).unwrap_or_default();
    if let Some(form) = Cookie::Form.read(headers, secure).filter(|value| value.len() == 43) {
        return FormToken { token: derive(&form, &login), set_cookie: None };
    }
    let fresh = portico_ids::secret_token(&*app.rng);
    let form = fresh.expose_secret();
    FormToken { token: derive(form, &login), set_cookie: Cookie::Form.set(form, secure) }
}

/// Tells whether a form came from one of our pages in this browser.
pub(crate) fn holds(app: &App, headers: &HeaderMap, token: Option<&str>) -> bool {
    let secure = app.is_secure();
    let Some(form) = Cookie::Form.read(headers, secure) else { return false };
    let login = Cookie::Login.read(headers, secure).unwrap_or_default();
    let expected = derive(&form, &login);
    !is_foreign(app, headers)
        && verify_slices_are_equal(expected.as_bytes(), token.unwrap_or_default().as_bytes()).is_ok()
}

/// Tells whether a browser says that a form came from elsewhere. Our own forms come with the origin `null`, because
/// our pages send no referrer (Fetch §3.2.3), so only a name that is not ours says something.
fn is_foreign(app: &App, headers: &HeaderMap) -> bool {
    let ours = app.resources.origin().as_bytes();
    let named = headers.get(ORIGIN).map(HeaderValue::as_bytes);
    let site = headers.get(SEC_FETCH_SITE).map(HeaderValue::as_bytes);
    named.is_some_and(|origin| origin != ours && origin != b"null")
        || site.is_some_and(|site| site != b"same-origin" && site != b"none")
}

fn derive(form: &str, login: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, format!("portico form v1\n{form}\n{login}").as_bytes()))
}
