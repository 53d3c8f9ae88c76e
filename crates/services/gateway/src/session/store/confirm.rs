//! Whether a session still exists, and what becomes of it when the shared map does not say.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::try_join_all;
use portico_coordination::CoordinationError;

use super::sealed_map::Stored;
use super::{Sessions, unavailable, unknown};
use crate::refusal::{Reason, Refusal};
use crate::session::{Session, UpstreamSession};

/// How long a replica goes on with what it has while the map does not answer, before it asks again.
const RETRY: TimeDelta = TimeDelta::seconds(5);
/// How long after a loss was noticed sessions may still be put back: each replica looks every five seconds.
const PUT_BACK: TimeDelta = TimeDelta::seconds(10);
const COME_BACK: Duration = Duration::from_secs(2);
/// Sessions that are put back at the same time.
const AT_ONCE: usize = 32;

impl Sessions {
    /// Renews the session's time to live. It goes on while the map does not answer, and when the map was emptied.
    pub(super) async fn confirm(&self, session: &Session, now: DateTime<Utc>) -> Result<(), Refusal> {
        let touched = match self.shared.renew(&session.id).await {
            Ok(Stored::Live(_)) if !session.behind.load(Ordering::Relaxed) => Ok(()),
            Ok(Stored::Live(_)) => self.write_back(session).await,
            Ok(Stored::Over) => return Err(self.is_over(session)),
            Ok(Stored::Nothing) => match self.was_emptied(session, now).await {
                Ok(true) => self.write_back(session).await,
                Ok(false) => return Err(self.is_over(session)),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        match touched {
            Ok(()) => {
                session.epoch.store(self.shared.epoch(), Ordering::Relaxed);
                session.trust_until(now + self.shared.trusted);
                session.tell_at(now);
            }
            Err(error) => {
                tracing::debug!(error = %error, "a session goes on without the shared map");
                session.behind.store(true, Ordering::Relaxed);
                session.trust_until(now + RETRY);
            }
        }
        Ok(())
    }

    fn is_over(&self, session: &Session) -> Refusal {
        self.end_here(session);
        unknown()
    }

    /// Whether a session is missing because the map lost everything, or could not be told for so long that it expired.
    async fn was_emptied(&self, session: &Session, now: DateTime<Utc>) -> Result<bool, CoordinationError> {
        let epoch = self.shared.read_epoch(&*self.rng, now).await?;
        let seen = session.epoch.load(Ordering::Relaxed);
        let untold = session.behind.load(Ordering::Relaxed)
            && session.untold_for(now).to_std().is_ok_and(|untold| untold >= self.shared.ttl);
        Ok(untold || (seen != 0 && seen != epoch))
    }

    /// What to say of a session that nobody knows. For a while after a loss others may still be putting it back, and 404
    /// would tell its agent to give it up (2025-11-25, Session Management).
    pub(super) async fn missing(&self, now: DateTime<Utc>) -> Refusal {
        match self.shared.read_epoch(&*self.rng, now).await {
            Ok(_) if self.shared.emptied_since(now) < PUT_BACK => Refusal::new(
                Reason::CoordinationUnavailable,
                "sessions are being put back after a loss; try again after Retry-After",
            )
            .with_retry_after(COME_BACK),
            Ok(_) => unknown(),
            Err(error) => unavailable(&error),
        }
    }

    /// Puts back what this replica still knows if the map was emptied; tells of how many sessions. Races with other
    /// replicas end well: whoever comes first counts.
    pub(crate) async fn restore_if_lost(&self) -> Result<Option<usize>, CoordinationError> {
        let epoch = self.shared.read_epoch(&*self.rng, self.clock.now()).await?;
        let before = self.restored.load(Ordering::Relaxed);
        let lost = before != 0 && before != epoch;
        let mut restored = 0;
        if lost {
            let (now, all) = (self.clock.now(), self.at_hand.all());
            let is_lost = |session: &&Arc<Session>| {
                session.epoch.load(Ordering::Relaxed) != epoch
                    && !session.ended.is_cancelled()
                    && session.idle_for(now) < self.idle
            };
            let sessions: Vec<_> = all.iter().filter(is_lost).collect();
            restored = sessions.len();
            for part in sessions.chunks(AT_ONCE) {
                let mut writes = Vec::with_capacity(part.len());
                for session in part {
                    writes.push(self.write_back(session));
                }
                try_join_all(writes).await?;
            }
        }
        // Not before all is there: what fails is tried again.
        self.restored.store(epoch, Ordering::Relaxed);
        Ok(lost.then_some(restored))
    }

    /// Writes what the map may lack of a session.
    async fn write_back(&self, session: &Session) -> Result<(), CoordinationError> {
        self.shared.write_back_record(session, session.dirty.load(Ordering::Relaxed)).await?;
        session.dirty.store(false, Ordering::Relaxed);
        for (server, open) in session.upstreams() {
            let stored = self.shared.put_upstream(session, server, &open).await?;
            if stored {
                self.watch(session, server, &open).await?;
                continue;
            }
            let first = self.shared.upstream(&session.id, server, open.generation).await?;
            if let Some(first) = first.filter(|first| *first != *open) {
                // Two replicas opened one each while they could not tell each other: one is used, both are closed
                // with the session.
                let mut spare = UpstreamSession::clone(&open);
                spare.generation = self.spare_generation();
                self.shared.put_upstream(session, server, &spare).await?;
                self.watch(session, server, &spare).await?;
                session.set_upstream(server, Arc::new(first));
            }
        }
        session.behind.store(false, Ordering::Relaxed);
        session.epoch.store(self.shared.epoch(), Ordering::Relaxed);
        Ok(())
    }

    /// A generation that is never opened, under which a spare session is written down to be closed.
    fn spare_generation(&self) -> u32 {
        let mut random = [0; 4];
        self.rng.fill(&mut random);
        u32::from_ne_bytes(random) | 1 << 31
    }
}
