//! Typed identifiers.

use std::fmt;
use std::str::FromStr;

use portico_clock::Clock;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::{Builder, Uuid};

use crate::Rng;

/// Why a text is not an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a {kind} id: write a UUID as 8-4-4-4-12 lower-case hexadecimal digits")]
pub struct InvalidId {
    /// What the identifier would name, such as `server`.
    pub kind: &'static str,
}

/// Makes a `UUIDv7` whose bits after the millisecond hold the microseconds (RFC 9562 §6.2, method 3), so ids sort by
/// the time of their making more finely than by the millisecond.
fn generate(clock: &dyn Clock, rng: &dyn Rng) -> Uuid {
    let now = clock.now();
    let millis = u64::try_from(now.timestamp_millis()).unwrap_or_default();
    let fraction = (now.timestamp_subsec_micros() % 1000) * 4096 / 1000;
    let mut random = [0; 10];
    rng.fill(&mut random[2..]);
    let [.., high, low] = fraction.to_be_bytes();
    (random[0], random[1]) = (high, low);
    Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

/// Accepts one spelling only, the one that is written: two texts that differ never name the same thing.
fn parse(text: &str, kind: &'static str) -> Result<Uuid, InvalidId> {
    if text.len() != 36 || text.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(InvalidId { kind });
    }
    Uuid::try_parse(text).map_err(|_| InvalidId { kind })
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $kind:literal;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// Makes a new identifier that sorts after those made earlier.
            #[must_use]
            pub fn generate(clock: &dyn Clock, rng: &dyn Rng) -> Self {
                Self(generate(clock, rng))
            }

            /// Returns the identifier as databases store it.
            #[must_use]
            pub const fn as_uuid(&self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                parse(text, $kind).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(IdVisitor { kind: $kind }).map(Self)
            }
        }
    )+};
}

struct IdVisitor {
    kind: &'static str,
}

impl Visitor<'_> for IdVisitor {
    type Value = Uuid;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a {} id", self.kind)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Uuid, E> {
        parse(text, self.kind).map_err(E::custom)
    }
}

ids! {
    /// Names a server definition.
    ServerId = "server";
    /// Names an instance: a server made real.
    InstanceId = "instance";
    /// Names an endpoint: a published route.
    EndpointId = "endpoint";
    /// Names a person.
    UserId = "user";
    /// Names a team, which decides ownership.
    TeamId = "team";
    /// Names a role: a group of policies.
    RoleId = "role";
    /// Names what a principal allowed a client to do.
    GrantId = "grant";
    /// Names an identity for programs without a person.
    ServiceAccountId = "service account";
    /// Names an OAuth client that registered here.
    ClientId = "client";
    /// Names one issued token (`jti`).
    TokenId = "token";
    /// Names one event of an outbox.
    EventId = "event";
    /// Names one audit record.
    AuditId = "audit record";
    /// Names a key of any kind.
    KeyId = "key";
    /// Names a login session (`sid`).
    SessionId = "session";
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Duration};
    use portico_clock::MockClock;

    use super::*;
    use crate::SeededRng;

    fn clock() -> MockClock {
        MockClock::at(DateTime::from_timestamp(1_800_000_000, 0).unwrap())
    }

    #[test]
    fn ids_are_version_7_and_sort_by_the_microsecond_of_their_making() {
        let (clock, rng) = (clock(), SeededRng::new(1));
        let mut ids = Vec::new();
        for _ in 0..2_000 {
            ids.push(ServerId::generate(&clock, &rng));
            clock.advance(Duration::microseconds(1));
        }
        assert!(ids.is_sorted());
        assert!(ids.iter().all(|id| id.as_uuid().get_version_num() == 7));
    }

    #[test]
    fn ids_made_at_one_moment_differ() {
        let (clock, rng) = (clock(), SeededRng::new(1));
        assert_ne!(UserId::generate(&clock, &rng), UserId::generate(&clock, &rng));
    }

    #[test]
    fn an_id_has_one_spelling() {
        let id = ServerId::generate(&clock(), &SeededRng::new(2));
        let text = id.to_string();
        assert_eq!(text.parse(), Ok(id));
        let hex = text.replace('-', "");
        for other in
            [text.to_uppercase(), format!("{{{text}}}"), format!("urn:uuid:{text}"), hex, String::new()]
        {
            assert_eq!(other.parse::<ServerId>(), Err(InvalidId { kind: "server" }), "{other}");
        }
    }

    #[test]
    fn json_carries_the_text() {
        let id = GrantId::generate(&clock(), &SeededRng::new(3));
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, format!("\"{id}\""));
        assert_eq!(serde_json::from_str::<GrantId>(&json).unwrap(), id);
        assert!(serde_json::from_str::<GrantId>("\"x\"").is_err());
    }

    #[test]
    fn debug_names_the_kind() {
        let id = RoleId::from(Uuid::nil());
        assert_eq!(format!("{id:?}"), "RoleId(00000000-0000-0000-0000-000000000000)");
    }
}
