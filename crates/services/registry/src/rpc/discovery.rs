//! `DiscoveryService`.

use portico_oauth_types::Scope;
use portico_proto_registry as proto;
use portico_proto_registry::discovery_service_server::DiscoveryService;
use tonic::{Request, Response, Status};

use super::Registry;
use crate::convert;
use crate::errors::RegistryError;
use crate::service::Service;
use crate::service::access::Actor;
use crate::service::paging::Asked;

#[tonic::async_trait]
impl DiscoveryService for Registry {
    async fn list_capabilities(
        &self,
        request: Request<proto::ListCapabilitiesRequest>,
    ) -> Result<Response<proto::ListCapabilitiesResponse>, Status> {
        let (actor, message) = self.enter(request)?;
        let outcome = list(&self.service, &actor, message).await;
        self.answer(&actor, "capability.list", outcome).await
    }
}

async fn list(
    service: &Service,
    actor: &Actor,
    message: proto::ListCapabilitiesRequest,
) -> Result<proto::ListCapabilitiesResponse, RegistryError> {
    actor.with_scope(Scope::RegistryRead)?;
    let asked = Asked { page_size: message.page_size, page_token: message.page_token };
    let server_id = match message.server_id.as_str() {
        "" => None,
        id => Some(convert::id("server_id", id)?),
    };
    let page =
        service.list_capabilities(actor, &asked, server_id, convert::capability_kind(message.kind)?).await?;
    let capabilities = page.items.into_iter().map(convert::capability).collect();
    Ok(proto::ListCapabilitiesResponse { capabilities, next_page_token: page.next })
}
