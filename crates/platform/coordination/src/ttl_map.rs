//! A bounded map whose entries expire.

mod local;
mod remote;

use std::time::Duration;

use bytes::Bytes;
use portico_clock::SharedClock;

use crate::{CoordinationError, server::Server};
use local::LocalMap;
use remote::RemoteMap;

/// The most bytes of one value.
const VALUE_LIMIT: usize = 256 << 10;

/// Values that replicas share until they expire: sessions, states of a login, one-time codes.
///
/// Bounded: when there is no room, the entries nearest to their expiry make some (in Redis by its setting
/// `maxmemory-policy volatile-ttl`). What must not be lost belongs into a database. Expiry is by the clock of the
/// backend: the one given to it in the process, that of the server with Redis.
#[derive(Clone, Debug)]
pub struct TtlMap {
    backend: Backend,
}

#[derive(Clone, Debug)]
enum Backend {
    Local(LocalMap),
    Remote(RemoteMap),
}

impl TtlMap {
    pub(crate) fn in_process(clock: SharedClock) -> Self {
        Self { backend: Backend::Local(LocalMap::new(clock)) }
    }

    pub(crate) fn in_redis(server: Server, namespace: &str) -> Self {
        Self { backend: Backend::Remote(RemoteMap::new(server, namespace)) }
    }

    /// Returns the value, unless it has expired.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, CoordinationError> {
        match &self.backend {
            Backend::Local(map) => Ok(map.get(key)),
            Backend::Remote(map) => map.get(key).await,
        }
    }

    /// Sets the value and its time to live.
    pub async fn put(&self, key: &str, value: Bytes, ttl: Duration) -> Result<(), CoordinationError> {
        check(&value)?;
        match &self.backend {
            Backend::Local(map) => {
                map.put(key, value, ttl);
                Ok(())
            }
            Backend::Remote(map) => map.put(key, value, ttl).await,
        }
    }

    /// Sets the value if there is none; of several racers exactly one gets true.
    pub async fn put_if_absent(
        &self,
        key: &str,
        value: Bytes,
        ttl: Duration,
    ) -> Result<bool, CoordinationError> {
        check(&value)?;
        match &self.backend {
            Backend::Local(map) => Ok(map.put_if_absent(key, value, ttl)),
            Backend::Remote(map) => map.put_if_absent(key, value, ttl).await,
        }
    }

    /// Puts a value in the place of the expected one and tells whether it did; of several racers that expect the same
    /// exactly one gets true.
    pub async fn swap(
        &self,
        key: &str,
        expected: &Bytes,
        value: Bytes,
        ttl: Duration,
    ) -> Result<bool, CoordinationError> {
        check(&value)?;
        match &self.backend {
            Backend::Local(map) => Ok(map.swap(key, expected, value, ttl)),
            Backend::Remote(map) => map.swap(key, expected, &value, ttl).await,
        }
    }

    /// Removes the value and tells whether there was one.
    pub async fn remove(&self, key: &str) -> Result<bool, CoordinationError> {
        match &self.backend {
            Backend::Local(map) => Ok(map.take(key).is_some()),
            Backend::Remote(map) => map.remove(key).await,
        }
    }

    /// Removes the value and returns it; of several racers exactly one gets it.
    pub async fn take(&self, key: &str) -> Result<Option<Bytes>, CoordinationError> {
        match &self.backend {
            Backend::Local(map) => Ok(map.take(key)),
            Backend::Remote(map) => map.take(key).await,
        }
    }

    /// Gives the value a new time to live and tells whether there is one.
    pub async fn touch(&self, key: &str, ttl: Duration) -> Result<bool, CoordinationError> {
        match &self.backend {
            Backend::Local(map) => Ok(map.touch(key, ttl)),
            Backend::Remote(map) => map.touch(key, ttl).await,
        }
    }

    /// Gives the value a new time to live and returns it.
    pub async fn renew(&self, key: &str, ttl: Duration) -> Result<Option<Bytes>, CoordinationError> {
        match &self.backend {
            Backend::Local(map) => Ok(map.renew(key, ttl)),
            Backend::Remote(map) => map.renew(key, ttl).await,
        }
    }
}

fn check(value: &Bytes) -> Result<(), CoordinationError> {
    if value.len() > VALUE_LIMIT {
        return Err(CoordinationError::TooLarge { length: value.len(), limit: VALUE_LIMIT });
    }
    Ok(())
}
