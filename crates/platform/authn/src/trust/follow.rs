//! Following the auth-server's trust stream.

use std::convert::Infallible;
use std::fmt;

use chrono::TimeDelta;
use portico_clock::SharedClock;
use portico_feed::{Batch, DiskCopy, FeedStatus, Follower};
use portico_process::{Readiness, Tasks};
use portico_proto_auth as proto;
use portico_proto_auth::trust_service_client::TrustServiceClient;
use portico_proto_auth::{WatchTrustRequest, WatchTrustResponse};
use portico_telemetry::Metrics;
use portico_transport::Link;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use tonic::{Status, Streaming};

use super::{TrustChange, TrustHandle};

portico_feed::frame_codec! {
    /// Frames of `TrustService.WatchTrust`, for the side that follows and the side that serves.
    pub struct TrustFrames {
        message: proto::WatchTrustResponse,
        frame: proto::watch_trust_response::Frame,
        begin: proto::TrustBegin,
        put: proto::TrustPut,
        end: proto::TrustEnd,
        heartbeat: proto::TrustHeartbeat,
        item: proto::TrustItem,
    }
}

/// Where the trust comes from.
#[derive(Debug, Clone)]
pub struct TrustFeed {
    /// The way to the auth-server.
    pub link: Link,
    /// Where the last copy is kept, so that this service starts while the auth-server is away.
    pub disk: Option<DiskCopy>,
    /// Tells how old the last copy is.
    pub clock: SharedClock,
}

impl TrustHandle {
    /// Follows the auth-server in a task until shutdown. The check `trust` is ready once there is a copy, be it from
    /// disk. A handle follows one feed: a second call changes nothing.
    pub fn follow(&self, feed: TrustFeed, tasks: &Tasks, readiness: &Readiness) {
        if self.inner.feed.get().is_some() {
            tracing::error!("the trust is followed already: the second feed is left out");
            return;
        }
        let check = readiness.check("trust");
        check.not_ready("the auth-server has not been heard of yet: see that it runs and can be reached");
        let handle = self.clone();
        let apply = move |batch: Batch<proto::TrustItem>| {
            handle.replace(TrustChange::from(batch));
            check.ready();
        };
        let follower = Follower::<TrustFrames>::new("trust", feed.disk, apply, feed.clock);
        self.inner.feed.get_or_init(|| follower.status());
        let open = move |since_revision| watch(feed.link.clone(), since_revision);
        let token = tasks.shutdown_token();
        tasks.spawn::<_, Infallible>("follow-trust", follower.run(open, token));
    }

    /// How far the clock of the auth-server is ahead of this one, as far as its feed has told.
    pub(crate) fn skew(&self) -> Option<TimeDelta> {
        self.feed_status()?.skew()
    }

    /// Shows how far the clocks differ as `portico_trust_clock_skew_seconds`, and how far the feed was followed as
    /// `portico_feed_revision`.
    pub fn measure(&self, metrics: &Metrics) {
        let help = "Seconds that the auth-server's clock is ahead; beyond 60 either way no token is accepted";
        metrics.register("portico_trust_clock_skew_seconds", help, Skew(self.clone()));
        if let Some(status) = self.feed_status() {
            status.measure("trust", metrics);
        }
    }

    /// Returns how the feed fares, if one is followed: for metrics.
    #[must_use]
    pub fn feed_status(&self) -> Option<&FeedStatus> {
        self.inner.feed.get()
    }
}

/// Read when it is shown.
#[derive(Debug)]
struct Skew(TrustHandle);

impl EncodeMetric for Skew {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        encoder.encode_gauge(&self.0.skew().map_or(0, |skew| skew.num_seconds()))
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

async fn watch(link: Link, since_revision: i64) -> Result<Streaming<WatchTrustResponse>, Status> {
    let answer = TrustServiceClient::new(link).watch_trust(WatchTrustRequest { since_revision }).await?;
    Ok(answer.into_inner())
}

impl From<Batch<proto::TrustItem>> for TrustChange {
    fn from(batch: Batch<proto::TrustItem>) -> Self {
        let items = batch.items.into_iter().map(|(_, item)| item).collect();
        Self { snapshot: batch.snapshot, items, removed: batch.removed, revision: batch.revision }
    }
}

#[cfg(test)]
mod tests;
