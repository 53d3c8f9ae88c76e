//! What an operator can set.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of the registry.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RegistrySettings {
    /// Milliseconds between two looks at what other replicas of the registry changed.
    pub catalogue_poll_ms: u64,
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self { catalogue_poll_ms: 500 }
    }
}

impl RegistrySettings {
    pub(crate) const fn catalogue_poll(&self) -> Duration {
        Duration::from_millis(self.catalogue_poll_ms)
    }
}
