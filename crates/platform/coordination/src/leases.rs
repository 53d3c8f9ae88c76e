//! Leases: who does something that only one may do, until when.

mod local;
mod remote;

use std::time::Duration;

use chrono::{DateTime, Utc};
use portico_clock::SharedClock;

use crate::{CoordinationError, server::Server};
use local::LocalLeases;
use remote::RemoteLeases;

/// Hands out leases. A clone shares them.
///
/// With Redis a lease ends by the server's clock. Whoever loses Redis loses its leases in the same time, and a
/// Redis that forgets everything lets a second holder in at once: what a lease guards has to check the fence.
#[derive(Clone, Debug)]
pub struct Leases {
    backend: Backend,
}

#[derive(Clone, Debug)]
enum Backend {
    Local(LocalLeases),
    Remote(RemoteLeases),
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
    /// When it ends unless it is renewed, by the holder's clock and never later than it really ends.
    pub expires_at: DateTime<Utc>,
}

impl Leases {
    pub(crate) fn in_process(clock: SharedClock) -> Self {
        Self { backend: Backend::Local(LocalLeases::new(clock)) }
    }

    pub(crate) fn in_redis(server: Server, clock: SharedClock) -> Self {
        Self { backend: Backend::Remote(RemoteLeases::new(server, clock)) }
    }

    /// Takes the lease, unless somebody holds it (the same owner included).
    pub async fn acquire(
        &self,
        name: &str,
        owner: &str,
        ttl: Duration,
    ) -> Result<Option<Lease>, CoordinationError> {
        match &self.backend {
            Backend::Local(leases) => Ok(leases.acquire(name, owner, ttl)),
            Backend::Remote(leases) => leases.acquire(name, owner, ttl).await,
        }
    }

    /// Prolongs a lease that is still held; nothing if it was lost.
    pub async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Option<Lease>, CoordinationError> {
        match &self.backend {
            Backend::Local(leases) => Ok(leases.renew(lease, ttl)),
            Backend::Remote(leases) => leases.renew(lease, ttl).await,
        }
    }

    /// Gives a lease back and tells whether it was still held.
    pub async fn release(&self, lease: &Lease) -> Result<bool, CoordinationError> {
        match &self.backend {
            Backend::Local(leases) => Ok(leases.release(lease)),
            Backend::Remote(leases) => leases.release(lease).await,
        }
    }
}
