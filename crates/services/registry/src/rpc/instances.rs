//! `InstanceService`.

use portico_oauth_types::Scope;
use portico_proto_registry as proto;
use portico_proto_registry::instance_service_server::InstanceService;
use tonic::{Request, Response, Status};

use super::Registry;
use super::entry::once;
use crate::convert;
use crate::domain::instance::{InstanceDetails, InstanceField};
use crate::errors::RegistryError;
use crate::service::Service;
use crate::service::access::Actor;
use crate::service::instances::{InstanceDraft, InstanceUpdate};
use crate::service::paging::Asked;

#[tonic::async_trait]
impl InstanceService for Registry {
    async fn create_instance(
        &self,
        request: Request<proto::CreateInstanceRequest>,
    ) -> Result<Response<proto::CreateInstanceResponse>, Status> {
        let (actor, message) = self.enter(request)?;
        let outcome = create(&self.service, &actor, message).await;
        self.answer(&actor, "instance.create", outcome).await
    }

    async fn get_instance(
        &self,
        request: Request<proto::GetInstanceRequest>,
    ) -> Result<Response<proto::GetInstanceResponse>, Status> {
        let (actor, message) = self.enter(request)?;
        let outcome = get(&self.service, &actor, &message).await;
        self.answer(&actor, "instance.read", outcome).await
    }

    async fn list_instances(
        &self,
        request: Request<proto::ListInstancesRequest>,
    ) -> Result<Response<proto::ListInstancesResponse>, Status> {
        let (actor, message) = self.enter(request)?;
        let outcome = list(&self.service, &actor, message).await;
        self.answer(&actor, "instance.list", outcome).await
    }

    async fn update_instance(
        &self,
        request: Request<proto::UpdateInstanceRequest>,
    ) -> Result<Response<proto::UpdateInstanceResponse>, Status> {
        let (actor, message) = self.enter(request)?;
        let outcome = update(&self.service, &actor, message).await;
        self.answer(&actor, "instance.update", outcome).await
    }

    async fn delete_instance(
        &self,
        request: Request<proto::DeleteInstanceRequest>,
    ) -> Result<Response<proto::DeleteInstanceResponse>, Status> {
        let (actor, message) = self.enter(request)?;
        let outcome = delete(&self.service, &actor, &message).await;
        self.answer(&actor, "instance.delete", outcome).await
    }
}

async fn create(
    service: &Service,
    actor: &Actor,
    mut message: proto::CreateInstanceRequest,
) -> Result<proto::CreateInstanceResponse, RegistryError> {
    actor.with_scope(Scope::RegistryWrite)?;
    let request_id = std::mem::take(&mut message.request_id);
    let once = once(actor, "CreateInstance", request_id, &message)?;
    let instance = given(message.instance)?;
    let draft = InstanceDraft {
        server_id: convert::id("instance.server_id", &instance.server_id)?,
        details: InstanceDetails::parse(
            &instance.name,
            instance.description,
            convert::json_spec(instance.json_spec)?,
        )?,
    };
    service.create_instance(actor, draft, once).await
}

async fn get(
    service: &Service,
    actor: &Actor,
    message: &proto::GetInstanceRequest,
) -> Result<proto::GetInstanceResponse, RegistryError> {
    actor.with_scope(Scope::RegistryRead)?;
    let instance = service.get_instance(actor, convert::id("id", &message.id)?).await?;
    Ok(proto::GetInstanceResponse { instance: Some(convert::instance(instance)) })
}

async fn list(
    service: &Service,
    actor: &Actor,
    message: proto::ListInstancesRequest,
) -> Result<proto::ListInstancesResponse, RegistryError> {
    actor.with_scope(Scope::RegistryRead)?;
    let asked = Asked { page_size: message.page_size, page_token: message.page_token };
    let server_id = match message.server_id.as_str() {
        "" => None,
        id => Some(convert::id("server_id", id)?),
    };
    let page = service.list_instances(actor, &asked, server_id).await?;
    let instances = page.items.into_iter().map(convert::instance).collect();
    Ok(proto::ListInstancesResponse { instances, next_page_token: page.next })
}

async fn update(
    service: &Service,
    actor: &Actor,
    message: proto::UpdateInstanceRequest,
) -> Result<proto::UpdateInstanceResponse, RegistryError> {
    actor.with_scope(Scope::RegistryWrite)?;
    let instance = given(message.instance)?;
    let update = InstanceUpdate {
        id: convert::id("instance.id", &instance.id)?,
        name: instance.name,
        description: instance.description,
        json_spec: instance.json_spec.map(|document| convert::json_spec(Some(document))).transpose()?,
        fields: convert::fields(message.update_mask, InstanceField::parse)?,
        expected: convert::expected_revision("instance", message.expected_revision)?,
    };
    let instance = service.update_instance(actor, update).await?;
    Ok(proto::UpdateInstanceResponse { instance: Some(convert::instance(instance)) })
}

async fn delete(
    service: &Service,
    actor: &Actor,
    message: &proto::DeleteInstanceRequest,
) -> Result<proto::DeleteInstanceResponse, RegistryError> {
    actor.with_scope(Scope::RegistryWrite)?;
    service.delete_instance(actor, convert::id("id", &message.id)?, message.expected_revision).await?;
    Ok(proto::DeleteInstanceResponse {})
}

fn given(instance: Option<proto::Instance>) -> Result<proto::Instance, RegistryError> {
    instance.ok_or_else(|| RegistryError::invalid("instance", "is missing"))
}
