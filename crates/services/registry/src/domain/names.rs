//! Words of the registry that have a fixed spelling: names, tags, aliases and the small enums.

use portico_ids::EndpointName;

use crate::errors::RegistryError;

/// Longest alias: with `__` and a tool name it has to stay readable in an agent's list.
pub(crate) const ALIAS_LIMIT: usize = 20;
/// Most tags on one server.
const TAG_COUNT: usize = 32;

/// Accepts a server or endpoint name: servers follow the rule for endpoints because each may get one of its own name.
pub(crate) fn parse_name(field: &str, value: &str) -> Result<EndpointName, RegistryError> {
    EndpointName::parse(value)
        .map_err(|error| RegistryError::InvalidName { field: field.to_owned(), problem: error.to_string() })
}

/// Accepts the name of an instance: a slug, unique within its server only, so nothing is reserved.
pub(crate) fn parse_instance_name(value: &str) -> Result<String, RegistryError> {
    if is_slug(value, 63) {
        return Ok(value.to_owned());
    }
    Err(RegistryError::InvalidName {
        field: "instance.name".to_owned(),
        problem: "a name is [a-z0-9][a-z0-9-]{0,62}".to_owned(),
    })
}

/// Accepts the prefix of a member's names. No underscore: `__` ends it, and the first one has to be the separator.
pub(crate) fn parse_alias(value: &str) -> Result<String, RegistryError> {
    if is_slug(value, ALIAS_LIMIT) {
        return Ok(value.to_owned());
    }
    Err(RegistryError::invalid(
        "endpoint.members.alias",
        format!("an alias is [a-z0-9][a-z0-9-]{{0,{}}}", ALIAS_LIMIT - 1),
    ))
}

/// Accepts tags: short slugs, each once, in the order given.
pub(crate) fn parse_tags(values: Vec<String>) -> Result<Vec<String>, RegistryError> {
    if values.len() > TAG_COUNT {
        return Err(RegistryError::invalid(
            "tags",
            format!("{} tags; at most {TAG_COUNT} are allowed", values.len()),
        ));
    }
    let mut tags: Vec<String> = Vec::with_capacity(values.len());
    for tag in values {
        if !is_slug(&tag, 63) {
            return Err(RegistryError::invalid("tags", "a tag is [a-z0-9][a-z0-9-]{0,62}"));
        }
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Ok(tags)
}

fn is_slug(value: &str, limit: usize) -> bool {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    value.len() <= limit
        && value.bytes().next().is_some_and(plain)
        && value.bytes().all(|c| plain(c) || c == b'-')
}

/// A stored word that this version does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown word")]
pub(crate) struct UnknownWord;

/// Declares a closed set of words with one spelling for the database.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) enum $name { $($variant),+ }

        impl $name {
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

        }

        impl std::str::FromStr for $name {
            type Err = $crate::domain::names::UnknownWord;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                match word { $($word => Ok(Self::$variant),)+ _ => Err($crate::domain::names::UnknownWord) }
            }
        }
    };
}

pub(super) use words;

words!(
    /// Who may see and use it without a grant.
    Visibility { Private = "private", Public = "public" }
);
words!(
    /// Whether an owner lets a server take calls.
    ServerStatus { Enabled = "enabled", Disabled = "disabled" }
);
words!(
    /// What probes say about an instance.
    InstanceStatus { Pending = "pending", Healthy = "healthy", Unhealthy = "unhealthy" }
);
words!(
    /// How an endpoint names what its members offer.
    Names { Plain = "plain", Prefixed = "prefixed" }
);
words!(
    /// What kind of thing a server offers.
    CapabilityKind { Tool = "tool", Prompt = "prompt", Resource = "resource", ResourceTemplate = "resource_template" }
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_outside_the_slug_rule_or_reserved_are_refused() {
        assert_eq!(parse_name("name", "weather-2").unwrap().as_str(), "weather-2");
        for bad in ["", "-a", "A", "a_b", "a/b", "..", "é", "mcp", "api", &"a".repeat(64)] {
            assert!(matches!(parse_name("name", bad), Err(RegistryError::InvalidName { .. })), "{bad}");
        }
    }

    #[test]
    fn an_alias_is_short_and_cannot_hold_the_separator() {
        assert_eq!(parse_alias("github-eu").unwrap(), "github-eu");
        for bad in ["", "a__b", "a_", "-a", &"a".repeat(21)] {
            assert!(parse_alias(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tags_are_kept_once_and_in_order() {
        let tags = parse_tags(["b", "a", "b"].map(str::to_owned).to_vec()).unwrap();
        assert_eq!(tags, ["b", "a"]);
        assert!(parse_tags(vec!["No Good".to_owned()]).is_err());
        assert!(parse_tags(vec!["x".to_owned(); 33]).is_err());
    }

    #[test]
    fn words_round_trip() {
        for status in [InstanceStatus::Pending, InstanceStatus::Healthy, InstanceStatus::Unhealthy] {
            assert_eq!(status.as_str().parse(), Ok(status));
        }
        assert_eq!("secret".parse::<Visibility>(), Err(UnknownWord));
    }
}
