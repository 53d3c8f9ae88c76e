//! `ObservationService`: what the worker saw.

use portico_proto_registry as proto;
use portico_proto_registry::observation_service_server::ObservationService;
use tonic::{Request, Response, Status};

use super::Registry;
use crate::convert;
use crate::errors::RegistryError;
use crate::service::Service;
use crate::service::access::Actor;
use crate::service::observations::Observation;
use crate::service::paging::Asked;

/// Who may report.
const OBSERVERS: [&str; 1] = ["worker"];

#[tonic::async_trait]
impl ObservationService for Registry {
    async fn report_instance(
        &self,
        request: Request<proto::ReportInstanceRequest>,
    ) -> Result<Response<proto::ReportInstanceResponse>, Status> {
        let (actor, message) = self.enter(request)?;
        let outcome = instance(&self.service, &actor, message).await;
        self.answer(&actor, "instance.report", outcome).await
    }

    async fn report_capabilities(
        &self,
        request: Request<proto::ReportCapabilitiesRequest>,
    ) -> Result<Response<proto::ReportCapabilitiesResponse>, Status> {
        let (actor, message) = self.enter(request)?;
        let outcome = capabilities(&self.service, &actor, message).await;
        self.answer(&actor, "capability.report", outcome).await
    }

    async fn list_instance_specs(
        &self,
        request: Request<proto::ListInstanceSpecsRequest>,
    ) -> Result<Response<proto::ListInstanceSpecsResponse>, Status> {
        let (actor, message) = self.enter(request)?;
        let outcome = specs(&self.service, &actor, message).await;
        self.answer(&actor, "instance.specs", outcome).await
    }
}

async fn instance(
    service: &Service,
    actor: &Actor,
    message: proto::ReportInstanceRequest,
) -> Result<proto::ReportInstanceResponse, RegistryError> {
    actor.service_among(&OBSERVERS)?;
    let seen = Observation {
        instance_id: convert::id("instance_id", &message.instance_id)?,
        status: convert::observed_status(message.status)?,
        reason: message.reason,
        protocol_versions: message.protocol_versions,
        checked_at: message.checked_at.as_ref().and_then(convert::time),
        spec_revision: message.spec_revision,
    };
    service.report_instance(actor, seen).await?;
    Ok(proto::ReportInstanceResponse {})
}

async fn capabilities(
    service: &Service,
    actor: &Actor,
    message: proto::ReportCapabilitiesRequest,
) -> Result<proto::ReportCapabilitiesResponse, RegistryError> {
    actor.service_among(&OBSERVERS)?;
    let server_id = convert::id("server_id", &message.server_id)?;
    let reported =
        message.capabilities.into_iter().map(convert::capability_input).collect::<Result<_, _>>()?;
    service.report_capabilities(server_id, reported).await?;
    Ok(proto::ReportCapabilitiesResponse {})
}

async fn specs(
    service: &Service,
    actor: &Actor,
    message: proto::ListInstanceSpecsRequest,
) -> Result<proto::ListInstanceSpecsResponse, RegistryError> {
    actor.service_among(&OBSERVERS)?;
    let asked = Asked { page_size: message.page_size, page_token: message.page_token };
    let page = service.list_instance_specs(actor, &asked).await?;
    let specs =
        page.items.iter().map(|(instance, server)| convert::instance_spec(instance, server)).collect();
    Ok(proto::ListInstanceSpecsResponse { specs, next_page_token: page.next })
}
