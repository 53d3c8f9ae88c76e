//! What replicas share beside the database: event stream, TTL map, rate limit, leases, mailboxes.
//!
//! Nothing here is a source of truth: whatever is lost can be rebuilt from a database, and losing it degrades
//! a deployment without corrupting it. There are two backends, a closed set: one inside the process, for a deployment
//! of one, and Redis (7.0 or newer). The contract suite of this crate fixes what both do.
//!
//! # Redis
//!
//! [`Coordination::connect`] needs no Redis to be there: a task connects in the background and again after every
//! cut. Every question has a deadline of 500 ms and fails with [`CoordinationError::Unavailable`]; while Redis is
//! known to be down it fails at once. Rate limits are then those of the replica alone, waiting consumers wait on.
//!
//! Every key begins with `portico:{<deployment>:`. It has a time to live or a bound: topics and dead letters are
//! streams of at most [`StreamSettings::capacity`] entries. All keys of one script are in one slot of Redis Cluster.
//! Expiry, visibility timeouts, fences and shared buckets run by the server's clock, so those of the replicas may
//! differ. One connection has to reach every key: a cluster of several masters, and a Sentinel, are refused
//! ([`Coordination::unusable`]). An emptied Redis is taken for a new one: values, leases and events are gone, consumers, mailboxes and
//! buckets go on.

#[cfg(test)]
mod contract;
mod error;
mod events;
mod leases;
mod mailbox;
mod rate_limit;
mod server;
mod settings;
mod ttl_map;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use portico_clock::SharedClock;
use portico_ids::SharedRng;
use portico_process::{ReadinessCheck, Tasks};
use portico_telemetry::Metrics;

pub use error::CoordinationError;
pub use events::{Consumer, DeadLetter, Delivery, DeliveryId, EventStream, StreamSettings};
pub use leases::{Lease, Leases};
pub use mailbox::{Inbox, Mailbox};
pub use rate_limit::{Limit, LimitKey, Limited, RateLimiter};
use server::Server;
pub use settings::{CoordinationSettings, SetupError};
pub use ttl_map::TtlMap;

/// Everything that replicas share, over one backend. A clone shares the state.
#[derive(Clone, Debug)]
pub struct Coordination {
    backend: Backend,
}

#[derive(Clone, Debug)]
enum Backend {
    InProcess(Arc<InProcess>),
    Redis(Arc<InRedis>),
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

#[derive(Debug)]
struct InRedis {
    server: Server,
    events: EventStream,
    rate_limiter: RateLimiter,
    leases: Leases,
    mailbox: Mailbox,
}

/// What a connection to Redis needs from the process that uses it.
#[derive(Debug)]
pub struct CoordinationDeps<'a> {
    /// Tells the keys of this deployment from those of others in the same Redis.
    pub deployment_id: &'a str,
    /// Says when leases end, as their holders see it.
    pub clock: SharedClock,
    /// Makes the names of receivers and the pauses between attempts.
    pub rng: SharedRng,
    /// Runs what keeps the connection.
    pub tasks: &'a Tasks,
    /// Takes the metrics `portico_coordination_…`.
    pub metrics: &'a Metrics,
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

    /// Makes a backend over Redis, which need not be there yet. Fails only for settings that cannot work.
    pub fn connect(settings: &CoordinationSettings, deps: CoordinationDeps<'_>) -> Result<Self, SetupError> {
        Self::connect_within(settings, deps, StreamSettings::default(), server::DEADLINE)
    }

    fn connect_within(
        settings: &CoordinationSettings,
        deps: CoordinationDeps<'_>,
        streams: StreamSettings,
        deadline: Duration,
    ) -> Result<Self, SetupError> {
        let server = Server::start(settings, &deps, deadline)?;
        let state = InRedis {
            events: EventStream::in_redis(server.clone(), streams),
            rate_limiter: RateLimiter::in_redis(server.clone(), deps.tasks),
            leases: Leases::in_redis(server.clone(), deps.clock),
            mailbox: Mailbox::in_redis(server.clone(), deps.rng),
            server,
        };
        Ok(Self { backend: Backend::Redis(Arc::new(state)) })
    }

    /// Keeps a readiness check: it holds once the backend has worked for the first time, and stays so, because
    /// without Redis a replica still serves what it can. `portico_coordination_up` tells how it is now.
    pub fn watch_health(&self, check: ReadinessCheck, tasks: &Tasks) {
        match &self.backend {
            Backend::InProcess(_) => check.ready(),
            Backend::Redis(state) => state.server.watch_health(check, tasks),
        }
    }

    /// Waits until the backend turns out to be one that waiting does not make better, such as a cluster of which one
    /// connection reaches only a part, and returns why and what to do. Never ends otherwise.
    pub async fn unusable(&self) -> String {
        match &self.backend {
            Backend::InProcess(_) => std::future::pending().await,
            Backend::Redis(state) => state.server.unusable().await,
        }
    }

    /// Returns the event stream.
    #[must_use]
    pub fn events(&self) -> EventStream {
        match &self.backend {
            Backend::InProcess(state) => state.events.clone(),
            Backend::Redis(state) => state.events.clone(),
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
            Backend::Redis(state) => TtlMap::in_redis(state.server.clone(), namespace),
        }
    }

    /// Returns the rate limiter.
    #[must_use]
    pub fn rate_limiter(&self) -> RateLimiter {
        match &self.backend {
            Backend::InProcess(state) => state.rate_limiter.clone(),
            Backend::Redis(state) => state.rate_limiter.clone(),
        }
    }

    /// Returns the leases.
    #[must_use]
    pub fn leases(&self) -> Leases {
        match &self.backend {
            Backend::InProcess(state) => state.leases.clone(),
            Backend::Redis(state) => state.leases.clone(),
        }
    }

    /// Returns the mailboxes.
    #[must_use]
    pub fn mailbox(&self) -> Mailbox {
        match &self.backend {
            Backend::InProcess(state) => state.mailbox.clone(),
            Backend::Redis(state) => state.mailbox.clone(),
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
