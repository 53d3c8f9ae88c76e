//! Leases in Redis: a key that holds fence and owner until it expires, beside it the last fence.

use std::{sync::Arc, time::Duration};

use portico_clock::SharedClock;
use redis::Script;

use super::Lease;
use crate::{
    CoordinationError, expires_at,
    server::{Keys, Operation, Question, Server, millis, part},
};

const CAPABILITY: &str = "leases";
// Asked twice, the one who got the lease would be told that somebody else has it; it expires instead.
const ACQUIRE: Operation = Operation::once(CAPABILITY, "acquire");
const RENEW: Operation = Operation::repeatable(CAPABILITY, "renew");
const RELEASE: Operation = Operation::once(CAPABILITY, "release");

#[derive(Clone, Debug)]
pub(super) struct RemoteLeases {
    server: Server,
    clock: SharedClock,
    scripts: Arc<Scripts>,
}

#[derive(Debug)]
struct Scripts {
    acquire: Script,
    renew: Script,
    release: Script,
}

impl RemoteLeases {
    pub(super) fn new(server: Server, clock: SharedClock) -> Self {
        let scripts = Scripts {
            acquire: Script::new(include_str!("acquire.lua")),
            renew: Script::new(include_str!("renew.lua")),
            release: Script::new(include_str!("release.lua")),
        };
        Self { server, clock, scripts: Arc::new(scripts) }
    }

    pub(super) async fn acquire(
        &self,
        name: &str,
        owner: &str,
        ttl: Duration,
    ) -> Result<Option<Lease>, CoordinationError> {
        // Before asking: the server counts from a later moment, so the holder stops before the lease ends.
        let now = self.clock.now();
        let [lease, fence] = keys(self.server.keys(), name);
        let mut script = self.scripts.acquire.prepare_invoke();
        script.key(lease).key(fence).arg(owner).arg(millis(ttl));
        let fence: Option<u64> = self.server.ask(ACQUIRE, Question::Script(&script)).await?;
        let (name, owner) = (name.to_owned(), owner.to_owned());
        Ok(fence.map(|fence| Lease { name, owner, fence, expires_at: expires_at(now, ttl) }))
    }

    pub(super) async fn renew(
        &self,
        lease: &Lease,
        ttl: Duration,
    ) -> Result<Option<Lease>, CoordinationError> {
        let now = self.clock.now();
        let [key, _] = keys(self.server.keys(), &lease.name);
        let mut script = self.scripts.renew.prepare_invoke();
        script.key(key).arg(held_value(lease)).arg(millis(ttl));
        let held: bool = self.server.ask(RENEW, Question::Script(&script)).await?;
        Ok(held.then(|| Lease { expires_at: expires_at(now, ttl), ..lease.clone() }))
    }

    pub(super) async fn release(&self, lease: &Lease) -> Result<bool, CoordinationError> {
        let [key, _] = keys(self.server.keys(), &lease.name);
        let mut script = self.scripts.release.prepare_invoke();
        script.key(key).arg(held_value(lease));
        self.server.ask(RELEASE, Question::Script(&script)).await
    }
}

/// The lease and the last fence of its name.
fn keys(keys: &Keys, name: &str) -> [String; 2] {
    let lease = keys.name("lease", &[name]);
    let fence = part(&lease, &["fence"]);
    [lease, fence]
}

/// What the key holds as long as the lease is held.
fn held_value(lease: &Lease) -> String {
    format!("{}:{}", lease.fence, lease.owner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::slot;

    #[test]
    fn both_keys_of_a_lease_are_in_one_slot() {
        for name in ["relay", "a}b", "{x}", ""] {
            let [lease, fence] = keys(&Keys::new("deployment"), name);
            assert_eq!(slot(&lease), slot(&fence), "{name}");
        }
    }
}
