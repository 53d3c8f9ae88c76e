//! What an operator can set.

use std::time::Duration;

use chrono::TimeDelta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of the registry.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RegistrySettings {
    /// Milliseconds between two looks at what other replicas of the registry changed.
    pub catalogue_poll_ms: u64,
    /// Days after which audit records are removed; 0 keeps them for ever.
    pub audit_retention_days: u32,
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self { catalogue_poll_ms: 500, audit_retention_days: 90 }
    }
}

impl RegistrySettings {
    pub(crate) const fn catalogue_poll(&self) -> Duration {
        Duration::from_millis(self.catalogue_poll_ms)
    }

    /// `None`: for ever.
    pub(crate) fn audit_kept(&self) -> Option<TimeDelta> {
        (self.audit_retention_days > 0).then(|| TimeDelta::days(self.audit_retention_days.into()))
    }
}
