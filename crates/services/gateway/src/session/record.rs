use portico_ids::ServerId;
use portico_mcp_types::Revision;
use serde::{Deserialize, Serialize};

/// Whose session it is, and where (RS-30).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Binding {
    pub(crate) subject: String,
    pub(crate) client: String,
    pub(crate) endpoint: String,
}

/// What every replica must know of a session.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) binding: Binding,
    #[serde(with = "revision")]
    pub(crate) revision: Revision,
    /// The agent's `initialize` params as they were written, to open more sessions at servers.
    pub(crate) initialize: String,
    /// Params of the last `logging/setLevel`.
    pub(crate) log_level: Option<String>,
    /// What the agent subscribed to; told to a server again when its session is opened anew.
    pub(crate) subscriptions: Vec<Subscription>,
}

impl Record {
    /// What other replicas read; the caller seals it.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// About how many bytes it takes.
    pub(super) fn size(&self) -> usize {
        let binding = &self.binding;
        let bound = binding.subject.len() + binding.client.len() + binding.endpoint.len();
        let subscribed: usize = self.subscriptions.iter().map(|known| ENTRY_BYTES + known.uri.len()).sum();
        ENTRY_BYTES
            + bound
            + self.initialize.len()
            + self.log_level.as_ref().map_or(0, String::len)
            + subscribed
    }
}

/// A resource that an agent follows, and the server that has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Subscription {
    pub(crate) server: ServerId,
    pub(crate) uri: String,
}

/// What the names of members and ids take in one entry.
const ENTRY_BYTES: usize = 128;
/// Most subscriptions that a session remembers.
pub(crate) const MAX_SUBSCRIPTIONS: usize = 256;
/// Most bytes of their URIs: a record has to fit into the shared map.
pub(crate) const MAX_SUBSCRIBED_BYTES: usize = 64 * 1024;

mod revision {
    use portico_mcp_types::Revision;
    use serde::{Deserialize, Deserializer, Serializer, de};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
    pub(super) fn serialize<S: Serializer>(revision: &Revision, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(revision.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Revision, D::Error> {
        let text = String::deserialize(deserializer)?;
        Revision::parse(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::testing::server_id;

    #[test]
    fn a_record_round_trips() {
        let record = Record {
            binding: Binding { subject: "user:1".into(), client: "c".into(), endpoint: "e".into() },
            revision: Revision::V2025_06_18,
            initialize: r#"{"a":1.10}"#.into(),
            log_level: None,
            subscriptions: vec![Subscription { server: server_id(1), uri: "file:///a".into() }],
        };
        let back: Record = serde_json::from_slice(&serde_json::to_vec(&record).unwrap()).unwrap();
        assert_eq!(back.binding, record.binding);
        assert_eq!((back.revision, back.initialize), (record.revision, record.initialize));
    }
}
