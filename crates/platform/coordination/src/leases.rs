//! Leases: who does something that only one may do, until when.

#![expect(clippy::unused_async, reason = "a shared backend waits for the network here")]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::{DateTime, Utc};
use portico_clock::SharedClock;

use crate::{CoordinationError, expires_at, lock};

/// How many names are kept before expired ones are looked for.
const SWEEP_ABOVE: usize = 1024;

/// Hands out leases. A clone shares them.
#[derive(Clone, Debug)]
pub struct Leases {
    clock: SharedClock,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    held: HashMap<String, Lease>,
    last_fence: u64,
}

/// The right to do something, until it expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// What it is about.
    pub name: String,
    /// Who holds it.
    pub owner: String,
    /// Larger than that of every lease before it: whoever writes under a lease refuses a smaller fence than the
    /// largest it has seen, so that a holder who slept through its expiry does no harm.
    pub fence: u64,
    /// When it ends unless it is renewed.
    pub expires_at: DateTime<Utc>,
}

impl Leases {
    pub(crate) fn in_process(clock: SharedClock) -> Self {
        Self { clock, state: Arc::default() }
    }

    /// Takes the lease, unless somebody holds it (the same owner included).
    pub async fn acquire(
        &self,
        name: &str,
        owner: &str,
        ttl: Duration,
    ) -> Result<Option<Lease>, CoordinationError> {
        let now = self.clock.now();
        let mut state = lock(&self.state);
        if state.held.get(name).is_some_and(|lease| lease.expires_at > now) {
            return Ok(None);
        }
        if state.held.len() >= SWEEP_ABOVE {
            state.held.retain(|_, lease| lease.expires_at > now);
        }
        // Beginning with the time, fences also grow over a restart of the process.
        let time = u64::try_from(now.timestamp_micros()).unwrap_or_default();
        state.last_fence = time.max(state.last_fence + 1);
        let lease = Lease {
            name: name.to_owned(),
            owner: owner.to_owned(),
            fence: state.last_fence,
            expires_at: expires_at(now, ttl),
        };
        state.held.insert(name.to_owned(), lease.clone());
        Ok(Some(lease))
    }

    /// Prolongs a lease that is still held; nothing if it was lost.
    pub async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Option<Lease>, CoordinationError> {
        let now = self.clock.now();
        let mut state = lock(&self.state);
        let Some(held) = state.held.get_mut(&lease.name) else { return Ok(None) };
        if held.fence != lease.fence || held.expires_at <= now {
            return Ok(None);
        }
        held.expires_at = expires_at(now, ttl);
        Ok(Some(held.clone()))
    }

    /// Gives a lease back and tells whether it was still held.
    pub async fn release(&self, lease: &Lease) -> Result<bool, CoordinationError> {
        let now = self.clock.now();
        let mut state = lock(&self.state);
        if state.held.get(&lease.name).is_none_or(|held| held.fence != lease.fence) {
            return Ok(false);
        }
        let released = state.held.remove(&lease.name);
        Ok(released.is_some_and(|held| held.expires_at > now))
    }
}
