//! Scopes: coarse permissions that a token carries.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A scope that Portico knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Scope {
    /// Calls tools, prompts and resources through an endpoint.
    Mcp,
    /// Reads the registry.
    RegistryRead,
    /// Changes the registry; implies reading it.
    RegistryWrite,
    /// Administers; implies every scope that allows an action.
    Admin,
    /// Asks for an ID token (OpenID Connect Core §3.1.2.1).
    Openid,
    /// Asks for the profile claims (OpenID Connect Core §5.4).
    Profile,
    /// Asks for the e-mail claims (OpenID Connect Core §5.4).
    Email,
    /// Asks for a refresh token (OpenID Connect Core §11).
    OfflineAccess,
}

/// Why a text is not a scope or a set of scopes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidScope {
    /// It breaks the grammar of RFC 6749 §3.3.
    #[error("the scope is malformed: separate printable ASCII words by single spaces")]
    Malformed,
    /// Nobody here knows it.
    #[error("the scope {0:?} is unknown: ask for scopes listed in scopes_supported")]
    Unknown(String),
}

impl Scope {
    /// Every scope, in the order in which sets are written.
    pub const ALL: [Self; 8] = [
        Self::Mcp,
        Self::RegistryRead,
        Self::RegistryWrite,
        Self::Admin,
        Self::Openid,
        Self::Profile,
        Self::Email,
        Self::OfflineAccess,
    ];

    /// Reads one scope.
    pub fn parse(text: &str) -> Result<Self, InvalidScope> {
        if !is_scope_token(text) {
            return Err(InvalidScope::Malformed);
        }
        Self::known(text).ok_or_else(|| InvalidScope::Unknown(text.to_owned()))
    }

    /// Returns the scope as tokens carry it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mcp => "mcp",
            Self::RegistryRead => "registry:read",
            Self::RegistryWrite => "registry:write",
            Self::Admin => "admin",
            Self::Openid => "openid",
            Self::Profile => "profile",
            Self::Email => "email",
            Self::OfflineAccess => "offline_access",
        }
    }

    /// Returns what holding this scope allows, itself included. Those of OpenID Connect ask for something at login
    /// and allow nothing, so no other scope implies them.
    #[must_use]
    pub const fn implied(self) -> ScopeSet {
        let own = self.bit();
        match self {
            Self::Admin => {
                ScopeSet(own | Self::Mcp.bit() | Self::RegistryRead.bit() | Self::RegistryWrite.bit())
            }
            Self::RegistryWrite => ScopeSet(own | Self::RegistryRead.bit()),
            _ => ScopeSet(own),
        }
    }

    fn known(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Checks the grammar of RFC 6749 §3.3: `1*( %x21 / %x23-5B / %x5D-7E )`.
fn is_scope_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = InvalidScope;

    fn from_str(text: &str) -> Result<Self, InvalidScope> {
        Self::parse(text)
    }
}

/// A set of scopes. On the wire it is a text with single spaces (RFC 6749 §3.3).
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ScopeSet(u8);

impl ScopeSet {
    /// No scope.
    pub const EMPTY: Self = Self(0);

    /// Reads a set; a scope that is unknown here is refused.
    pub fn parse(text: &str) -> Result<Self, InvalidScope> {
        let mut set = Self::EMPTY;
        for token in tokens(text) {
            set.insert(Scope::parse(token)?);
        }
        Ok(set)
    }

    /// Reads a set and leaves out scopes that are unknown here, as RFC 6749 §3.3 lets a server do.
    pub fn parse_known(text: &str) -> Result<Self, InvalidScope> {
        let mut set = Self::EMPTY;
        for token in tokens(text) {
            if !is_scope_token(token) {
                return Err(InvalidScope::Malformed);
            }
            set.0 |= Scope::known(token).map_or(0, Scope::bit);
        }
        Ok(set)
    }

    /// Adds a scope.
    pub fn insert(&mut self, scope: Scope) {
        self.0 |= scope.bit();
    }

    /// Tells whether the set names this very scope.
    #[must_use]
    pub const fn contains(&self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// Tells whether the set allows what `scope` allows: it names it or a broader one.
    #[must_use]
    pub fn covers(&self, scope: &Scope) -> bool {
        self.expanded() & scope.bit() != 0
    }

    /// Tells whether the set covers every scope of `other`, so that `other` is no wider.
    #[must_use]
    pub fn covers_all(&self, other: &Self) -> bool {
        other.0 & !self.expanded() == 0
    }

    /// Returns the scopes of `self` that `granted` covers.
    #[must_use]
    pub fn narrowed_to(self, granted: Self) -> Self {
        Self(self.0 & granted.expanded())
    }

    /// Returns the scopes of both sets.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns the set without `scope`.
    #[must_use]
    pub const fn without(self, scope: Scope) -> Self {
        Self(self.0 & !scope.bit())
    }

    /// Tells whether the set names no scope.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0 == 0
    }

    /// Returns the scopes that the set names.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.contains(*scope))
    }

    fn expanded(self) -> u8 {
        self.iter().fold(0, |bits, scope| bits | scope.implied().0)
    }
}

/// Splits at single spaces; an empty text has no tokens, a doubled space has an empty one, which is then refused.
fn tokens(text: &str) -> impl Iterator<Item = &str> {
    text.split(' ').filter(move |_| !text.is_empty())
}

impl FromIterator<Scope> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        let mut set = Self::EMPTY;
        for scope in scopes {
            set.insert(scope);
        }
        set
    }
}

impl From<Scope> for ScopeSet {
    fn from(scope: Scope) -> Self {
        Self(scope.bit())
    }
}

impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, scope) in self.iter().enumerate() {
            if position > 0 {
                f.write_str(" ")?;
            }
            f.write_str(scope.as_str())?;
        }
        Ok(())
    }
}

impl fmt::Debug for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScopeSet({self})")
    }
}

impl FromStr for ScopeSet {
    type Err = InvalidScope;

    fn from_str(text: &str) -> Result<Self, InvalidScope> {
        Self::parse(text)
    }
}

impl Serialize for ScopeSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Leaves out unknown scopes: what a newer issuer grants allows nothing here, and must not break an older verifier.
impl<'de> Deserialize<'de> for ScopeSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = ScopeSet;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("scopes separated by spaces")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ScopeSet, E> {
                ScopeSet::parse_known(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_set() -> impl Strategy<Value = ScopeSet> {
        any::<u8>().prop_map(ScopeSet)
    }

    proptest! {
        #[test]
        fn a_set_reads_back_as_written(set in any_set()) {
            prop_assert_eq!(ScopeSet::parse(&set.to_string()), Ok(set));
        }

        #[test]
        fn rs_12_adding_a_scope_never_takes_a_permission_away(set in any_set(), more in any_set()) {
            for scope in Scope::ALL {
                prop_assert!(!set.covers(&scope) || set.union(more).covers(&scope));
            }
        }

        #[test]
        fn rs_12_implication_is_transitive(set in any_set()) {
            for scope in Scope::ALL.into_iter().filter(|scope| set.covers(scope)) {
                prop_assert!(set.covers_all(&scope.implied()));
            }
        }

        #[test]
        fn narrowing_never_widens(asked in any_set(), granted in any_set()) {
            let narrowed = asked.narrowed_to(granted);
            prop_assert!(granted.covers_all(&narrowed));
            prop_assert_eq!(narrowed.union(asked), asked);
        }

        #[test]
        fn reading_any_text_does_not_panic(text in ".{0,40}") {
            let _ = ScopeSet::parse(&text);
            let _ = ScopeSet::parse_known(&text);
        }
    }

    #[test]
    fn broader_scopes_imply_narrower_ones() {
        let write = ScopeSet::from(Scope::RegistryWrite);
        assert!(write.covers(&Scope::RegistryRead) && !write.covers(&Scope::Mcp));
        let admin = ScopeSet::from(Scope::Admin);
        assert!(
            [Scope::Mcp, Scope::RegistryRead, Scope::RegistryWrite].iter().all(|scope| admin.covers(scope))
        );
        assert!(!admin.covers(&Scope::OfflineAccess));
        assert!(!ScopeSet::from(Scope::RegistryRead).covers(&Scope::RegistryWrite));
    }

    #[test]
    fn malformed_sets_are_refused() {
        for text in [" ", "mcp  admin", " mcp", "mcp ", "mcp\tadmin", "m\"cp", "m\\cp", "möp"] {
            assert_eq!(ScopeSet::parse_known(text), Err(InvalidScope::Malformed), "{text:?}");
        }
    }

    #[test]
    fn unknown_scopes_are_refused_or_left_out_as_asked() {
        assert_eq!(ScopeSet::parse("mcp fly"), Err(InvalidScope::Unknown("fly".to_owned())));
        assert_eq!(ScopeSet::parse_known("mcp fly"), Ok(Scope::Mcp.into()));
        assert_eq!(serde_json::from_str::<ScopeSet>("\"fly mcp\"").unwrap(), Scope::Mcp.into());
        assert!(serde_json::from_str::<ScopeSet>("[\"mcp\"]").is_err());
    }
}
