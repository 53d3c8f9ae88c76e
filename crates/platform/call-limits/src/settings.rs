//! What an operator can set.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What one principal may cost a service of the management plane. Other services of the deployment have no limits.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CallLimitSettings {
    /// Calls per minute and principal, at all replicas together; at least 1.
    pub principal_per_minute: u32,
    /// Calls that one principal may make at once; at least 1.
    pub principal_burst: u32,
    /// Audit records per minute and principal of what it may not do, each of one attempt; further attempts of that minute are
    /// recorded at its end, as one record for each action and reason that says how many they were.
    pub denial_records_per_minute: u32,
}

impl Default for CallLimitSettings {
    fn default() -> Self {
        Self { principal_per_minute: 600, principal_burst: 200, denial_records_per_minute: 10 }
    }
}

/// A limit that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCallLimits {
    /// No call would ever pass.
    #[error("limits.principal_per_minute is 0: nobody could call, set at least 1")]
    PerMinute,
    /// No call would ever pass.
    #[error("limits.principal_burst is 0: nobody could call, set at least 1")]
    Burst,
}

impl CallLimitSettings {
    /// Refuses limits under which nobody could call.
    pub const fn check(&self) -> Result<(), InvalidCallLimits> {
        match self {
            Self { principal_per_minute: 0, .. } => Err(InvalidCallLimits::PerMinute),
            Self { principal_burst: 0, .. } => Err(InvalidCallLimits::Burst),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_nobody_could_keep_is_refused_by_name() {
        CallLimitSettings::default().check().unwrap();
        let never = CallLimitSettings { principal_per_minute: 0, ..CallLimitSettings::default() };
        assert!(never.check().unwrap_err().to_string().contains("limits.principal_per_minute"));
        let none = CallLimitSettings { principal_burst: 0, ..CallLimitSettings::default() };
        assert!(none.check().unwrap_err().to_string().contains("limits.principal_burst"));
    }
}
