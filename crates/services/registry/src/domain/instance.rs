//! Instances: a server made real at an address.

use chrono::{DateTime, Utc};
use portico_ids::{InstanceId, ServerId};
use serde_json::Value;

use super::names::{InstanceStatus, parse_instance_name};
use super::text::{DESCRIPTION, bounded};
use crate::errors::RegistryError;

/// An instance as stored (S4-19).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    pub(crate) server_id: ServerId,
    pub(crate) details: InstanceDetails,
    pub(crate) health: Health,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
    pub(crate) revision: i64,
}

/// What an owner may change about an instance.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct InstanceDetails {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) json_spec: Value,
}

impl InstanceDetails {
    /// Accepts a name and a description; the document is parsed against its server, which the caller has at hand.
    pub(crate) fn parse(name: &str, description: String, json_spec: Value) -> Result<Self, RegistryError> {
        Ok(Self {
            name: parse_instance_name(name)?,
            description: bounded("instance.description", description, DESCRIPTION)?,
            json_spec,
        })
    }
}

/// What the worker saw last.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Health {
    pub(crate) status: InstanceStatus,
    pub(crate) reason: String,
    pub(crate) protocol_versions: Vec<String>,
    pub(crate) checked_at: Option<DateTime<Utc>>,
}

impl Health {
    /// Nobody has looked yet.
    pub(crate) const fn unseen() -> Self {
        Self {
            status: InstanceStatus::Pending,
            reason: String::new(),
            protocol_versions: Vec::new(),
            checked_at: None,
        }
    }
}

/// Which details an update changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InstanceField {
    Name,
    Description,
    JsonSpec,
}

impl InstanceField {
    /// Accepts a path of a field mask.
    pub(crate) fn parse(path: &str) -> Result<Self, RegistryError> {
        Ok(match path {
            "name" => Self::Name,
            "description" => Self::Description,
            "json_spec" => Self::JsonSpec,
            "id" | "server_id" | "status" | "status_reason" | "protocol_versions" | "revision"
            | "created_at" | "updated_at" | "checked_at" => {
                return Err(RegistryError::ImmutableField { field: format!("instance.{path}") });
            }
            _ => {
                return Err(RegistryError::invalid(
                    "update_mask",
                    format!("an instance has no field {path:?}"),
                ));
            }
        })
    }
}
