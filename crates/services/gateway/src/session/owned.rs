use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of shared memory that a principal's sessions take together, for each that it may have.
const BYTES_EACH: usize = 2 * 1024;

/// What each principal has open on this replica: shared memory is bounded, and without this one principal could
/// take the room of all others.
#[derive(Debug)]
pub(super) struct Owned {
    most: usize,
    all: Mutex<HashMap<String, Own>>,
}

/// The sessions of one principal, the oldest first, with their bytes.
#[derive(Debug, Default)]
struct Own {
    sessions: VecDeque<(String, usize)>,
    bytes: usize,
}

impl Owned {
    pub(super) fn new(most: usize) -> Self {
        Self { most, all: Mutex::default() }
    }

    /// Adds bytes to a session, which may be a new one; gives the older ones that have to make room.
    pub(super) fn add(&self, subject: &str, id: &str, bytes: usize) -> Vec<String> {
        let mut all = self.all();
        let own = all.entry(subject.to_owned()).or_default();
        match own.sessions.iter_mut().find(|(known, _)| known == id) {
            Some((_, size)) => *size += bytes,
            None => own.sessions.push_back((id.to_owned(), bytes)),
        }
        own.bytes += bytes;
        let mut gone = Vec::new();
        while own.sessions.len() > self.most || own.bytes > self.most * BYTES_EACH {
            let Some(oldest) = own.sessions.iter().position(|(known, _)| known != id) else { break };
            let Some((oldest, size)) = own.sessions.remove(oldest) else { break };
            own.bytes -= size;
            gone.push(oldest);
        }
        gone
    }

    pub(super) fn remove(&self, subject: &str, id: &str) {
        let mut all = self.all();
        let Some(own) = all.get_mut(subject) else { return };
        if let Some(at) = own.sessions.iter().position(|(known, _)| known == id)
            && let Some((_, size)) = own.sessions.remove(at)
        {
            own.bytes -= size;
        }
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

    #[test]
    fn the_oldest_session_of_the_same_principal_makes_room() {
        let owned = Owned::new(1_000);
        for n in 0..1_000 {
            assert!(owned.add("user:a", &n.to_string(), 1).is_empty());
        }
        assert!(owned.add("user:b", "other", 1).is_empty());
        assert_eq!(owned.add("user:a", "one more", 1), ["0"]);
        owned.remove("user:a", "1");
        assert!(owned.add("user:a", "and another", 1).is_empty());
    }

    #[test]
    fn bytes_count_as_well_and_a_session_never_ends_itself() {
        let owned = Owned::new(1_000);
        assert!(owned.add("user:a", "small", 1).is_empty());
        assert!(owned.add("user:a", "large", 1_000 * BYTES_EACH - 1).is_empty());
        assert_eq!(owned.add("user:a", "large", 1), ["small"]);
        assert!(owned.add("user:a", "large", 1).is_empty());
        owned.remove("user:a", "large");
        assert!(owned.all().is_empty());
    }
}
