use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most sessions that one principal has open.
pub(super) const MAX_OWN: usize = 1_000;
/// Most bytes of shared memory that the sessions of one principal take together.
pub(super) const MAX_OWN_BYTES: usize = 4 * 1024 * 1024;

/// What each principal has open on this replica: shared memory is bounded, and without this one principal could
/// take the room of all others.
#[derive(Debug, Default)]
pub(super) struct Owned(Mutex<HashMap<String, Own>>);

/// The sessions of one principal, the oldest first, with their bytes.
#[derive(Debug, Default)]
struct Own {
    sessions: VecDeque<(String, usize)>,
    bytes: usize,
}

impl Owned {
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
        while own.sessions.len() > MAX_OWN || own.bytes > MAX_OWN_BYTES {
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_session_of_the_same_principal_makes_room() {
        let owned = Owned::default();
        for n in 0..MAX_OWN {
            assert!(owned.add("user:a", &n.to_string(), 1).is_empty());
        }
        assert!(owned.add("user:b", "other", 1).is_empty());
        assert_eq!(owned.add("user:a", "one more", 1), ["0"]);
        owned.remove("user:a", "1");
        assert!(owned.add("user:a", "and another", 1).is_empty());
    }

    #[test]
    fn bytes_count_as_well_and_a_session_never_ends_itself() {
        let owned = Owned::default();
        assert!(owned.add("user:a", "small", 1).is_empty());
        assert!(owned.add("user:a", "large", MAX_OWN_BYTES - 1).is_empty());
        assert_eq!(owned.add("user:a", "large", 1), ["small"]);
        assert!(owned.add("user:a", "large", 1).is_empty());
        owned.remove("user:a", "large");
        assert!(owned.all().is_empty());
    }
}
