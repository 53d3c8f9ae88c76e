//! Cookies (RFC 6265bis): host-only, for https only, out of reach of scripts (AS-17).

use chrono::Duration;
use http::HeaderMap;
use http::header::{COOKIE, HeaderValue};

/// A cookie of these pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cookie {
    /// Who is signed in.
    Login,
    /// What forms are checked against.
    Form,
    /// That somebody has signed in here before.
    Known,
}

impl Cookie {
    /// Over plain-HTTP loopback, which only a development deployment allows, browsers refuse the prefix.
    const fn name(self, secure: bool) -> &'static str {
        match (self, secure) {
            (Self::Login, true) => "__Host-portico-login",
            (Self::Login, false) => "portico-login",
            (Self::Form, true) => "__Host-portico-form",
            (Self::Form, false) => "portico-form",
            (Self::Known, true) => "__Host-portico-known",
            (Self::Known, false) => "portico-known",
        }
    }

    pub(crate) fn read(self, headers: &HeaderMap, secure: bool) -> Option<String> {
        let name = self.name(secure);
        headers
            .get_all(COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.to_owned())
    }

    /// Makes a `Set-Cookie` that lives as long as the browser.
    pub(crate) fn set(self, value: &str, secure: bool) -> Option<HeaderValue> {
        self.write(value, "", secure)
    }

    /// Makes a `Set-Cookie` that lives on when the browser is closed.
    pub(crate) fn keep(self, value: &str, lifetime: Duration, secure: bool) -> Option<HeaderValue> {
        self.write(value, &format!("; Max-Age={}", lifetime.num_seconds()), secure)
    }

    /// Makes a `Set-Cookie` that takes it away.
    pub(crate) fn clear(self, secure: bool) -> Option<HeaderValue> {
        self.write("", "; Max-Age=0", secure)
    }

    fn write(self, value: &str, age: &str, secure: bool) -> Option<HeaderValue> {
        let flag = if secure { "; Secure" } else { "" };
        let text = format!("{}={value}; Path=/; HttpOnly; SameSite=Lax{flag}{age}", self.name(secure));
        HeaderValue::from_str(&text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_17_cookies_are_host_only_secure_and_out_of_reach_of_scripts() {
        let cookie = Cookie::Login.set("x", true).unwrap();
        assert_eq!(cookie, "__Host-portico-login=x; Path=/; HttpOnly; SameSite=Lax; Secure");
        let plain = Cookie::Login.set("x", false).unwrap();
        assert_eq!(plain, "portico-login=x; Path=/; HttpOnly; SameSite=Lax");
        let kept = Cookie::Known.keep("x", Duration::hours(1), true).unwrap();
        assert_eq!(kept, "__Host-portico-known=x; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=3600");
        assert!(Cookie::Login.clear(true).unwrap().to_str().unwrap().ends_with("Max-Age=0"));
    }

    #[test]
    fn a_cookie_is_found_by_its_exact_name() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=1; portico-login=plain"));
        headers.append(COOKIE, HeaderValue::from_static("__Host-portico-login=secure"));
        assert_eq!(Cookie::Login.read(&headers, true).as_deref(), Some("secure"));
        assert_eq!(Cookie::Login.read(&headers, false).as_deref(), Some("plain"));
        assert_eq!(Cookie::Form.read(&headers, true), None);
    }
}
