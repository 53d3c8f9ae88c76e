//! What replicas share beside the database: event stream, TTL map, rate limit, leases, mailboxes.
//!
//! Nothing here is a source of truth: whatever is lost can be rebuilt from a database, and losing it degrades
//! a deployment without corrupting it. The backend is a closed enum; today there is one, inside the process.
//! Its behaviour is fixed by the contract suite of this crate, which the next backend has to pass unchanged.

#[cfg(test)]
mod contract;
mod error;
mod events;
mod leases;
mod mailbox;
mod rate_limit;
mod ttl_map;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use portico_clock::SharedClock;

pub use error::CoordinationError;
pub use events::{Consumer, DeadLetter, Delivery, DeliveryId, EventStream, StreamSettings};
pub use leases::{Lease, Leases};
pub use mailbox::{Inbox, Mailbox};
pub use rate_limit::{Limit, LimitKey, Limited, RateLimiter};
pub use ttl_map::TtlMap;

/// Everything that replicas share, over one backend. A clone shares the state.
#[derive(Clone, Debug)]
pub struct Coordination {
    backend: Backend,
}

#[derive(Clone, Debug)]
enum Backend {
    InProcess(Arc<InProcess>),
}

/// The state of the in-process backend; each capability keeps its own.
#[derive(Debug)]
struct InProcess {
    clock: SharedClock,
    events: EventStream,
    ttl_maps: Mutex<HashMap<String, TtlMap>>,
    rate_limiter: RateLimiter,
    leases: Leases,
    mailbox: Mailbox,
}

impl Coordination {
    /// Makes a backend that lives and dies with this process.
    #[must_use]
    pub fn in_process(clock: SharedClock) -> Self {
        Self::in_process_with(clock, StreamSettings::default())
    }

    /// Makes an in-process backend whose event streams have other limits than the defaults.
    #[must_use]
    pub fn in_process_with(clock: SharedClock, streams: StreamSettings) -> Self {
        let state = InProcess {
            events: EventStream::in_process(streams),
            ttl_maps: Mutex::default(),
            rate_limiter: RateLimiter::new(),
            leases: Leases::in_process(Arc::clone(&clock)),
            mailbox: Mailbox::in_process(),
            clock,
        };
        Self { backend: Backend::InProcess(Arc::new(state)) }
    }

    /// Returns the event stream.
    #[must_use]
    pub fn events(&self) -> EventStream {
        match &self.backend {
            Backend::InProcess(state) => state.events.clone(),
        }
    }

    /// Returns the map of one namespace; its keys meet those of no other.
    #[must_use]
    pub fn ttl_map(&self, namespace: &str) -> TtlMap {
        match &self.backend {
            Backend::InProcess(state) => {
                let mut maps = lock(&state.ttl_maps);
                let make = || TtlMap::in_process(Arc::clone(&state.clock));
                maps.entry(namespace.to_owned()).or_insert_with(make).clone()
            }
        }
    }

    /// Returns the rate limiter.
    #[must_use]
    pub fn rate_limiter(&self) -> RateLimiter {
        match &self.backend {
            Backend::InProcess(state) => state.rate_limiter.clone(),
        }
    }

    /// Returns the leases.
    #[must_use]
    pub fn leases(&self) -> Leases {
        match &self.backend {
            Backend::InProcess(state) => state.leases.clone(),
        }
    }

    /// Returns the mailboxes.
    #[must_use]
    pub fn mailbox(&self) -> Mailbox {
        match &self.backend {
            Backend::InProcess(state) => state.mailbox.clone(),
        }
    }
}

/// Adds a time to live to a time; one that is too long for the calendar never ends.
fn expires_at(now: DateTime<Utc>, ttl: Duration) -> DateTime<Utc> {
    let end = TimeDelta::from_std(ttl).ok().and_then(|ttl| now.checked_add_signed(ttl));
    end.unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// Locks state whose every change is complete when the lock is released, so that a panic elsewhere while it was
/// held does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
