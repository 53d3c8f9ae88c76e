//! `SealingService`.

use portico_db::sealed::Position;
use portico_oauth_types::Scope;
use portico_proto_registry as proto;
use portico_proto_registry::sealing_service_server::SealingService;
use tonic::{Request, Response, Status};

use super::Registry;
use crate::errors::RegistryError;
use crate::service::Service;
use crate::service::access::Actor;

const DEFAULT_BATCH: u32 = 200;
const LARGEST_BATCH: u32 = 1000;

#[tonic::async_trait]
impl SealingService for Registry {
    async fn get_sealing(
        &self,
        request: Request<proto::GetSealingRequest>,
    ) -> Result<Response<proto::GetSealingResponse>, Status> {
        let (actor, _) = self.enter(request)?;
        let outcome = get(&self.service, &actor).await;
        self.answer(&actor, "key.read", outcome).await
    }

    async fn rewrap(
        &self,
        request: Request<proto::RewrapRequest>,
    ) -> Result<Response<proto::RewrapResponse>, Status> {
        let (actor, message) = self.enter(request)?;
        let outcome = rewrap(&self.service, &actor, &message).await;
        if let Ok(done) = &outcome {
            self.calls.count_rewrapped(done.rewrapped.unsigned_abs());
        }
        self.answer(&actor, "key.rewrap", outcome).await
    }
}

async fn get(service: &Service, actor: &Actor) -> Result<proto::GetSealingResponse, RegistryError> {
    actor.with_scope(Scope::Admin)?;
    let found = service.key_use(actor).await?;
    let ring = service.sealer.ring();
    Ok(proto::GetSealingResponse {
        deployment_id: ring.deployment_id().to_owned(),
        sealing_key_id: ring.sealing_key(),
        keys: found.by_key.into_iter().map(|(id, rows)| proto::SealingKey { id, rows }).collect(),
        unknown_rows: found.unknown,
    })
}

async fn rewrap(
    service: &Service,
    actor: &Actor,
    message: &proto::RewrapRequest,
) -> Result<proto::RewrapResponse, RegistryError> {
    actor.with_scope(Scope::Admin)?;
    let position = Position::parse(&message.position)
        .ok_or_else(|| RegistryError::invalid("position", "is not one of an earlier answer"))?;
    let limit = match u32::try_from(message.batch_size) {
        Ok(0) => DEFAULT_BATCH,
        Ok(size) if size <= LARGEST_BATCH => size,
        _ => return Err(RegistryError::invalid("batch_size", "is between 0 and 1000")),
    };
    let done = service.rewrap(actor, &message.sealing_key_id, (position, limit)).await?;
    Ok(proto::RewrapResponse {
        rewrapped: i32::try_from(done.rewrapped).unwrap_or(i32::MAX),
        unreadable: i32::try_from(done.unreadable).unwrap_or(i32::MAX),
        next_position: done.next.map(Position::to_text).unwrap_or_default(),
    })
}
