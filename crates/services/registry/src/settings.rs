//! What an operator can set.

use std::time::Duration;

use chrono::TimeDelta;
use portico_call_limits::{CallLimitSettings, InvalidCallLimits};
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
    /// What one principal may cost.
    pub limits: CallLimitSettings,
}

/// A hundred years.
const MOST_DAYS: u32 = 36_500;

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSettings {
    #[error("catalogue_poll_ms is {0}; it must be between 50 and 10000")]
    PollInterval(u64),
    #[error("audit_retention_days is {0}; it must be at most {MOST_DAYS}, or 0 to keep every record")]
    AuditRetention(u32),
    #[error(transparent)]
    Limits(#[from] InvalidCallLimits),
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self { catalogue_poll_ms: 500, audit_retention_days: 90, limits: CallLimitSettings::default() }
    }
}

impl RegistrySettings {
    pub fn check(&self) -> Result<(), InvalidSettings> {
        if !(50..=10_000).contains(&self.catalogue_poll_ms) {
            return Err(InvalidSettings::PollInterval(self.catalogue_poll_ms));
        }
        if self.audit_retention_days > MOST_DAYS {
            return Err(InvalidSettings::AuditRetention(self.audit_retention_days));
        }
        Ok(self.limits.check()?)
    }

    pub(crate) const fn catalogue_poll(&self) -> Duration {
        Duration::from_millis(self.catalogue_poll_ms)
    }

    /// `None`: for ever.
    pub(crate) fn audit_kept(&self) -> Option<TimeDelta> {
        (self.audit_retention_days > 0).then(|| TimeDelta::days(self.audit_retention_days.into()))
    }
}
