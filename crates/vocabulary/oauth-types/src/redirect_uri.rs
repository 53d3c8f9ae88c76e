//! Redirect URIs: which ones a client may register, and which request matches a registered one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use url::form_urlencoded;

use crate::strict_uri::{InvalidUri, StrictUri};

/// Redirect URIs with a private-use scheme that is not a reversed domain, accepted because the client is widely used.
const PRIVATE_USE_EXCEPTIONS: [&str; 1] = ["cursor://anysphere.cursor-mcp/oauth/callback"];

/// Hosts that mean this machine (RFC 8252 §7.3; `localhost` because common clients register it).
const LOOPBACK_HOSTS: [&str; 3] = ["127.0.0.1", "[::1]", "localhost"];

/// Why a client may not use a redirect URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRedirectUri {
    /// The text is not a URI in its plain form.
    #[error("the redirect URI is refused: {0}")]
    Uri(#[from] InvalidUri),
    /// It is plain HTTP to another machine.
    #[error("the redirect URI uses http: use https, or http with 127.0.0.1, [::1] or localhost")]
    PlainHttp,
    /// Its scheme is neither http(s) nor a reversed domain name (RFC 8252 §7.1).
    #[error(
        "the scheme of the redirect URI is refused: use https, or a reversed domain such as com.example.app:/callback"
    )]
    Scheme,
}

/// How the browser hands the response to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedirectKind {
    /// An https URL: a claimed one or a server's (RFC 8252 §7.2).
    Https,
    /// A port of this machine (RFC 8252 §7.3); any program on it may listen there.
    Loopback,
    /// A private-use scheme (RFC 8252 §7.1); any app may claim it, so it always needs a consent.
    PrivateUse,
}

/// A redirect URI that a client may use, exactly as it was written.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RedirectUri {
    text: Box<str>,
}

impl RedirectUri {
    /// Checks the rules of RFC 6749 §3.1.2, RFC 8252 §7 and §8.3 and RFC 9700 §4.1.
    pub fn parse(text: &str) -> Result<Self, InvalidRedirectUri> {
        let uri = StrictUri::parse(text)?;
        match uri.scheme {
            "https" => {
                uri.hierarchical(text)?;
            }
            "http" => {
                let host = uri.hierarchical(text)?.host;
                if !LOOPBACK_HOSTS.contains(&host) {
                    return Err(InvalidRedirectUri::PlainHttp);
                }
            }
            scheme if is_reversed_domain(scheme) && uri.rest.starts_with('/') => {}
            _ if PRIVATE_USE_EXCEPTIONS.contains(&text) => {}
            _ => return Err(InvalidRedirectUri::Scheme),
        }
        Ok(Self { text: text.into() })
    }

    /// Returns the URI as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Tells how the browser hands the response over.
    #[must_use]
    pub fn kind(&self) -> RedirectKind {
        match self.text.split(':').next() {
            Some("https") => RedirectKind::Https,
            Some("http") => RedirectKind::Loopback,
            _ => RedirectKind::PrivateUse,
        }
    }

    /// Returns what a consent page shows as the receiver: the host, or the scheme where there is none.
    #[must_use]
    pub fn receiver(&self) -> &str {
        let (scheme, rest) = self.text.split_once(':').unwrap_or((&self.text, ""));
        match (self.kind(), rest.strip_prefix("//")) {
            (RedirectKind::Https | RedirectKind::Loopback, Some(after)) => {
                after.split(['/', '?']).next().unwrap_or(after)
            }
            _ => scheme,
        }
    }

    /// Tells whether a request may use `requested` when `self` is registered: the same string (RFC 9700 §4.1.3), and
    /// for a loopback URI the same but for the port (RFC 8252 §7.3).
    #[must_use]
    pub fn matches(&self, requested: &Self) -> bool {
        if self.text == requested.text {
            return true;
        }
        match (self.loopback_without_port(), requested.loopback_without_port()) {
            (Some(registered), Some(requested)) => registered == requested,
            _ => false,
        }
    }

    /// Returns the address that carries `parameters` back; a query that was registered stays (RFC 6749 §3.1.2).
    #[must_use]
    pub fn with_parameters(&self, parameters: &[(&str, &str)]) -> String {
        let mut location = String::from(&*self.text);
        match self.text.split_once('?') {
            None => location.push('?'),
            Some((_, query)) if query.is_empty() || query.ends_with('&') => {}
            Some(_) => location.push('&'),
        }
        let start = location.len();
        form_urlencoded::Serializer::for_suffix(location, start).extend_pairs(parameters).finish()
    }

    /// Returns host, path and query of a loopback URI; an empty path is `/` (RFC 3986 §6.2.3).
    fn loopback_without_port(&self) -> Option<(&str, String)> {
        if self.kind() != RedirectKind::Loopback {
            return None;
        }
        let parts = StrictUri::parse(&self.text).ok()?.hierarchical(&self.text).ok()?;
        let slash = if parts.tail.starts_with('/') { "" } else { "/" };
        Some((parts.host, format!("{slash}{}", parts.tail)))
    }
}

/// Tells whether a scheme is a domain name backwards (RFC 8252 §7.1), such as `com.example.app`.
fn is_reversed_domain(scheme: &str) -> bool {
    let mut labels = scheme.split('.');
    let top_level = labels.next().unwrap_or_default();
    let plain = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    };
    top_level.len() >= 2
        && top_level.bytes().all(|b| b.is_ascii_lowercase())
        && scheme.contains('.')
        && labels.all(plain)
}

impl fmt::Display for RedirectUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for RedirectUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedirectUri({})", self.text)
    }
}

impl FromStr for RedirectUri {
    type Err = InvalidRedirectUri;

    fn from_str(text: &str) -> Result<Self, InvalidRedirectUri> {
        Self::parse(text)
    }
}

impl Serialize for RedirectUri {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for RedirectUri {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
