//! Sections that several programs have.

use std::num::NonZeroUsize;
use std::time::Duration;

use portico_outbound::{AllowRule, OutboundLimits};
use portico_process::Drain;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the process starts, works and ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProcessSettings {
    /// Threads that serve requests; 0: one for each core that the process may use.
    pub worker_threads: usize,
    /// Seconds to wait at the start for a database that is not there yet.
    #[schemars(range(min = 1, max = 3600))]
    pub start_wait_seconds: u64,
    /// Milliseconds after SIGTERM for which new connections are still taken while `/readyz` already answers 503:
    /// what a balancer needs to notice. On Kubernetes some 5000, with nginx in front 0.
    #[schemars(range(max = 600_000))]
    pub drain_delay_ms: u64,
    /// Seconds that requests in flight may take after that. Delay and grace together stay below the time after which
    /// the platform kills.
    #[schemars(range(max = 3600))]
    pub drain_grace_seconds: u64,
}

impl Default for ProcessSettings {
    fn default() -> Self {
        Self {
            worker_threads: 0,
            start_wait_seconds: 60,
            drain_delay_ms: 0,
            drain_grace_seconds: portico_process::DEFAULT_GRACE.as_secs(),
        }
    }
}

impl ProcessSettings {
    pub(crate) fn threads(&self) -> Option<NonZeroUsize> {
        NonZeroUsize::new(self.worker_threads)
    }

    pub(crate) fn drain(&self) -> Drain {
        Drain {
            delay: Duration::from_millis(self.drain_delay_ms),
            grace: Duration::from_secs(self.drain_grace_seconds),
        }
    }

    /// Returns how long to wait for what is not there yet.
    #[must_use]
    pub fn start_wait(&self) -> Duration {
        Duration::from_secs(self.start_wait_seconds)
    }
}

/// Which addresses that a user can influence may be called.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OutboundSettings {
    /// Private networks and hosts that may be called, e.g. `10.0.0.0/8` or `.corp.example`.
    pub allow: Vec<AllowRule>,
    /// Whether every private address may be called. Portico's own never are.
    pub allow_private: bool,
    /// Connections that are kept, and how long they may take.
    pub limits: OutboundLimits,
}
