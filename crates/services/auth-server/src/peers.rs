//! Which service may call which method, and the record of whoever tried something else.

use std::convert::Infallible;

use portico_db::StoreError;
use portico_transport::{PeerRule, RefusedPeer, RefusedPeers};
use tokio_util::sync::CancellationToken;

use crate::actor::{Actor, Deed};
use crate::app::{App, Shared};

/// Every method of the package: what no service is listed for is for people and service accounts alone.
pub(crate) const RULES: &[PeerRule] = &[
    ("/portico.auth.v1.UserService/CreateUser", &[]),
    ("/portico.auth.v1.UserService/GetUser", &[]),
    ("/portico.auth.v1.UserService/ListUsers", &[]),
    ("/portico.auth.v1.UserService/UpdateUser", &[]),
    ("/portico.auth.v1.UserService/DeleteUser", &[]),
    ("/portico.auth.v1.UserService/SetPassword", &[]),
    ("/portico.auth.v1.RoleService/CreateRole", &[]),
    ("/portico.auth.v1.RoleService/GetRole", &[]),
    ("/portico.auth.v1.RoleService/ListRoles", &[]),
    ("/portico.auth.v1.RoleService/UpdateRole", &[]),
    ("/portico.auth.v1.RoleService/DeleteRole", &[]),
    ("/portico.auth.v1.GrantService/CreateGrant", &[]),
    ("/portico.auth.v1.GrantService/ListGrants", &[]),
    ("/portico.auth.v1.GrantService/DeleteGrant", &[]),
    ("/portico.auth.v1.ServiceAccountService/CreateServiceAccount", &[]),
    ("/portico.auth.v1.ServiceAccountService/ListServiceAccounts", &[]),
    ("/portico.auth.v1.ServiceAccountService/RotateServiceAccountSecret", &[]),
    ("/portico.auth.v1.ServiceAccountService/UpdateServiceAccount", &[]),
    ("/portico.auth.v1.ServiceAccountService/DeleteServiceAccount", &[]),
    ("/portico.auth.v1.ClientService/CreateClient", &[]),
    ("/portico.auth.v1.ClientService/ListClients", &[]),
    ("/portico.auth.v1.ClientService/DeleteClient", &[]),
    ("/portico.auth.v1.SigningKeyService/RotateSigningKeys", &[]),
    ("/portico.auth.v1.SigningKeyService/ListSigningKeys", &[]),
    ("/portico.auth.v1.AuditService/ListAudit", &[]),
    ("/portico.auth.v1.TrustService/WatchTrust", &["gateway", "registry"]),
    ("/portico.auth.v1.SealingService/GetSealing", &[]),
    ("/portico.auth.v1.SealingService/Rewrap", &[]),
];

/// Records refusals, at the pace in which they come out.
pub(crate) async fn record(
    app: Shared,
    mut refused: RefusedPeers,
    shutdown: CancellationToken,
) -> Result<(), Infallible> {
    while let Some(Some(peer)) = shutdown.run_until_cancelled(refused.next()).await {
        if let Err(error) = record_one(&app, &peer).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "a refused peer cannot be recorded");
        }
    }
    shutdown.cancelled().await;
    Ok(())
}

async fn record_one(app: &App, peer: &RefusedPeer) -> Result<(), StoreError> {
    let name = peer.name();
    let deed = Deed { name: &name, ..Deed::refused("peer.refused", peer.target(), peer.reason) };
    let actor = Actor { principal: peer.principal(), peer: peer.peer(), ..Actor::default() };
    app.record(&actor, deed).await
}

#[cfg(test)]
mod tests {
    use portico_transport::{callers, method_paths};

    use super::*;

    #[test]
    fn s0_28_every_method_says_which_services_may_call_it() {
        let mut listed: Vec<_> = RULES.iter().map(|(method, _)| (*method).to_owned()).collect();
        listed.sort();
        assert_eq!(listed, method_paths(portico_proto_auth::FILE_DESCRIPTOR_SET).unwrap());
    }

    #[test]
    fn s3_60_services_may_call_what_their_work_needs_and_nothing_else() {
        let may = |service: &str| -> Vec<&str> {
            let mine = RULES.iter().filter(|(_, services)| services.contains(&service));
            mine.filter_map(|(method, _)| method.rsplit('.').next()).collect()
        };
        for follower in ["gateway", "registry"] {
            assert_eq!(may(follower), ["TrustService/WatchTrust"]);
        }
        assert!(may("worker").is_empty());
    }

    #[test]
    fn s3_60_no_method_is_open_to_a_service_that_does_not_connect() {
        let graph = include_str!("../../../../helm/portico/graph.yaml");
        let callers = callers(graph, "auth-server");
        assert_eq!(callers, ["gateway", "registry"]);
        for (method, services) in RULES {
            assert!(services.iter().all(|service| callers.contains(service)), "{method}: {services:?}");
        }
    }
}
