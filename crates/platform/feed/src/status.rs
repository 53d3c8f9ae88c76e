//! How fresh a follower's copy is.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use chrono::{DateTime, TimeDelta, Utc};
use portico_telemetry::Metrics;
use prometheus_client::metrics::gauge::Gauge;

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
    /// Shows the revision, once somebody wants to see it.
    shown: OnceLock<Gauge>,
}

impl Default for FeedStatus {
    fn default() -> Self {
        Self(Arc::new(Inner {
            last_contact: AtomicI64::new(NEVER),
            revision: AtomicI64::new(0),
            has_copy: AtomicBool::new(false),
            connected: AtomicBool::new(false),
            skew: AtomicI64::new(NEVER),
            shown: OnceLock::new(),
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

    /// Shows the revision of the copy as `portico_feed_revision{feed="…"}` from now on: replicas that show the same one
    /// know the same. A copy is shown once.
    pub fn measure(&self, feed: &'static str, metrics: &Metrics) {
        let help = "Revision of the last whole step that was applied of a feed; 0 before the first";
        let gauge = metrics.labelled_gauge("portico_feed_revision", help, ("feed", feed));
        gauge.set(self.revision());
        // A second name would show the same copy twice.
        let _ = self.0.shown.set(gauge);
    }

    pub(crate) fn set_skew(&self, skew: TimeDelta) {
        // Out of range is further apart than any two clocks that matter.
        self.0.skew.store(skew.num_microseconds().unwrap_or(i64::MAX), Ordering::Release);
    }

    pub(crate) fn confirm(&self, revision: i64, at: DateTime<Utc>) {
        self.0.revision.store(revision, Ordering::Release);
        self.0.last_contact.store(at.timestamp_micros(), Ordering::Release);
        self.0.has_copy.store(true, Ordering::Release);
        if let Some(gauge) = self.0.shown.get() {
            gauge.set(revision);
        }
    }

    pub(crate) fn set_connected(&self, connected: bool) {
        self.0.connected.store(connected, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_revision_of_each_feed_is_shown_as_it_grows() {
        let metrics = Metrics::new();
        let (catalogue, trust) = (FeedStatus::default(), FeedStatus::default());
        catalogue.confirm(3, DateTime::UNIX_EPOCH);
        catalogue.measure("catalogue", &metrics);
        trust.measure("trust", &metrics);
        assert!(metrics.render().contains("portico_feed_revision{feed=\"catalogue\"} 3\n"));
        assert!(metrics.render().contains("portico_feed_revision{feed=\"trust\"} 0\n"));
        catalogue.confirm(7, DateTime::UNIX_EPOCH);
        assert!(metrics.render().contains("portico_feed_revision{feed=\"catalogue\"} 7\n"));
    }
}
