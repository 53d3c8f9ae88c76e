//! `EndpointService`.

use portico_oauth_types::Scope;
use portico_proto_registry as proto;
use portico_proto_registry::endpoint_service_server::EndpointService;
use tonic::{Request, Response, Status};

use super::Registry;
use super::entry::once;
use crate::convert;
use crate::domain::endpoint::{EndpointDraft, EndpointField};
use crate::errors::RegistryError;
use crate::service::Service;
use crate::service::access::Actor;
use crate::service::endpoints::{EndpointKey, EndpointUpdate};
use crate::service::paging::Asked;

#[tonic::async_trait]
impl EndpointService for Registry {
    async fn create_endpoint(
        &self,
        request: Request<proto::CreateEndpointRequest>,
    ) -> Result<Response<proto::CreateEndpointResponse>, Status> {
        let (actor, message) = self.enter(request)?;
        let outcome = create(&self.service, &actor, message).await;
        self.answer(&actor, "endpoint.create", outcome).await
    }

    async fn get_endpoint(
        &self,
        request: Request<proto::GetEndpointRequest>,
    ) -> Result<Response<proto::GetEndpointResponse>, Status> {
        let (actor, message) = self.enter(request)?;
        let outcome = get(&self.service, &actor, &message).await;
        self.answer(&actor, "endpoint.read", outcome).await
    }

    async fn list_endpoints(
        &self,
        request: Request<proto::ListEndpointsRequest>,
    ) -> Result<Response<proto::ListEndpointsResponse>, Status> {
        let (actor, message) = self.enter(request)?;
        let outcome = list(&self.service, &actor, message).await;
        self.answer(&actor, "endpoint.list", outcome).await
    }

    async fn update_endpoint(
        &self,
        request: Request<proto::UpdateEndpointRequest>,
    ) -> Result<Response<proto::UpdateEndpointResponse>, Status> {
        let (actor, message) = self.enter(request)?;
        let outcome = update(&self.service, &actor, message).await;
        self.answer(&actor, "endpoint.update", outcome).await
    }

    async fn delete_endpoint(
        &self,
        request: Request<proto::DeleteEndpointRequest>,
    ) -> Result<Response<proto::DeleteEndpointResponse>, Status> {
        let (actor, message) = self.enter(request)?;
        let outcome = delete(&self.service, &actor, &message).await;
        self.answer(&actor, "endpoint.delete", outcome).await
    }
}

async fn create(
    service: &Service,
    actor: &Actor,
    mut message: proto::CreateEndpointRequest,
) -> Result<proto::CreateEndpointResponse, RegistryError> {
    actor.with_scope(Scope::RegistryWrite)?;
    let request_id = std::mem::take(&mut message.request_id);
    let once = once(actor, "CreateEndpoint", request_id, &message)?;
    let draft = EndpointDraft::parse(convert::endpoint_input(given(message.endpoint)?)?)?;
    service.create_endpoint(actor, draft, once).await
}

async fn get(
    service: &Service,
    actor: &Actor,
    message: &proto::GetEndpointRequest,
) -> Result<proto::GetEndpointResponse, RegistryError> {
    actor.with_scope(Scope::RegistryRead)?;
    let key = match (message.id.as_str(), message.name.as_str()) {
        ("", "") => return Err(RegistryError::invalid("id", "and name are both missing; set one of them")),
        (id, "") => EndpointKey::Id(convert::id("id", id)?),
        ("", name) => EndpointKey::Name(convert::lookup_name("endpoint", name)?),
        _ => return Err(RegistryError::invalid("id", "and name are both set; set one of them")),
    };
    let endpoint = service.get_endpoint(actor, &key).await?;
    Ok(proto::GetEndpointResponse { endpoint: Some(convert::endpoint(endpoint, &service.public_origin)) })
}

async fn list(
    service: &Service,
    actor: &Actor,
    message: proto::ListEndpointsRequest,
) -> Result<proto::ListEndpointsResponse, RegistryError> {
    actor.with_scope(Scope::RegistryRead)?;
    let asked = Asked { page_size: message.page_size, page_token: message.page_token };
    let page = service.list_endpoints(actor, &asked).await?;
    let endpoints =
        page.items.into_iter().map(|endpoint| convert::endpoint(endpoint, &service.public_origin)).collect();
    Ok(proto::ListEndpointsResponse { endpoints, next_page_token: page.next })
}

async fn update(
    service: &Service,
    actor: &Actor,
    message: proto::UpdateEndpointRequest,
) -> Result<proto::UpdateEndpointResponse, RegistryError> {
    actor.with_scope(Scope::RegistryWrite)?;
    let endpoint = given(message.endpoint)?;
    let update = EndpointUpdate {
        id: convert::id("endpoint.id", &endpoint.id)?,
        fields: convert::fields(message.update_mask, EndpointField::parse)?,
        expected: convert::expected_revision("endpoint", message.expected_revision)?,
        input: convert::endpoint_input(endpoint)?,
    };
    let endpoint = service.update_endpoint(actor, update).await?;
    Ok(proto::UpdateEndpointResponse { endpoint: Some(convert::endpoint(endpoint, &service.public_origin)) })
}

async fn delete(
    service: &Service,
    actor: &Actor,
    message: &proto::DeleteEndpointRequest,
) -> Result<proto::DeleteEndpointResponse, RegistryError> {
    actor.with_scope(Scope::RegistryWrite)?;
    service.delete_endpoint(actor, convert::id("id", &message.id)?, message.expected_revision).await?;
    Ok(proto::DeleteEndpointResponse {})
}

fn given(endpoint: Option<proto::Endpoint>) -> Result<proto::Endpoint, RegistryError> {
    endpoint.ok_or_else(|| RegistryError::invalid("endpoint", "is missing"))
}
