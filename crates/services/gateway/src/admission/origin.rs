use std::net::IpAddr;

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, HeaderValue, Uri};
use url::Url;

use crate::refusal::{Reason, Refusal};
use crate::settings::GatewaySettings;

/// Which `Host` and which `Origin` are let in; against DNS rebinding (RS-32).
#[derive(Debug)]
pub(crate) struct OriginGuard {
    /// `scheme://host[:port]`, no trailing slash.
    origin: String,
    /// `host[:port]` of it.
    authority: String,
    /// The same with the scheme's own port, if none is written.
    with_port: Option<String>,
    allowed: Vec<String>,
    loopback: bool,
}

impl OriginGuard {
    pub(crate) fn new(settings: &GatewaySettings) -> Self {
        let origin = settings.public_origin.origin().ascii_serialization();
        let authority = origin.split_once("://").map_or(origin.as_str(), |(_, rest)| rest).to_owned();
        let default_port = match (settings.public_origin.port(), settings.public_origin.scheme()) {
            (None, "https") => Some(443),
            (None, "http") => Some(80),
            _ => None,
        };
        Self {
            with_port: default_port.map(|port| format!("{authority}:{port}")),
            origin,
            authority,
            allowed: settings.allowed_origins.clone(),
            loopback: settings.allow_loopback_origins,
        }
    }

    /// The public origin, without a trailing slash.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// Refuses a request that was sent to another host.
    pub(crate) fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let mut hosts = headers.get_all(HOST).iter();
        let sent = match (uri.authority(), hosts.next(), hosts.next()) {
            (Some(authority), _, None) => Some(authority.as_str()),
            (None, Some(host), None) => host.to_str().ok(),
            _ => None,
        };
        let matches = |sent: &str| {
            sent.eq_ignore_ascii_case(&self.authority)
                || self.with_port.as_deref().is_some_and(|full| sent.eq_ignore_ascii_case(full))
        };
        if sent.is_some_and(matches) {
            return Ok(());
        }
        Err(Refusal::new(
            Reason::WrongHost,
            format!("this host is not served here; use {}{}", self.origin, uri.path()),
        ))
    }

    /// Refuses a request from a page that is not on the list; gives the `Origin` back for CORS.
    pub(crate) fn check_origin(&self, headers: &HeaderMap) -> Result<Option<HeaderValue>, Refusal> {
        let mut origins = headers.get_all(ORIGIN).iter();
        let Some(origin) = origins.next() else { return Ok(None) };
        let text = origin.to_str().unwrap_or("");
        let known = text == self.origin
            || self.allowed.iter().any(|a| a == text)
            || (self.loopback && is_loopback(text));
        if known && origins.next().is_none() {
            return Ok(Some(origin.clone()));
        }
        Err(Refusal::new(
            Reason::OriginNotAllowed,
            "pages of this origin may not call; an operator can add it to gateway.allowed_origins",
        ))
    }
}

fn is_loopback(origin: &str) -> bool {
    let Ok(url) = Url::parse(origin) else { return false };
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => IpAddr::V4(ip).is_loopback(),
        Some(url::Host::Ipv6(ip)) => IpAddr::V6(ip).is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(origin: &str, loopback: bool) -> OriginGuard {
        OriginGuard::new(&GatewaySettings {
            public_origin: Url::parse(origin).unwrap(),
            allowed_origins: vec!["https://ok.example".to_owned()],
            allow_loopback_origins: loopback,
            ..GatewaySettings::default()
        })
    }

    fn with(name: &http::HeaderName, values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_forged_host_is_told_the_right_url() {
        let guard = guard("https://mcp.example.org", false);
        let uri = Uri::from_static("/demo/mcp");
        for host in ["mcp.example.org", "MCP.example.org:443"] {
            assert!(guard.check_host(&uri, &with(&HOST, &[host])).is_ok(), "{host}");
        }
        for hosts in
            [&["evil.example"][..], &["mcp.example.org:8443"], &[], &["mcp.example.org", "evil.example"]]
        {
            let refusal = guard.check_host(&uri, &with(&HOST, hosts)).unwrap_err();
            assert_eq!(refusal.reason.status(), 421);
            assert!(refusal.message().contains("https://mcp.example.org/demo/mcp"));
        }
    }

    #[test]
    fn rs_32_only_listed_origins_pass() {
        let strict = guard("https://mcp.example.org", false);
        assert_eq!(strict.check_origin(&HeaderMap::new()).unwrap(), None);
        for origin in ["https://mcp.example.org", "https://ok.example"] {
            assert!(strict.check_origin(&with(&ORIGIN, &[origin])).unwrap().is_some(), "{origin}");
        }
        for origin in ["https://evil.example", "null", "http://mcp.example.org", "http://localhost:6274", ""]
        {
            let refusal = strict.check_origin(&with(&ORIGIN, &[origin])).unwrap_err();
            assert_eq!(refusal.reason, Reason::OriginNotAllowed, "{origin}");
        }
        let dev = guard("http://127.0.0.1:8080", true);
        assert!(dev.check_origin(&with(&ORIGIN, &["http://localhost:6274"])).is_ok());
        assert!(dev.check_origin(&with(&ORIGIN, &["http://localhost.evil.example"])).is_err());
    }
}
