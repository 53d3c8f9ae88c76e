//! References to secrets, and what the registry says about a secret. Values are never part of it.

use std::fmt;

use chrono::{DateTime, Utc};
use portico_ids::PrincipalId;

use crate::errors::RegistryError;

/// What stands before a reference where a value could stand too.
pub(crate) const PREFIX: &str = "secret_ref:";
/// Longest reference.
const REF_LIMIT: usize = 200;
/// Largest value: room for a certificate chain with its key.
pub(crate) const VALUE_LIMIT: usize = 64 * 1024;

/// The name of a secret, without `secret_ref:`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SecretRef(String);

impl SecretRef {
    /// Accepts `[a-zA-Z0-9][a-zA-Z0-9_.:/-]{0,199}`, with or without `secret_ref:` in front.
    pub(crate) fn parse(value: &str) -> Result<Self, RegistryError> {
        let name = value.strip_prefix(PREFIX).unwrap_or(value);
        let first = name.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric());
        let rest = name.bytes().all(|c| c.is_ascii_alphanumeric() || b"_.:/-".contains(&c));
        if first && rest && name.len() <= REF_LIMIT {
            return Ok(Self(name.to_owned()));
        }
        // The value is not repeated: somebody may have put the secret itself here.
        Err(RegistryError::invalid("ref", "a secret reference is [a-zA-Z0-9][a-zA-Z0-9_.:/-]{0,199}"))
    }

    /// Accepts the content of a field that must hold a reference; a value there is a leak in the making (S4-10).
    pub(crate) fn parse_field(field: &str, value: &str) -> Result<Self, RegistryError> {
        if !value.starts_with(PREFIX) {
            return Err(RegistryError::PlainSecret { field: field.to_owned() });
        }
        Self::parse(value).map_err(|_| {
            RegistryError::invalid(field, "the part after secret_ref: is [a-zA-Z0-9][a-zA-Z0-9_.:/-]{0,199}")
        })
    }

    /// Takes a reference that was parsed before it was stored.
    pub(crate) const fn stored(name: String) -> Self {
        Self(name)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What people may know about a secret.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Secret {
    pub(crate) reference: SecretRef,
    pub(crate) version: i64,
    pub(crate) owner: PrincipalId,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s4_10_a_reference_is_accepted_with_and_without_its_prefix() {
        assert_eq!(SecretRef::parse("secret_ref:instance_X:KEY").unwrap().as_str(), "instance_X:KEY");
        assert_eq!(SecretRef::parse("instance_X:KEY").unwrap().as_str(), "instance_X:KEY");
        for bad in ["", ":x", "a b", "secret_ref:", &"a".repeat(201)] {
            assert!(SecretRef::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn s4_10_a_plain_value_in_a_secret_field_is_refused_without_repeating_it() {
        let error = SecretRef::parse_field("authentication.token", "canary-4711").unwrap_err();
        assert!(matches!(error, RegistryError::PlainSecret { .. }));
        assert!(!error.to_string().contains("canary"));
        let error = SecretRef::parse_field("authentication.token", "secret_ref:canary 4711").unwrap_err();
        assert!(!error.to_string().contains("canary"));
    }
}
