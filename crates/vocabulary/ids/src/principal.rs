//! Who acts.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::endpoint_name::check_slug;
use crate::{ServiceAccountId, UserId};

/// The subject of a decision: a person, a program with an identity of its own, or one of Portico's services.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PrincipalId {
    /// A person, written `user:<uuid>`.
    User(UserId),
    /// A program without a person, written `service-account:<uuid>`.
    ServiceAccount(ServiceAccountId),
    /// One of Portico's own services, written `service:<name>`.
    Service(String),
}

/// Why a text does not name a principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a principal: write user:<uuid>, service-account:<uuid> or service:<name>")]
pub struct InvalidPrincipal;

impl fmt::Display for PrincipalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => write!(f, "user:{id}"),
            Self::ServiceAccount(id) => write!(f, "service-account:{id}"),
            Self::Service(name) => write!(f, "service:{name}"),
        }
    }
}

impl FromStr for PrincipalId {
    type Err = InvalidPrincipal;

    fn from_str(text: &str) -> Result<Self, InvalidPrincipal> {
        let (kind, name) = text.split_once(':').ok_or(InvalidPrincipal)?;
        match kind {
            "user" => name.parse().map(Self::User).map_err(|_| InvalidPrincipal),
            "service-account" => name.parse().map(Self::ServiceAccount).map_err(|_| InvalidPrincipal),
            "service" => match check_slug(name) {
                Ok(()) => Ok(Self::Service(name.to_owned())),
                Err(_) => Err(InvalidPrincipal),
            },
            _ => Err(InvalidPrincipal),
        }
    }
}

impl From<UserId> for PrincipalId {
    fn from(id: UserId) -> Self {
        Self::User(id)
    }
}

impl From<ServiceAccountId> for PrincipalId {
    fn from(id: ServiceAccountId) -> Self {
        Self::ServiceAccount(id)
    }
}

impl Serialize for PrincipalId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PrincipalId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    #[test]
    fn principals_read_back_as_written() {
        for text in [format!("user:{UUID}"), format!("service-account:{UUID}"), "service:gateway".to_owned()]
        {
            assert_eq!(text.parse::<PrincipalId>().map(|p| p.to_string()), Ok(text));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        let upper = format!("user:{}", UUID.to_uppercase());
        for text in
            ["", "user", "user:", "user:bob", UUID, "service:", "service:A", "service:a:b", "team:x", &upper]
        {
            assert_eq!(text.parse::<PrincipalId>(), Err(InvalidPrincipal), "{text}");
        }
    }
}
