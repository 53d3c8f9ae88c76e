//! What `outbound.allow` lists.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A network, or a host name with everything below it, whose private addresses may be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowRule {
    /// `10.1.0.0/16`, `10.1.2.3` or `fd12::/16`.
    Network(IpNet),
    /// `example.internal`: this name and all names that end in `.example.internal`.
    HostSuffix(String),
}

/// Why a text is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a rule for outbound.allow: write a network such as 10.1.0.0/16 or a host such as example.internal"
)]
pub struct InvalidAllowRule(String);

impl AllowRule {
    pub(crate) fn covers_ip(&self, ip: IpAddr) -> bool {
        matches!(self, Self::Network(network) if network.contains(&ip))
    }

    pub(crate) fn covers_host(&self, host: &str) -> bool {
        let Self::HostSuffix(suffix) = self else { return false };
        host.strip_suffix(suffix.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }
}

impl FromStr for AllowRule {
    type Err = InvalidAllowRule;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(network) = text.parse::<IpNet>() {
            return Ok(Self::Network(network.trunc()));
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self::Network(ip.into()));
        }
        let host = text.strip_prefix("*.").or_else(|| text.strip_prefix('.')).unwrap_or(text);
        let host = host.to_ascii_lowercase();
        let label = |label: &str| {
            let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            (1..=63).contains(&label.len()) && label.bytes().all(inside)
        };
        let numeric =
            host.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
        if numeric || !host.split('.').all(label) {
            return Err(InvalidAllowRule(text.to_owned()));
        }
        Ok(Self::HostSuffix(host))
    }
}

impl fmt::Display for AllowRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => network.fmt(f),
            Self::HostSuffix(host) => f.write_str(host),
        }
    }
}

impl Serialize for AllowRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AllowRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for AllowRule {
    fn schema_name() -> Cow<'static, str> {
        "AllowRule".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A network (10.1.0.0/16, 10.1.2.3) or a host name with everything below it (example.internal)."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_addresses_and_hosts_are_rules() {
        for (text, shown) in [
            ("10.1.2.3/16", "10.1.0.0/16"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("fd12::/16", "fd12::/16"),
            ("*.Example.internal", "example.internal"),
            (".example.internal", "example.internal"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(text.parse::<AllowRule>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn anything_else_is_refused_with_an_example() {
        for text in ["", "http://x", "x:80", "a..b", "10.0.0.0/33", "10.0.0", "a/b", "*", "é.example"] {
            let error = text.parse::<AllowRule>().unwrap_err();
            assert!(error.to_string().contains("10.1.0.0/16"), "{text}");
        }
    }

    #[test]
    fn a8_a_host_rule_ends_at_a_label() {
        let rule: AllowRule = "example.internal".parse().unwrap();
        assert!(rule.covers_host("example.internal"));
        assert!(rule.covers_host("a.b.example.internal"));
        assert!(!rule.covers_host("evilexample.internal"));
        assert!(!rule.covers_host("example.internal.evil"));
    }
}
