use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::object::{Object, ParseError, text_of};

/// Revision of a request (2026-07-28).
pub const META_PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// Who sends a request (2026-07-28).
pub const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
/// What the sender of a request can do (2026-07-28).
pub const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
/// Which log messages a request asks for (2026-07-28).
pub const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
/// Which `subscriptions/listen` a message belongs to (2026-07-28).
pub const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";
/// Who answers (2026-07-28).
pub const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
/// Under which `notifications/progress` are sent.
pub const PROGRESS_TOKEN: &str = "progressToken";
/// Portico's own: what a merged list lacks, and why.
pub const WARNINGS: &str = "portico/warnings";

/// The `_meta` of a request.
#[derive(Debug, Clone, Default)]
pub struct Meta<'a> {
    /// The whole object as it was written.
    pub raw: Option<&'a RawValue>,
    object: Object<'a>,
}

impl<'a> Meta<'a> {
    pub(crate) fn parse(raw: &'a RawValue) -> Result<Self, ParseError> {
        Ok(Self { raw: Some(raw), object: Object::parse(raw.get(), "params._meta")? })
    }

    /// The raw value under `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&'a RawValue> {
        self.object.get(key)
    }

    /// The text under `key`; `None` if it is absent or no string.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<Cow<'a, str>> {
        self.get(key).and_then(text_of)
    }

    /// Whether there are no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.object.is_empty()
    }
}
