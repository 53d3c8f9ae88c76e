//! What an operator can set.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of the worker.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WorkerSettings {
    /// Milliseconds between two comparisons with the registry's whole list of instances.
    pub resync_interval_ms: u64,
    /// Milliseconds between two discoveries of a server that did not change.
    pub discovery_interval_ms: u64,
    /// Milliseconds between two reports on an instance whose health did not change.
    pub report_interval_ms: u64,
    /// Milliseconds between two probes of a healthy instance whose owner did not say.
    pub probe_interval_ms: u64,
    /// Milliseconds that one request of a probe may take if the owner did not say.
    pub probe_timeout_ms: u64,
    /// Failed probes in a row that make an instance unhealthy if the owner did not say.
    pub probe_retries: u32,
    /// Milliseconds after the first failed probe; the wait doubles with every further one.
    pub retry_delay_ms: u64,
    /// Longest wait between two probes of an unhealthy instance in milliseconds, unless its interval is longer.
    pub backoff_limit_ms: u64,
    /// Milliseconds that one request of a discovery may take, unless the owner gives the server less.
    pub request_timeout_ms: u64,
    /// Milliseconds that one server's lists may take together.
    pub discovery_timeout_ms: u64,
    /// Probes under way at once.
    pub concurrent_probes: usize,
    /// Discoveries under way at once; each holds at most 24 MiB of definitions.
    pub concurrent_discoveries: usize,
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            resync_interval_ms: 300_000,
            discovery_interval_ms: 600_000,
            report_interval_ms: 300_000,
            probe_interval_ms: 30_000,
            probe_timeout_ms: 5_000,
            probe_retries: 3,
            retry_delay_ms: 1_000,
            backoff_limit_ms: 60_000,
            request_timeout_ms: 30_000,
            discovery_timeout_ms: 120_000,
            concurrent_probes: 256,
            concurrent_discoveries: 16,
        }
    }
}

/// A setting outside its bounds.
#[derive(Debug, thiserror::Error)]
#[error("worker.{name} is {value}; it must be between {least} and {most}")]
pub struct InvalidSetting {
    name: &'static str,
    value: u64,
    least: u64,
    most: u64,
}

const DAY_MS: u64 = 86_400_000;

impl WorkerSettings {
    /// Refuses what would make the worker hammer servers, or never look at them.
    pub fn check(&self) -> Result<(), InvalidSetting> {
        let bounds = [
            ("resync_interval_ms", self.resync_interval_ms, 10, DAY_MS),
            ("discovery_interval_ms", self.discovery_interval_ms, 10, DAY_MS),
            ("report_interval_ms", self.report_interval_ms, 10, DAY_MS),
            ("probe_interval_ms", self.probe_interval_ms, 10, DAY_MS),
            ("probe_timeout_ms", self.probe_timeout_ms, 10, 300_000),
            ("probe_retries", u64::from(self.probe_retries), 1, 100),
            ("retry_delay_ms", self.retry_delay_ms, 10, 300_000),
            ("backoff_limit_ms", self.backoff_limit_ms, 10, DAY_MS),
            ("request_timeout_ms", self.request_timeout_ms, 10, 300_000),
            ("discovery_timeout_ms", self.discovery_timeout_ms, 10, 3_600_000),
            ("concurrent_probes", self.concurrent_probes as u64, 1, 65_536),
            ("concurrent_discoveries", self.concurrent_discoveries as u64, 1, 1_024),
        ];
        for (name, value, least, most) in bounds {
            if !(least..=most).contains(&value) {
                return Err(InvalidSetting { name, value, least, most });
            }
        }
        Ok(())
    }

    pub(crate) const fn resync_interval(&self) -> Duration {
        Duration::from_millis(self.resync_interval_ms)
    }

    pub(crate) const fn discovery_interval(&self) -> Duration {
        Duration::from_millis(self.discovery_interval_ms)
    }

    pub(crate) const fn report_interval(&self) -> Duration {
        Duration::from_millis(self.report_interval_ms)
    }

    pub(crate) const fn retry_delay(&self) -> Duration {
        Duration::from_millis(self.retry_delay_ms)
    }

    pub(crate) const fn backoff_limit(&self) -> Duration {
        Duration::from_millis(self.backoff_limit_ms)
    }

    pub(crate) const fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    pub(crate) const fn discovery_timeout(&self) -> Duration {
        Duration::from_millis(self.discovery_timeout_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_within_their_bounds() {
        WorkerSettings::default().check().unwrap();
    }

    #[test]
    fn a_setting_outside_its_bounds_is_refused_by_name() {
        let settings = WorkerSettings { probe_retries: 0, ..WorkerSettings::default() };
        let error = settings.check().unwrap_err().to_string();
        assert_eq!(error, "worker.probe_retries is 0; it must be between 1 and 100");
    }
}
