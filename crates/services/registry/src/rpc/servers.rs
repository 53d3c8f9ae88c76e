//! `ServerService`.

use portico_oauth_types::Scope;
use portico_proto_registry as proto;
use portico_proto_registry::server_service_server::ServerService;
use tonic::{Request, Response, Status};

use super::Registry;
use super::entry::once;
use crate::convert;
use crate::domain::server::{ServerDraft, ServerField};
use crate::errors::RegistryError;
use crate::service::Service;
use crate::service::access::Actor;
use crate::service::paging::Asked;
use crate::service::servers::{ServerKey, ServerUpdate};

#[tonic::async_trait]
impl ServerService for Registry {
    async fn register_server(
        &self,
        request: Request<proto::RegisterServerRequest>,
    ) -> Result<Response<proto::RegisterServerResponse>, Status> {
        let (actor, message) = self.enter(request)?;
        let outcome = register(&self.service, &actor, message).await;
        self.answer(&actor, "server.register", outcome).await
    }

    async fn create_server(
        &self,
        request: Request<proto::CreateServerRequest>,
    ) -> Result<Response<proto::CreateServerResponse>, Status> {
        let (actor, message) = self.enter(request)?;
        let outcome = create(&self.service, &actor, message).await;
        self.answer(&actor, "server.create", outcome).await
    }

    async fn get_server(
        &self,
        request: Request<proto::GetServerRequest>,
    ) -> Result<Response<proto::GetServerResponse>, Status> {
        let (actor, message) = self.enter(request)?;
        let outcome = get(&self.service, &actor, &message).await;
        self.answer(&actor, "server.read", outcome).await
    }

    async fn list_servers(
        &self,
        request: Request<proto::ListServersRequest>,
    ) -> Result<Response<proto::ListServersResponse>, Status> {
        let (actor, message) = self.enter(request)?;
        let outcome = list(&self.service, &actor, message).await;
        self.answer(&actor, "server.list", outcome).await
    }

    async fn update_server(
        &self,
        request: Request<proto::UpdateServerRequest>,
    ) -> Result<Response<proto::UpdateServerResponse>, Status> {
        let (actor, message) = self.enter(request)?;
        let outcome = update(&self.service, &actor, message).await;
        self.answer(&actor, "server.update", outcome).await
    }

    async fn delete_server(
        &self,
        request: Request<proto::DeleteServerRequest>,
    ) -> Result<Response<proto::DeleteServerResponse>, Status> {
        let (actor, message) = self.enter(request)?;
        let outcome = delete(&self.service, &actor, &message).await;
        self.answer(&actor, "server.delete", outcome).await
    }
}

async fn register(
    service: &Service,
    actor: &Actor,
    mut message: proto::RegisterServerRequest,
) -> Result<proto::RegisterServerResponse, RegistryError> {
    actor.with_scope(Scope::RegistryWrite)?;
    let request_id = std::mem::take(&mut message.request_id);
    let once = once(actor, "RegisterServer", request_id, &message)?;
    let json_spec = convert::json_spec(message.json_spec)?;
    let input = convert::server_input(proto::Server {
        description: message.description,
        version: message.version,
        tags: message.tags,
        visibility: message.visibility,
        env_schema: message.env_schema,
        docker_image_url: message.docker_image_url,
        ..proto::Server::default()
    })?;
    service.register_server(actor, ServerDraft::parse(&message.name, input)?, json_spec, once).await
}

async fn create(
    service: &Service,
    actor: &Actor,
    mut message: proto::CreateServerRequest,
) -> Result<proto::CreateServerResponse, RegistryError> {
    actor.with_scope(Scope::RegistryWrite)?;
    let request_id = std::mem::take(&mut message.request_id);
    let once = once(actor, "CreateServer", request_id, &message)?;
    let server = given(message.server)?;
    let name = server.name.clone();
    service.create_server(actor, ServerDraft::parse(&name, convert::server_input(server)?)?, once).await
}

async fn get(
    service: &Service,
    actor: &Actor,
    message: &proto::GetServerRequest,
) -> Result<proto::GetServerResponse, RegistryError> {
    actor.with_scope(Scope::RegistryRead)?;
    let key = match (message.id.as_str(), message.name.as_str()) {
        ("", "") => return Err(RegistryError::invalid("id", "and name are both missing; set one of them")),
        (id, "") => ServerKey::Id(convert::id("id", id)?),
        ("", name) => ServerKey::Name(convert::lookup_name("server", name)?),
        _ => return Err(RegistryError::invalid("id", "and name are both set; set one of them")),
    };
    let server = service.get_server(actor, &key).await?;
    Ok(proto::GetServerResponse { server: Some(convert::server(server)) })
}

async fn list(
    service: &Service,
    actor: &Actor,
    message: proto::ListServersRequest,
) -> Result<proto::ListServersResponse, RegistryError> {
    actor.with_scope(Scope::RegistryRead)?;
    let asked = Asked { page_size: message.page_size, page_token: message.page_token };
    let page = service.list_servers(actor, &asked, Some(message.tag).filter(|tag| !tag.is_empty())).await?;
    let servers = page.items.into_iter().map(convert::server).collect();
    Ok(proto::ListServersResponse { servers, next_page_token: page.next })
}

async fn update(
    service: &Service,
    actor: &Actor,
    message: proto::UpdateServerRequest,
) -> Result<proto::UpdateServerResponse, RegistryError> {
    actor.with_scope(Scope::RegistryWrite)?;
    let server = given(message.server)?;
    let update = ServerUpdate {
        id: convert::id("server.id", &server.id)?,
        fields: convert::fields(message.update_mask, ServerField::parse)?,
        expected: convert::expected_revision("server", message.expected_revision)?,
        input: convert::server_input(server)?,
    };
    let server = service.update_server(actor, update).await?;
    Ok(proto::UpdateServerResponse { server: Some(convert::server(server)) })
}

async fn delete(
    service: &Service,
    actor: &Actor,
    message: &proto::DeleteServerRequest,
) -> Result<proto::DeleteServerResponse, RegistryError> {
    actor.with_scope(Scope::RegistryWrite)?;
    service.delete_server(actor, convert::id("id", &message.id)?, message.expected_revision).await?;
    Ok(proto::DeleteServerResponse {})
}

fn given(server: Option<proto::Server>) -> Result<proto::Server, RegistryError> {
    server.ok_or_else(|| RegistryError::invalid("server", "is missing"))
}
