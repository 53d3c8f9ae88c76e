//! `SealingService`.

use portico_authz::Action;
use portico_db::sealed::{Position, Rewrapped};
use portico_proto_auth as proto;
use portico_proto_auth::sealing_service_server::SealingService;
use tonic::{Request, Response, Status};

use super::Rpc;
use super::entry::Call;
use super::errors::RpcError;
use crate::actor::Deed;
use crate::app::App;

const DEFAULT_BATCH: u32 = 200;
const LARGEST_BATCH: u32 = 1000;

#[tonic::async_trait]
impl SealingService for Rpc {
    async fn get_sealing(
        &self,
        request: Request<proto::GetSealingRequest>,
    ) -> Result<Response<proto::GetSealingResponse>, Status> {
        let (call, _) = self.enter(request)?;
        let outcome = get(&self.app, &call).await;
        self.answer(&call, ("key.read", ""), outcome).await
    }

    async fn rewrap(
        &self,
        request: Request<proto::RewrapRequest>,
    ) -> Result<Response<proto::RewrapResponse>, Status> {
        let (call, message) = self.enter(request)?;
        let outcome = rewrap(&self.app, &call, &message).await;
        self.answer(&call, ("key.rewrap", &message.sealing_key_id), outcome).await
    }
}

async fn get(app: &App, call: &Call) -> Result<proto::GetSealingResponse, RpcError> {
    call.allow(app, Action::KeyRead)?;
    let ring = app.sealer.ring();
    let found = app.stores.sealed.key_use(&ring.key_ids()).await?;
    Ok(proto::GetSealingResponse {
        deployment_id: ring.deployment_id().to_owned(),
        sealing_key_id: ring.sealing_key(),
        keys: found.by_key.into_iter().map(|(id, rows)| proto::SealingKey { id, rows }).collect(),
        unknown_rows: found.unknown,
    })
}

async fn rewrap(
    app: &App,
    call: &Call,
    message: &proto::RewrapRequest,
) -> Result<proto::RewrapResponse, RpcError> {
    call.allow(app, Action::KeyUpdate)?;
    let sealing = app.sealer.ring().sealing_key();
    if message.sealing_key_id != sealing {
        return Err(RpcError::SealingKeyDiffers { sealing });
    }
    let position = Position::parse(&message.position)
        .ok_or_else(|| RpcError::invalid("position", "is not one of an earlier answer"))?;
    let limit = match u32::try_from(message.batch_size) {
        Ok(0) => DEFAULT_BATCH,
        Ok(size) if size <= LARGEST_BATCH => size,
        _ => return Err(RpcError::invalid("batch_size", "is between 0 and 1000")),
    };
    let audit = |done: &Rewrapped| {
        let mut entries: Vec<_> =
            done.closed.iter().map(|key| app.entry(&call.actor, Deed::done("key.close", key, ""))).collect();
        if done.rewrapped > 0 {
            let rows = format!("{} rows", done.rewrapped);
            entries.push(app.entry(&call.actor, Deed::done("key.rewrap", &sealing, &rows)));
        }
        entries
    };
    let done = app.stores.sealed.rewrap(&app.sealer, (position, limit, app.clock.now()), audit).await?;
    app.counters.rows_rewrapped.inc_by(done.rewrapped.into());
    Ok(proto::RewrapResponse {
        rewrapped: i32::try_from(done.rewrapped).unwrap_or(i32::MAX),
        unreadable: i32::try_from(done.unreadable).unwrap_or(i32::MAX),
        next_position: done.next.map(Position::to_text).unwrap_or_default(),
    })
}
