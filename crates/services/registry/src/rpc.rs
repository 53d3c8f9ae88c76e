//! The gRPC face: one file for each service of the proto package.
//!
//! A method takes its message apart, calls one function of [`Service`](crate::service::Service), and answers. Every
//! function begins with who may call it.

mod audit;
mod catalogue;
mod discovery;
mod endpoints;
mod entry;
mod instances;
mod observations;
mod resolver;
mod sealing;
mod secrets;
mod servers;
mod sink;

use std::sync::Arc;

use portico_process::Tasks;
use portico_proto_registry as proto;
use tonic::service::Routes;

use crate::service::Service;

pub(crate) use entry::Calls;

/// Largest report of the worker, which is a whole server's definitions.
const LARGEST_REPORT: usize = 32 * 1024 * 1024;

/// What every gRPC service holds.
#[derive(Debug, Clone)]
pub(crate) struct Registry {
    pub(crate) service: Arc<Service>,
    pub(crate) tasks: Tasks,
    pub(crate) calls: Calls,
}

/// All services of `portico.registry.v1`; nobody is let in yet without a caller.
pub(crate) fn routes(registry: &Registry) -> Routes {
    let observations = proto::observation_service_server::ObservationServiceServer::new(registry.clone())
        .max_decoding_message_size(LARGEST_REPORT);
    Routes::new(proto::server_service_server::ServerServiceServer::new(registry.clone()))
        .add_service(proto::instance_service_server::InstanceServiceServer::new(registry.clone()))
        .add_service(proto::endpoint_service_server::EndpointServiceServer::new(registry.clone()))
        .add_service(proto::discovery_service_server::DiscoveryServiceServer::new(registry.clone()))
        .add_service(proto::secret_service_server::SecretServiceServer::new(registry.clone()))
        .add_service(proto::sealing_service_server::SealingServiceServer::new(registry.clone()))
        .add_service(proto::audit_service_server::AuditServiceServer::new(registry.clone()))
        .add_service(proto::catalogue_service_server::CatalogueServiceServer::new(registry.clone()))
        .add_service(proto::secret_resolver_service_server::SecretResolverServiceServer::new(
            registry.clone(),
        ))
        .add_service(proto::audit_sink_service_server::AuditSinkServiceServer::new(registry.clone()))
        .add_service(observations)
}
