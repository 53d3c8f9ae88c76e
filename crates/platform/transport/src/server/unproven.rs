//! Connections that have not sent a request yet: anybody can open as many as it likes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

/// One connection among `1 / SHARE` of all that a listener takes may be without a request.
const SHARE: usize = 4;

/// Keeps a share of a listener's connections for those that are used: beyond it, the oldest one without a request goes.
#[derive(Debug, Clone)]
pub(super) struct Unproven(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: usize,
    /// Those that have not left.
    count: AtomicUsize,
    queue: Mutex<VecDeque<Arc<Entry>>>,
}

#[derive(Debug)]
struct Entry {
    /// It has sent a request, has been given up, or is gone.
    left: AtomicBool,
    cut: CancellationToken,
}

/// A connection's place among them, until it has sent a request or is gone.
#[derive(Debug)]
pub(super) struct Place {
    entry: Arc<Entry>,
    all: Unproven,
}

impl Unproven {
    pub(super) fn new(connections: usize) -> Self {
        let most = (connections / SHARE).max(1);
        Self(Arc::new(Inner { most, count: AtomicUsize::new(0), queue: Mutex::default() }))
    }

    /// Takes a newcomer in and, if there are too many, gives up the oldest one.
    pub(super) fn enter(&self) -> Place {
        let entry = Arc::new(Entry { left: AtomicBool::new(false), cut: CancellationToken::new() });
        let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.count.fetch_add(1, Ordering::Relaxed);
        while self.0.count.load(Ordering::Relaxed) > self.0.most
            && let Some(oldest) = queue.pop_front()
        {
            // It counts no longer from here on, though it takes a while until it is gone.
            if self.leave(&oldest) {
                oldest.cut.cancel();
            }
        }
        queue.push_back(Arc::clone(&entry));
        // Those that have left otherwise are forgotten now and then, so that the queue stays short.
        if queue.len() > 2 * self.0.most + 64 {
            queue.retain(|entry| !entry.left.load(Ordering::Relaxed));
        }
        drop(queue);
        Place { entry, all: self.clone() }
    }

    /// Counts a connection no longer and tells whether it still did.
    fn leave(&self, entry: &Entry) -> bool {
        let counted = !entry.left.swap(true, Ordering::Relaxed);
        if counted {
            self.0.count.fetch_sub(1, Ordering::Relaxed);
        }
        counted
    }
}

impl Place {
    /// Notes that the connection has sent a request: it is never given up for a newcomer.
    pub(super) fn prove(&self) {
        self.all.leave(&self.entry);
    }

    /// Returns the token that is cancelled when the connection has to go.
    pub(super) fn cut(&self) -> CancellationToken {
        self.entry.cut.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.leave(&self.entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_silent_connection_makes_room_and_a_used_one_never_does() {
        let all = Unproven::new(8);
        let (used, silent, last) = (all.enter(), all.enter(), all.enter());
        assert!(used.cut().is_cancelled(), "three of two: the oldest goes");
        used.prove();
        drop(used);
        silent.prove();
        let newest = all.enter();
        assert!(!silent.cut().is_cancelled() && !last.cut().is_cancelled() && !newest.cut().is_cancelled());
        all.enter();
        assert!(last.cut().is_cancelled() && !silent.cut().is_cancelled() && !newest.cut().is_cancelled());
    }

    #[test]
    fn one_newcomer_costs_one_silent_connection_its_place() {
        let all = Unproven::new(8);
        let places: Vec<_> = (0..6).map(|_| all.enter()).collect();
        // Whoever was given up is still there: closing a connection takes a while.
        let cut: Vec<_> = places.iter().map(|place| place.cut().is_cancelled()).collect();
        assert_eq!(cut, [true, true, true, true, false, false]);
    }

    #[test]
    fn the_queue_forgets_who_has_left() {
        let all = Unproven::new(8);
        for _ in 0..10_000 {
            drop(all.enter());
        }
        assert!(all.0.queue.lock().unwrap().len() < 100);
        assert_eq!(all.0.count.load(Ordering::Relaxed), 0);
    }
}
