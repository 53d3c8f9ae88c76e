//! The catalogue as a feed: rows with a revision after the follower's, and tombstones.

use chrono::{DateTime, Utc};
use portico_clock::SharedClock;
use portico_db::{Db, revision};
use portico_feed::{Changes, FeedSource};
use portico_proto_registry as proto;
use prost::Message as _;
use tonic::Status;

use crate::convert;
use crate::errors::RegistryError;
use crate::store::{Session, catalogue, tombstones};

/// Largest item that followers are sent. What is registered stays far below it; a row from before there was a bound
/// must not cost followers all others.
const LARGEST_ITEM: usize = 1024 * 1024;

portico_feed::frame_codec! {
    /// Frames of `WatchCatalogue`.
    pub(crate) struct CatalogueFrames {
        message: proto::WatchCatalogueResponse,
        frame: proto::watch_catalogue_response::Frame,
        begin: proto::CatalogueBegin,
        put: proto::CataloguePut,
        end: proto::CatalogueEnd,
        heartbeat: proto::CatalogueHeartbeat,
        item: proto::CatalogueItem,
    }
}

/// Reads the catalogue's items from the database, for any number of watchers.
#[derive(Debug)]
pub(crate) struct CatalogueSource {
    pub(crate) db: Db,
    pub(crate) clock: SharedClock,
}

impl CatalogueSource {
    async fn read(&self, since: Option<i64>) -> Result<Changes<proto::CatalogueItem>, RegistryError> {
        // Read first: whatever commits from here on has a higher revision and comes with the next batch too.
        let current = revision::current(&self.db).await?;
        let mut session = Session::open(&self.db).await?;
        let horizon = tombstones::horizon(session.conn()).await?;
        // A revision from the future is that of another database, one that was restored for instance.
        let since = since.filter(|since| (horizon..=current).contains(since));
        let changed = catalogue::changed(session.conn(), since.unwrap_or(0)).await?;
        let removed = match since {
            Some(since) => tombstones::after(session.conn(), since).await?,
            None => Vec::new(),
        };
        let mut items: Vec<proto::CatalogueItem> = changed.servers.iter().map(convert::server_item).collect();
        items.extend(changed.instances.into_iter().filter_map(|instance| {
            let item = convert::instance_item(&instance, &changed.secret_versions);
            if item.is_none() {
                tracing::error!(instance.id = %instance.id, "stored json_spec cannot be read, instance is left out");
            }
            item
        }));
        items.extend(changed.endpoints.into_iter().filter_map(|endpoint| {
            let name = endpoint.name.clone();
            let item = convert::endpoint_item(endpoint);
            if item.encoded_len() > LARGEST_ITEM {
                tracing::error!(endpoint.name = %name, "an endpoint is too large for the catalogue and is left out");
                return None;
            }
            Some(item)
        }));
        Ok(Changes { snapshot: since.is_none(), items, removed, revision: current })
    }
}

impl FeedSource<proto::CatalogueItem> for CatalogueSource {
    async fn changes(&self, since: Option<i64>) -> Result<Changes<proto::CatalogueItem>, Status> {
        self.read(since).await.map_err(Status::from)
    }

    fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }
}
