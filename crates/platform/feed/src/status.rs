//! How fresh a follower's copy is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};

const NEVER: i64 = i64::MIN;

/// What a follower tells about itself; clones share it.
#[derive(Debug, Clone)]
pub struct FeedStatus(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    last_contact: AtomicI64,
    revision: AtomicI64,
    has_copy: AtomicBool,
    connected: AtomicBool,
    /// Microseconds that the server's clock is ahead.
    skew: AtomicI64,
}

impl Default for FeedStatus {
    fn default() -> Self {
        Self(Arc::new(Inner {
            last_contact: AtomicI64::new(NEVER),
            revision: AtomicI64::new(0),
            has_copy: AtomicBool::new(false),
            connected: AtomicBool::new(false),
            skew: AtomicI64::new(NEVER),
        }))
    }
}

impl FeedStatus {
    /// Returns when the server last confirmed that the copy is complete; after a start from disk, when it had done
    /// so before the copy was written.
    #[must_use]
    pub fn last_contact(&self) -> Option<DateTime<Utc>> {
        match self.0.last_contact.load(Ordering::Acquire) {
            NEVER => None,
            micros => DateTime::from_timestamp_micros(micros),
        }
    }

    /// Returns the revision of the copy; 0 without one.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.0.revision.load(Ordering::Acquire)
    }

    /// Whether there is a copy, from the server or from disk.
    pub(crate) fn has_copy(&self) -> bool {
        self.0.has_copy.load(Ordering::Acquire)
    }

    /// Whether a stream is open now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.0.connected.load(Ordering::Acquire)
    }

    /// Returns how far the server's clock is ahead of this one, negative if it is behind; to within the time that a
    /// heartbeat takes.
    #[must_use]
    pub fn skew(&self) -> Option<TimeDelta> {
        match self.0.skew.load(Ordering::Acquire) {
            NEVER => None,
            micros => Some(TimeDelta::microseconds(micros)),
        }
    }

    pub(crate) fn set_skew(&self, skew: TimeDelta) {
        // Out of range is further apart than any two clocks that matter.
        self.0.skew.store(skew.num_microseconds().unwrap_or(i64::MAX), Ordering::Release);
    }

    pub(crate) fn confirm(&self, revision: i64, at: DateTime<Utc>) {
        self.0.revision.store(revision, Ordering::Release);
        self.0.last_contact.store(at.timestamp_micros(), Ordering::Release);
        self.0.has_copy.store(true, Ordering::Release);
    }

    pub(crate) fn set_connected(&self, connected: bool) {
        self.0.connected.store(connected, Ordering::Release);
    }
}
