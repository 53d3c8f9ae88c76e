//! Names of endpoints, the first path segment of a published route.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// First path segments that belong to Portico itself.
pub const RESERVED_NAMES: [&str; 17] = [
    "mcp",
    "sse",
    "a2a",
    "issuer",
    "oauth2",
    "login",
    "account",
    "connect",
    "scim",
    "api",
    "v0",
    "console",
    "authorize",
    "token",
    "register",
    "health",
    "static",
];

const MAX_LENGTH: usize = 63;

/// The name of an endpoint: a slug that is not reserved. Cloning it is cheap.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointName(Arc<str>);

/// Why a text is not the name of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// It has no characters.
    #[error("the name is empty: use 1 to 63 characters")]
    Empty,
    /// It has too many characters.
    #[error("the name is longer than 63 characters: shorten it")]
    TooLong,
    /// It starts with a hyphen.
    #[error("the name starts with a hyphen: start it with a lower-case letter or a digit")]
    Start,
    /// It has a character that no name may have.
    #[error("the name has {0:?}: use lower-case letters, digits and hyphens only")]
    Character(char),
    /// It is a path of Portico itself.
    #[error("the name {0:?} is reserved: choose another one")]
    Reserved(&'static str),
}

impl EndpointName {
    /// Checks that `text` is a slug `[a-z0-9][a-z0-9-]{0,62}` that is not reserved.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        check_slug(text)?;
        if let Some(reserved) = RESERVED_NAMES.into_iter().find(|reserved| *reserved == text) {
            return Err(InvalidName::Reserved(reserved));
        }
        Ok(Self(Arc::from(text)))
    }

    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Checks the characters and the length of a slug.
pub(crate) fn check_slug(text: &str) -> Result<(), InvalidName> {
    if text.is_empty() {
        return Err(InvalidName::Empty);
    }
    if let Some(bad) = text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
        return Err(InvalidName::Character(bad));
    }
    if text.len() > MAX_LENGTH {
        return Err(InvalidName::TooLong);
    }
    if text.starts_with('-') {
        return Err(InvalidName::Start);
    }
    Ok(())
}

impl Borrow<str> for EndpointName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for EndpointName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EndpointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for EndpointName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::parse(text)
    }
}

impl Serialize for EndpointName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for EndpointName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_accepted() {
        for name in ["a", "0", "weather", "my-server-2", "a-", &"x".repeat(63)] {
            assert_eq!(EndpointName::parse(name).map(|n| n.to_string()), Ok(name.to_owned()));
        }
    }

    #[test]
    fn other_texts_are_refused_with_the_reason() {
        let long = "x".repeat(64);
        for (name, reason) in [
            ("", InvalidName::Empty),
            ("-a", InvalidName::Start),
            ("A", InvalidName::Character('A')),
            ("a/b", InvalidName::Character('/')),
            ("a.b", InvalidName::Character('.')),
            ("a_b", InvalidName::Character('_')),
            ("ä", InvalidName::Character('ä')),
            ("a\n", InvalidName::Character('\n')),
            (&long, InvalidName::TooLong),
            ("mcp", InvalidName::Reserved("mcp")),
            ("v0", InvalidName::Reserved("v0")),
        ] {
            assert_eq!(EndpointName::parse(name), Err(reason), "{name:?}");
        }
    }

    #[test]
    fn every_reserved_name_is_refused_and_a_longer_one_is_not() {
        for name in RESERVED_NAMES {
            assert_eq!(EndpointName::parse(name), Err(InvalidName::Reserved(name)));
            assert!(EndpointName::parse(&format!("{name}-x")).is_ok());
        }
    }
}
