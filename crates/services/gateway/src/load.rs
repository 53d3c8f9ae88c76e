//! How much is open at the same time, and who is turned away first when it is too much.
//!
//! Each request takes a place before anything else is done for it, a stream that stays takes one among the streams. With
//! few places left a request without a token is turned away before its token would be verified; with none, any is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::metrics::{GatewayMetrics, Shed};
use crate::refusal::{Reason, Refusal};
use crate::settings::LimitSettings;

/// When to come back for a place among the calls, and among the streams.
const CALL_AGAIN: Duration = Duration::from_secs(1);
const STREAM_AGAIN: Duration = Duration::from_secs(5);

/// Counts what is open.
#[derive(Debug)]
pub(crate) struct Load {
    calls: Counter,
    streams: Counter,
    /// Places that only requests with a token get.
    reserve: usize,
    metrics: GatewayMetrics,
}

#[derive(Debug)]
struct Counter {
    open: Arc<AtomicUsize>,
    most: usize,
}

/// A place of one call or stream; dropping it makes room for another.
#[derive(Debug)]
pub(crate) struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Counter {
    fn new(most: usize) -> Self {
        Self { open: Arc::default(), most }
    }

    fn take(&self, most: usize) -> Option<Place> {
        let taken = self
            .open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| (open < most).then_some(open + 1));
        taken.ok().map(|_| Place(Arc::clone(&self.open)))
    }
}

impl Load {
    pub(crate) fn new(limits: &LimitSettings, metrics: GatewayMetrics) -> Self {
        Self {
            calls: Counter::new(limits.open_calls as usize),
            streams: Counter::new(limits.open_streams as usize),
            reserve: limits.open_calls_reserve as usize,
            metrics,
        }
    }

    /// Calls that are served just now.
    pub(crate) fn calls(&self) -> usize {
        self.calls.open.load(Ordering::Relaxed)
    }

    /// Takes a place for a request of which nothing is known but whether it brings a token.
    pub(crate) fn enter(&self, has_token: bool) -> Result<Place, Refusal> {
        let kept = if has_token { 0 } else { self.reserve };
        self.calls.take(self.calls.most.saturating_sub(kept)).ok_or_else(|| {
            self.metrics.shed(if has_token { Shed::Calls } else { Shed::Anonymous });
            let message = "too many calls are open at this gateway; try again after Retry-After";
            Refusal::new(Reason::Overloaded, message).with_retry_after(CALL_AGAIN)
        })
    }

    /// Takes a place for a stream that stays as long as its agent likes.
    pub(crate) fn enter_stream(&self) -> Result<Place, Refusal> {
        self.streams.take(self.streams.most).ok_or_else(|| {
            self.metrics.shed(Shed::Streams);
            let message = "too many streams are open at this gateway; try again after Retry-After";
            Refusal::new(Reason::Overloaded, message).with_retry_after(STREAM_AGAIN)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_places_are_for_those_who_bring_a_token() {
        let limits = LimitSettings {
            open_calls: 3,
            open_calls_reserve: 1,
            open_streams: 1,
            ..LimitSettings::default()
        };
        let load = Load::new(&limits, GatewayMetrics::new(&portico_telemetry::Metrics::new()));
        let _one = load.enter(false).unwrap();
        let two = load.enter(false).unwrap();
        assert_eq!(load.enter(false).unwrap_err().reason, Reason::Overloaded);
        let _three = load.enter(true).unwrap();
        assert!(load.enter(true).is_err());
        drop(two);
        assert_eq!(load.calls(), 2);
        assert!(load.enter(false).is_err());
        let stream = load.enter_stream().unwrap();
        assert!(load.enter_stream().is_err());
        drop(stream);
        assert!(load.enter_stream().is_ok());
    }
}
