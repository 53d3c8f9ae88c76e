//! The gRPC face.
//!
//! One file for each service of `portico.auth.v1`. Every method begins with who may call it; every change carries its
//! audit row, and every change that takes something away ends the access tokens that still say otherwise.

mod audit;
mod clients;
mod convert;
mod entry;
mod errors;
mod escalation;
mod grants;
mod paging;
mod repeat;
mod roles;
mod sealing;
mod service_accounts;
mod signing_keys;
mod trust;
mod users;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use portico_process::Tasks;
use portico_proto_auth as proto;
use tonic::service::Routes;

use crate::app::Shared;

pub(crate) use entry::Calls;

/// What every gRPC service holds.
#[derive(Debug, Clone)]
struct Rpc {
    app: Shared,
    tasks: Tasks,
}

/// All services of `portico.auth.v1`; nobody is let in yet without a caller.
pub(crate) fn routes(app: &Shared, tasks: &Tasks) -> Routes {
    let rpc = Rpc { app: Arc::clone(app), tasks: tasks.clone() };
    Routes::new(proto::user_service_server::UserServiceServer::new(rpc.clone()))
        .add_service(proto::role_service_server::RoleServiceServer::new(rpc.clone()))
        .add_service(proto::grant_service_server::GrantServiceServer::new(rpc.clone()))
        .add_service(proto::service_account_service_server::ServiceAccountServiceServer::new(rpc.clone()))
        .add_service(proto::client_service_server::ClientServiceServer::new(rpc.clone()))
        .add_service(proto::signing_key_service_server::SigningKeyServiceServer::new(rpc.clone()))
        .add_service(proto::sealing_service_server::SealingServiceServer::new(rpc.clone()))
        .add_service(proto::audit_service_server::AuditServiceServer::new(rpc.clone()))
        .add_service(proto::trust_service_server::TrustServiceServer::new(rpc))
}
