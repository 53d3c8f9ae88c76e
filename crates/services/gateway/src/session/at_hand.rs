use std::sync::Arc;

use moka::sync::Cache;

use super::Session;
use super::owned::Owned;

/// Most sessions that one replica keeps at hand; others are read from the shared map again.
const CAPACITY: u64 = 200_000;

/// The sessions that were used on this replica lately.
#[derive(Debug)]
pub(super) struct AtHand {
    sessions: Cache<String, Arc<Session>>,
    pub(super) owned: Arc<Owned>,
}

impl AtHand {
    pub(super) fn new(per_principal: usize) -> Self {
        let owned = Arc::new(Owned::new(per_principal));
        let forgotten = Arc::clone(&owned);
        let sessions = Cache::builder()
            .max_capacity(CAPACITY)
            .eviction_listener(move |_, session: Arc<Session>, _| {
                forgotten.remove(&session.record().binding.subject, &session.id);
            })
            .build();
        Self { sessions, owned }
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<Session>> {
        self.sessions.get(id)
    }

    /// Takes a session in; of several that were made for the same id the first counts.
    pub(super) fn add(&self, session: Arc<Session>) -> Arc<Session> {
        self.sessions.get_with(session.id.clone(), || session)
    }

    pub(super) fn forget(&self, id: &str) {
        self.sessions.invalidate(id);
    }

    pub(super) fn all(&self) -> Vec<Arc<Session>> {
        self.sessions.run_pending_tasks();
        self.sessions.iter().map(|(_, session)| session).collect()
    }
}
