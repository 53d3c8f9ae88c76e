//! `CatalogueService`: for those who follow the catalogue.

use std::sync::Arc;

use portico_feed::{FeedStream, Watch};
use portico_proto_registry as proto;
use portico_proto_registry::catalogue_service_server::CatalogueService;
use tonic::{Request, Response, Status};

use super::Registry;
use crate::service::feed::{CatalogueFrames, CatalogueSource};

/// Who may follow.
const FOLLOWERS: [&str; 2] = ["gateway", "auth-server"];

#[tonic::async_trait]
impl CatalogueService for Registry {
    type WatchCatalogueStream = FeedStream<proto::WatchCatalogueResponse>;

    async fn watch_catalogue(
        &self,
        request: Request<proto::WatchCatalogueRequest>,
    ) -> Result<Response<Self::WatchCatalogueStream>, Status> {
        let (actor, message) = self.enter(request)?;
        let allowed = actor.service_among(&FOLLOWERS).map(drop);
        let outcome = allowed.map(|()| {
            let source = Arc::new(CatalogueSource {
                db: self.service.db.clone(),
                clock: Arc::clone(&self.service.clock),
            });
            let watch = Watch { source, since: message.since_revision, wake: self.service.wake.subscribe() };
            portico_feed::serve::<CatalogueFrames, _>(watch, &self.tasks)
        });
        self.answer(&actor, "catalogue.watch", outcome).await
    }
}
