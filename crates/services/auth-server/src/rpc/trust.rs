//! `TrustService`: for those who verify tokens and decide by roles.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use portico_authn::TrustFrames;
use portico_db::StoreError;
use portico_feed::{Changes, FeedSource, FeedStream, Watch};
use portico_proto_auth as proto;
use portico_proto_auth::trust_service_server::TrustService;
use tonic::{Request, Response, Status};

use super::Rpc;
use super::errors::RpcError;
use crate::app::Shared;
use crate::store::trust::TrustChanges;
use crate::trust::decode;

/// Who may follow.
const FOLLOWERS: [&str; 2] = ["gateway", "registry"];

#[tonic::async_trait]
impl TrustService for Rpc {
    type WatchTrustStream = FeedStream<proto::WatchTrustResponse>;

    async fn watch_trust(
        &self,
        request: Request<proto::WatchTrustRequest>,
    ) -> Result<Response<Self::WatchTrustStream>, Status> {
        let (call, message) = self.enter(request)?;
        let outcome = call.service_among(&FOLLOWERS).map(|()| {
            let source = Arc::new(TrustSource { app: Arc::clone(&self.app) });
            let watch = Watch { source, since: message.since_revision, wake: self.app.trust.bell() };
            portico_feed::serve::<TrustFrames, _>(watch, &self.tasks)
        });
        self.answer(&call, ("trust.watch", ""), outcome).await
    }
}

/// Reads the trust from the database, for any number of watchers.
#[derive(Debug)]
struct TrustSource {
    app: Shared,
}

impl TrustSource {
    async fn read(&self, since: Option<i64>) -> Result<Changes<proto::TrustItem>, StoreError> {
        let TrustChanges { snapshot, rows, revision } = self.app.trust.store().changes(since).await?;
        let now = self.app.clock.now();
        let (mut items, mut removed) = (Vec::new(), Vec::new());
        for row in rows {
            // What has expired is withdrawn soon; a new watcher need not hear of it.
            let expired = snapshot && row.expires_at.is_some_and(|at| at <= now);
            if row.removed {
                removed.push(row.key);
            } else if !expired {
                items.extend(decode(&row));
            }
        }
        Ok(Changes { snapshot, items, removed, revision })
    }
}

impl FeedSource<proto::TrustItem> for TrustSource {
    async fn changes(&self, since: Option<i64>) -> Result<Changes<proto::TrustItem>, Status> {
        self.read(since).await.map_err(|error| RpcError::from(error).into())
    }

    fn now(&self) -> DateTime<Utc> {
        self.app.clock.now()
    }
}
