//! Resource URIs: what a token is for (RFC 8707), and where its metadata is (RFC 9728).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::metadata::PROTECTED_RESOURCE_WELL_KNOWN;
use crate::strict_uri::{InvalidUri, StrictUri};

/// Why a text does not name a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidResource {
    /// The text is not a URI in its plain form.
    #[error("the resource is refused: {0}")]
    Uri(#[from] InvalidUri),
    /// Its scheme is neither https nor http.
    #[error("the resource is refused: use the https URL of the endpoint")]
    Scheme,
    /// It has a query.
    #[error("the resource has a query: remove everything from the ? on")]
    Query,
}

/// The canonical URI of a protected resource: scheme and host in lower case, no default port, no slash behind a bare
/// origin. Nothing else is changed, so two resources are the same exactly when their texts are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceUri {
    text: Box<str>,
    /// Where the path starts.
    path: usize,
}

impl ResourceUri {
    /// Checks the rules of RFC 8707 §2 (absolute, no fragment) and writes the URI canonically.
    pub fn parse(text: &str) -> Result<Self, InvalidResource> {
        let lower = lower_case_scheme(text);
        let uri = StrictUri::parse(&lower)?;
        if !matches!(uri.scheme, "https" | "http") {
            return Err(InvalidResource::Scheme);
        }
        let parts = uri.hierarchical(&lower)?;
        if parts.tail.contains('?') {
            return Err(InvalidResource::Query);
        }
        let origin = parts.url.origin().ascii_serialization();
        let path = if parts.tail == "/" { "" } else { parts.tail };
        Ok(Self { path: origin.len(), text: format!("{origin}{path}").into_boxed_str() })
    }

    /// Returns the canonical text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns scheme, host and port.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.text[..self.path]
    }

    /// Returns the path: empty for a bare origin, else with its leading slash.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.text[self.path..]
    }

    /// Returns where the metadata of this resource is: the well-known name stands between host and path
    /// (RFC 9728 §3.1).
    #[must_use]
    pub fn metadata_url(&self) -> String {
        format!("{}{PROTECTED_RESOURCE_WELL_KNOWN}{}", self.origin(), self.path())
    }
}

fn lower_case_scheme(text: &str) -> String {
    match text.split_once(':') {
        Some((scheme, rest)) => format!("{}:{rest}", scheme.to_ascii_lowercase()),
        None => text.to_owned(),
    }
}

impl fmt::Display for ResourceUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for ResourceUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResourceUri({})", self.text)
    }
}

impl FromStr for ResourceUri {
    type Err = InvalidResource;

    fn from_str(text: &str) -> Result<Self, InvalidResource> {
        Self::parse(text)
    }
}

impl Serialize for ResourceUri {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for ResourceUri {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(text: &str) -> Result<String, InvalidResource> {
        ResourceUri::parse(text).map(|resource| resource.to_string())
    }

    #[test]
    fn as_13_scheme_host_port_and_a_root_slash_are_canonical() {
        for (text, expected) in [
            ("HTTPS://Portico.Example/weather/mcp", "https://portico.example/weather/mcp"),
            ("https://portico.example:443/mcp", "https://portico.example/mcp"),
            ("http://127.0.0.1:8080/mcp", "http://127.0.0.1:8080/mcp"),
            ("https://portico.example/", "https://portico.example"),
            ("https://portico.example", "https://portico.example"),
            ("https://portico.example/mcp/", "https://portico.example/mcp/"),
            ("https://portico.example/A%2fb", "https://portico.example/A%2fb"),
        ] {
            assert_eq!(canonical(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn as_13_other_texts_are_refused() {
        use InvalidUri::{Character, DotSegment, Fragment, Host, NotAbsolute, UserInfo};
        for (text, reason) in [
            ("", InvalidResource::Uri(NotAbsolute)),
            ("/mcp", InvalidResource::Uri(NotAbsolute)),
            ("https://h/mcp#x", InvalidResource::Uri(Fragment)),
            ("https://a@h/mcp", InvalidResource::Uri(UserInfo)),
            ("https://h/a/../mcp", InvalidResource::Uri(DotSegment)),
            ("https://h\\mcp", InvalidResource::Uri(Character)),
            ("https:h/mcp", InvalidResource::Uri(Host)),
            ("https://h/mcp?x", InvalidResource::Query),
            ("urn:example:resource", InvalidResource::Scheme),
        ] {
            assert_eq!(canonical(text), Err(reason), "{text}");
        }
    }

    #[test]
    fn rs_02_the_well_known_name_stands_between_host_and_path() {
        for (text, expected) in [
            ("https://h/weather/mcp", "https://h/.well-known/oauth-protected-resource/weather/mcp"),
            ("https://h:8443/mcp", "https://h:8443/.well-known/oauth-protected-resource/mcp"),
            ("https://h/", "https://h/.well-known/oauth-protected-resource"),
        ] {
            assert_eq!(ResourceUri::parse(text).unwrap().metadata_url(), expected);
        }
    }

    proptest! {
        #[test]
        fn a_canonical_text_stays_as_it_is(text in "(?i:https?)://[a-zA-Z0-9.-]{1,12}(:[0-9]{1,4})?(/[a-zA-Z0-9%._-]{0,8}){0,3}") {
            if let Ok(once) = canonical(&text) {
                prop_assert_eq!(canonical(&once), Ok(once.clone()));
            }
        }
    }
}
