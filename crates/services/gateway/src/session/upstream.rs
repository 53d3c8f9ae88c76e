use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use portico_ids::InstanceId;
use portico_mcp_types::Revision;
use serde::{Deserialize, Serialize};

/// An open session at one server, on behalf of one session of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UpstreamSession {
    /// Where it was opened; later calls go there too.
    pub(crate) instance: InstanceId,
    /// What the server calls it; `None` if it keeps no sessions.
    pub(crate) id: Option<HeaderValue>,
    /// What was negotiated there.
    pub(crate) revision: Revision,
    /// How often it had to be opened anew.
    pub(crate) generation: u32,
    /// The server's answer to `initialize`, its `result` member.
    pub(crate) initialized: Bytes,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    instance: InstanceId,
    id: Option<String>,
    revision: String,
    generation: u32,
    initialized: String,
}

impl UpstreamSession {
    /// What other replicas read; the caller seals it, because the id grants access.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let stored = Stored {
            instance: self.instance,
            id: self.id.as_ref().and_then(|id| id.to_str().ok()).map(str::to_owned),
            revision: self.revision.as_str().to_owned(),
            generation: self.generation,
            initialized: String::from_utf8_lossy(&self.initialized).into_owned(),
        };
        serde_json::to_vec(&stored).unwrap_or_default()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let stored: Stored = serde_json::from_slice(bytes).ok()?;
        let id = match stored.id {
            Some(id) => Some(sensitive(HeaderValue::try_from(id).ok()?)),
            None => None,
        };
        Some(Self {
            instance: stored.instance,
            id,
            revision: Revision::parse(&stored.revision).ok()?,
            generation: stored.generation,
            initialized: Bytes::from(stored.initialized),
        })
    }
}

/// Who closes an upstream session.
#[derive(Debug)]
pub(crate) enum Claim {
    /// The caller does.
    Taken(UpstreamSession),
    /// Another replica does, just now.
    Busy,
    /// It is closed.
    Gone,
}

/// Who opened an upstream session first.
#[derive(Debug)]
pub(crate) enum Published {
    First(Arc<UpstreamSession>),
    /// Another one, which counts.
    Lost(Arc<UpstreamSession>),
}

/// Keeps a header value out of debug output and of HPACK tables.
pub(crate) fn sensitive(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::testing::instance_id;

    #[test]
    fn an_upstream_session_round_trips_and_hides_its_id() {
        let upstream = UpstreamSession {
            instance: instance_id(1),
            id: Some(sensitive(HeaderValue::from_static("secret-id"))),
            revision: Revision::V2025_06_18,
            generation: 2,
            initialized: Bytes::from_static(b"{}"),
        };
        assert_eq!(UpstreamSession::from_bytes(&upstream.to_bytes()), Some(upstream.clone()));
        assert!(!format!("{upstream:?}").contains("secret-id"));
    }
}
