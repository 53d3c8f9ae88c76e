//! What one of several replicas does at a time: publishing an outbox, removing old rows.

use std::time::Duration;

use portico_coordination::{CoordinationError, Lease, Leases};
use tokio::time::Instant;

/// A lease that is kept for as long as this replica does the work; when it dies, another one gets it.
#[derive(Debug)]
pub struct Duty {
    leases: Leases,
    name: String,
    owner: String,
    ttl: Duration,
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    lease: Lease,
    /// When it ends by this process' own clock, counted from before it was asked for.
    until: Instant,
}

impl Duty {
    /// Names a duty and who would have it; `ttl` after the death of its holder another replica can have it.
    #[must_use]
    pub fn new(leases: Leases, name: &str, owner: &str, ttl: Duration) -> Self {
        Self { leases, name: name.to_owned(), owner: owner.to_owned(), ttl, held: None }
    }

    /// Takes or keeps the duty and tells whether this replica has it, for half of its time at least. Asks the backend
    /// only when the first half has gone.
    pub async fn hold(&mut self) -> Result<bool, CoordinationError> {
        let now = Instant::now();
        if let Some(held) = &self.held {
            if now + self.ttl / 2 < held.until {
                return Ok(true);
            }
            let renewed = self.leases.renew(&held.lease, self.ttl).await?;
            self.held = renewed.map(|lease| Held { lease, until: now + self.ttl });
        }
        if self.held.is_none() {
            let taken = self.leases.acquire(&self.name, &self.owner, self.ttl).await?;
            self.held = taken.map(|lease| Held { lease, until: now + self.ttl });
        }
        Ok(self.held.is_some())
    }

    /// Lets another replica have the duty at once.
    pub async fn release(&mut self) {
        let Some(held) = self.held.take() else { return };
        if let Err(error) = self.leases.release(&held.lease).await {
            // It ends by itself.
            tracing::debug!(
                duty = self.name,
                error = &error as &dyn std::error::Error,
                "duty not given back"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chrono::{DateTime, TimeDelta};
    use portico_clock::MockClock;
    use portico_coordination::Coordination;

    use super::*;

    const TTL: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn s2_29_a_duty_moves_when_its_holder_dies_or_lets_go() {
        let clock = MockClock::at(DateTime::from_timestamp(1_800_000_000, 0).unwrap());
        let pass = async |seconds| {
            clock.advance(TimeDelta::seconds(seconds));
            tokio::time::advance(Duration::from_secs(seconds.unsigned_abs())).await;
        };
        let leases = Coordination::in_process(Arc::new(clock.clone())).leases();
        let mut first = Duty::new(leases.clone(), "work", "first", TTL);
        let mut second = Duty::new(leases, "work", "second", TTL);
        assert!(first.hold().await.unwrap() && !second.hold().await.unwrap());
        for _ in 0..4 {
            pass(3).await;
            assert!(first.hold().await.unwrap() && !second.hold().await.unwrap(), "it is renewed in time");
        }
        pass(6).await;
        assert!(second.hold().await.unwrap(), "the first one slept for too long");
        assert!(!first.hold().await.unwrap(), "and learns it");
        second.release().await;
        assert!(first.hold().await.unwrap());
    }
}
