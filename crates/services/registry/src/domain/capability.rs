//! What discovery has seen a server offer.

use chrono::{DateTime, Utc};
use portico_ids::ServerId;

use super::names::CapabilityKind;
use super::text::{DESCRIPTION, LINE, clipped};
use crate::errors::RegistryError;

/// Most capabilities of one server.
pub(crate) const COUNT_LIMIT: usize = 10_000;
/// Longest name or URI; longer ones cannot be called through an endpoint either.
const NAME_LIMIT: usize = 2048;
/// Largest definition.
const DEFINITION_LIMIT: usize = 256 * 1024;

/// One tool, prompt, resource or resource template.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Capability {
    pub(crate) server_id: ServerId,
    pub(crate) kind: CapabilityKind,
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) description: String,
    pub(crate) definition: String,
    pub(crate) seen_at: DateTime<Utc>,
}

/// A capability as the worker reports it.
#[derive(Debug, Clone)]
pub(crate) struct CapabilityInput {
    pub(crate) kind: Option<CapabilityKind>,
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) description: String,
    pub(crate) definition: String,
}

impl Capability {
    /// Accepts a report: what people read is cut and cleaned, what is compared has to be exact.
    pub(crate) fn parse(
        server_id: ServerId,
        input: CapabilityInput,
        seen_at: DateTime<Utc>,
    ) -> Result<Self, RegistryError> {
        let kind = input.kind.ok_or_else(|| RegistryError::invalid("capabilities.kind", "is missing"))?;
        if input.name.is_empty() || input.name.len() > NAME_LIMIT || input.name.contains('\0') {
            return Err(RegistryError::invalid(
                "capabilities.name",
                "has between 1 and 2048 bytes and no U+0000",
            ));
        }
        if input.definition.len() > DEFINITION_LIMIT || input.definition.contains('\0') {
            return Err(RegistryError::invalid(
                "capabilities.definition_json",
                "has at most 256 KiB and no U+0000",
            ));
        }
        let (title, description) = (clipped(&input.title, LINE), clipped(&input.description, DESCRIPTION));
        Ok(Self {
            server_id,
            kind,
            name: input.name,
            title,
            description,
            definition: input.definition,
            seen_at,
        })
    }
}
