use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use portico_ids::ServerId;

/// Bytes of shared memory that a principal's sessions take together, for each that it may have.
const BYTES_EACH: usize = 2 * 1024;

/// What each principal has open on this replica: shared memory is bounded, and without this one principal could
/// take the room of all others.
#[derive(Debug)]
pub(super) struct Owned {
    most: usize,
    all: Mutex<HashMap<String, Own>>,
}

/// The sessions of one principal, with their bytes. All principals wait for what is done here, so none of it looks through all
/// sessions of one.
#[derive(Debug, Default)]
struct Own {
    sessions: HashMap<Arc<str>, Sizes>,
    /// By their numbers: the oldest first.
    by_age: BTreeMap<u64, Arc<str>>,
    next: u64,
    bytes: usize,
}

/// What one session takes.
#[derive(Debug)]
struct Sizes {
    number: u64,
    parts: Vec<(Part, usize)>,
}

impl Own {
    fn set(&mut self, id: &str, part: Part, bytes: usize) {
        if !self.sessions.contains_key(id) {
            let id: Arc<str> = id.into();
            self.by_age.insert(self.next, Arc::clone(&id));
            self.sessions.insert(id, Sizes { number: self.next, parts: Vec::new() });
            self.next += 1;
        }
        let Some(session) = self.sessions.get_mut(id) else { return };
        self.bytes += bytes;
        match session.parts.iter_mut().find(|(known, _)| *known == part) {
            Some((_, before)) => self.bytes -= std::mem::replace(before, bytes),
            None => session.parts.push((part, bytes)),
        }
    }

    fn oldest_but(&self, id: &str) -> Option<Arc<str>> {
        self.by_age.values().find(|known| &***known != id).cloned()
    }

    fn remove(&mut self, id: &str) {
        let Some(session) = self.sessions.remove(id) else { return };
        self.by_age.remove(&session.number);
        self.bytes -= session.parts.iter().map(|(_, bytes)| bytes).sum::<usize>();
    }
}

/// What of a session takes room. Each part counts once, however many calls bring it here at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Record,
    Upstream(ServerId),
}

impl Owned {
    pub(super) fn new(most: usize) -> Self {
        Self { most, all: Mutex::default() }
    }

    /// Says how large a part of a session is, which may be a new one; gives the older ones that have to make room.
    pub(super) fn set(&self, subject: &str, id: &str, part: Part, bytes: usize) -> Vec<String> {
        let mut all = self.all();
        let own = all.entry(subject.to_owned()).or_default();
        own.set(id, part, bytes);
        let mut gone = Vec::new();
        while own.sessions.len() > self.most || own.bytes > self.most * BYTES_EACH {
            let Some(oldest) = own.oldest_but(id) else { break };
            own.remove(&oldest);
            gone.push(oldest.to_string());
        }
        gone
    }

    /// Bytes that a principal's sessions take.
    #[cfg(test)]
    pub(super) fn bytes_of(&self, subject: &str) -> usize {
        self.all().get(subject).map_or(0, |own| own.bytes)
    }

    pub(super) fn remove(&self, subject: &str, id: &str) {
        let mut all = self.all();
        let Some(own) = all.get_mut(subject) else { return };
        own.remove(id);
        if own.sessions.is_empty() {
            all.remove(subject);
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Own>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::testing::server_id;

    #[test]
    fn the_oldest_session_of_the_same_principal_makes_room() {
        let owned = Owned::new(1_000);
        for n in 0..1_000 {
            assert!(owned.set("user:a", &n.to_string(), Part::Record, 1).is_empty());
        }
        assert!(owned.set("user:b", "other", Part::Record, 1).is_empty());
        assert_eq!(owned.set("user:a", "one more", Part::Record, 1), ["0"]);
        owned.remove("user:a", "1");
        assert!(owned.set("user:a", "and another", Part::Record, 1).is_empty());
    }

    #[test]
    fn bytes_count_as_well_and_a_session_never_ends_itself() {
        let owned = Owned::new(1_000);
        assert!(owned.set("user:a", "small", Part::Record, 1).is_empty());
        assert!(owned.set("user:a", "large", Part::Record, 1_000 * BYTES_EACH - 1).is_empty());
        let upstream = Part::Upstream(server_id(1));
        assert_eq!(owned.set("user:a", "large", upstream, 1), ["small"]);
        assert!(owned.set("user:a", "large", upstream, 2).is_empty());
        // The same part, said again by every call that brings the session here.
        let before = owned.bytes_of("user:a");
        for _ in 0..200 {
            owned.set("user:a", "large", upstream, 2);
        }
        assert_eq!(owned.bytes_of("user:a"), before);
        owned.remove("user:a", "large");
        assert!(owned.all().is_empty());
    }
}
