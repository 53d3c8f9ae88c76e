//! The names of what is kept in Redis.
//!
//! A name is `portico:{<deployment>:<kind>:<name>}`, and what belongs to it `portico:{<deployment>:<kind>:<name>}:…`.
//! Redis Cluster hashes what stands in the braces only, so everything that one script touches is in one slot, and
//! different names spread over the slots.

/// Names the keys of one deployment; those of another one in the same Redis are never met.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    deployment: String,
}

impl Keys {
    pub(crate) fn new(deployment_id: &str) -> Self {
        Self { deployment: escape(deployment_id) }
    }

    /// Names a thing of its own; `path` tells it from all others of its kind.
    pub(crate) fn name(&self, kind: &str, path: &[&str]) -> String {
        let path: Vec<_> = path.iter().map(|part| escape(part)).collect();
        format!("portico:{{{}:{kind}:{}}}", self.deployment, path.join(":"))
    }

    /// What every key of the deployment begins with.
    #[cfg(test)]
    pub(crate) fn prefix(&self) -> String {
        format!("portico:{{{}:", self.deployment)
    }
}

/// Names something that belongs to a named thing and lies in its slot.
pub(crate) fn part(of: &str, path: &[&str]) -> String {
    let path: Vec<_> = path.iter().map(|part| escape(part)).collect();
    format!("{of}:{}", path.join(":"))
}

/// Writes the characters that mean something in a name as `%` and two digits.
fn escape(part: &str) -> String {
    let mut escaped = String::with_capacity(part.len());
    for character in part.chars() {
        match character {
            ':' => escaped.push_str("%3A"),
            '{' => escaped.push_str("%7B"),
            '}' => escaped.push_str("%7D"),
            '%' => escaped.push_str("%25"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// The slot of a key (Redis Cluster specification, "Hash tags"): CRC-16/XMODEM of what stands in the first braces.
#[cfg(test)]
pub(crate) fn slot(key: &str) -> u16 {
    let tag = key
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'))
        .map(|(tag, _)| tag)
        .filter(|tag| !tag.is_empty());
    let mut crc = 0_u16;
    for byte in tag.unwrap_or(key).bytes() {
        crc ^= u16::from(byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
        }
    }
    crc % 16_384
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn slots_are_those_of_the_cluster_specification() {
        // The check value of CRC-16/XMODEM, and what `CLUSTER KEYSLOT` says.
        assert_eq!(slot("123456789"), 0x31c3);
        assert_eq!(slot("foo"), 12_182);
        assert_eq!(slot("{user1000}.following"), slot("{user1000}.followers"));
        assert_eq!(slot("foo{}{bar}"), slot("foo{}{bar}"));
    }

    #[test]
    fn names_do_not_meet_whatever_they_hold() {
        let keys = Keys::new("d");
        let names = [
            keys.name("map", &["a", "b:c"]),
            keys.name("map", &["a:b", "c"]),
            keys.name("map", &["a", "b%3Ac"]),
            keys.name("map", &["a", "b}:c"]),
            keys.name("lease", &["a", "b:c"]),
            part(&keys.name("map", &["a"]), &["b", "c"]),
            Keys::new("d:map").name("a", &["b", "c"]),
            Keys::new("e").name("map", &["a", "b:c"]),
        ];
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len(), "{names:?}");
    }

    #[test]
    fn what_belongs_to_a_name_is_in_its_slot() {
        let keys = Keys::new("01hzy");
        for name in ["registry.events", "a}b", "{a", "{}", "}{", "", "ä:%"] {
            let name = keys.name("topic", &[name]);
            assert_eq!(slot(&name), slot(&part(&name, &["dead", "gro}u{p"])), "{name}");
            assert!(name.starts_with(&keys.prefix()));
        }
        let slots: HashSet<_> = (0..100).map(|n: u32| slot(&keys.name("rate", &[&n.to_string()]))).collect();
        assert!(slots.len() > 90, "the names of one kind spread over the slots: {}", slots.len());
    }
}
