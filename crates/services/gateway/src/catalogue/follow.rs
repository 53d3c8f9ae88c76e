use std::convert::Infallible;
use std::sync::Arc;

use portico_clock::SharedClock;
use portico_feed::{DiskCopy, Follower};
use portico_process::{ReadinessCheck, Tasks};
use portico_proto_registry::catalogue_service_client::CatalogueServiceClient;
use portico_proto_registry::{WatchCatalogueRequest, WatchCatalogueResponse};
use portico_telemetry::Metrics;
use portico_transport::Link;
use tonic::{Status, Streaming};

use super::Catalogue;

portico_feed::frame_codec! {
    /// Frames of `CatalogueService.WatchCatalogue`.
    pub(crate) struct CatalogueFrames {
        message: portico_proto_registry::WatchCatalogueResponse,
        frame: portico_proto_registry::watch_catalogue_response::Frame,
        begin: portico_proto_registry::CatalogueBegin,
        put: portico_proto_registry::CataloguePut,
        end: portico_proto_registry::CatalogueEnd,
        heartbeat: portico_proto_registry::CatalogueHeartbeat,
        item: portico_proto_registry::CatalogueItem,
    }
}

/// Where the catalogue comes from.
#[derive(Debug)]
pub(crate) struct Source {
    /// The way to the registry.
    pub(crate) link: Link,
    /// Where the last copy is kept, so that a start without the registry works.
    pub(crate) disk: DiskCopy,
    /// Tells how old the last copy is.
    pub(crate) clock: SharedClock,
    /// Where it is shown how far it was followed.
    pub(crate) metrics: Metrics,
}

impl Catalogue {
    /// Follows the registry until shutdown; ready once there is a snapshot, be it from disk.
    pub(crate) fn follow(self: &Arc<Self>, source: Source, tasks: &Tasks, ready: ReadinessCheck) {
        let Source { link, disk, clock, metrics } = source;
        ready.not_ready("the registry has not been heard of yet: see that it runs and can be reached");
        let catalogue = Arc::clone(self);
        let follower = Follower::<CatalogueFrames>::new(
            "catalogue",
            Some(disk),
            move |batch| {
                catalogue.apply(batch.snapshot, batch.items, &batch.removed);
                ready.ready();
            },
            clock,
        );
        follower.status().measure("catalogue", &metrics);
        let open = move |since_revision| watch(link.clone(), since_revision);
        tasks.spawn::<_, Infallible>("follow-catalogue", follower.run(open, tasks.shutdown_token()));
    }
}

async fn watch(link: Link, since_revision: i64) -> Result<Streaming<WatchCatalogueResponse>, Status> {
    let request = WatchCatalogueRequest { since_revision };
    Ok(CatalogueServiceClient::new(link).watch_catalogue(request).await?.into_inner())
}
