//! Leases inside this process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use portico_clock::SharedClock;

use super::Lease;
use crate::{expires_at, lock};

/// How many names are kept before expired ones are looked for.
const SWEEP_ABOVE: usize = 1024;

#[derive(Clone, Debug)]
pub(super) struct LocalLeases {
    clock: SharedClock,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    held: HashMap<String, Lease>,
    last_fence: u64,
}

impl LocalLeases {
    pub(super) fn new(clock: SharedClock) -> Self {
        Self { clock, state: Arc::default() }
    }

    pub(super) fn acquire(&self, name: &str, owner: &str, ttl: Duration) -> Option<Lease> {
        let now = self.clock.now();
        let mut state = lock(&self.state);
        if state.held.get(name).is_some_and(|lease| lease.expires_at > now) {
            return None;
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
        Some(lease)
    }

    pub(super) fn renew(&self, lease: &Lease, ttl: Duration) -> Option<Lease> {
        let now = self.clock.now();
        let mut state = lock(&self.state);
        let held = state.held.get_mut(&lease.name)?;
        if held.fence != lease.fence || held.expires_at <= now {
            return None;
        }
        held.expires_at = expires_at(now, ttl);
        Some(held.clone())
    }

    pub(super) fn release(&self, lease: &Lease) -> bool {
        let now = self.clock.now();
        let mut state = lock(&self.state);
        if state.held.get(&lease.name).is_none_or(|held| held.fence != lease.fence) {
            return false;
        }
        let released = state.held.remove(&lease.name);
        released.is_some_and(|held| held.expires_at > now)
    }
}
