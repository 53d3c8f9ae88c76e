//! Which service may call which method, and the record of whoever tried something else.

use std::convert::Infallible;
use std::sync::Arc;

use portico_ids::AuditId;
use portico_transport::{PeerRule, RefusedPeer, RefusedPeers};
use tokio_util::sync::CancellationToken;

use crate::domain::audit::{AuditRecord, Outcome};
use crate::service::Service;

/// Every method of the package: what no service is listed for is for people and service accounts alone.
pub(crate) const RULES: &[PeerRule] = &[
    ("/portico.registry.v1.ServerService/RegisterServer", &[]),
    ("/portico.registry.v1.ServerService/CreateServer", &[]),
    ("/portico.registry.v1.ServerService/GetServer", &[]),
    ("/portico.registry.v1.ServerService/ListServers", &[]),
    ("/portico.registry.v1.ServerService/UpdateServer", &[]),
    ("/portico.registry.v1.ServerService/DeleteServer", &[]),
    ("/portico.registry.v1.InstanceService/CreateInstance", &[]),
    ("/portico.registry.v1.InstanceService/GetInstance", &[]),
    ("/portico.registry.v1.InstanceService/ListInstances", &[]),
    ("/portico.registry.v1.InstanceService/UpdateInstance", &[]),
    ("/portico.registry.v1.InstanceService/DeleteInstance", &[]),
    ("/portico.registry.v1.EndpointService/CreateEndpoint", &[]),
    ("/portico.registry.v1.EndpointService/GetEndpoint", &[]),
    ("/portico.registry.v1.EndpointService/ListEndpoints", &[]),
    ("/portico.registry.v1.EndpointService/UpdateEndpoint", &[]),
    ("/portico.registry.v1.EndpointService/DeleteEndpoint", &[]),
    ("/portico.registry.v1.DiscoveryService/ListCapabilities", &[]),
    ("/portico.registry.v1.SecretService/SetSecret", &[]),
    ("/portico.registry.v1.SecretService/ListSecrets", &[]),
    ("/portico.registry.v1.SecretService/DeleteSecret", &[]),
    ("/portico.registry.v1.AuditService/ListAudit", &[]),
    ("/portico.registry.v1.CatalogueService/WatchCatalogue", &["gateway", "auth-server"]),
    ("/portico.registry.v1.SecretResolverService/ResolveSecrets", &["gateway", "worker"]),
    ("/portico.registry.v1.AuditSinkService/AppendAudit", &["gateway"]),
    ("/portico.registry.v1.ObservationService/ReportInstance", &["worker"]),
    ("/portico.registry.v1.ObservationService/ReportCapabilities", &["worker"]),
    ("/portico.registry.v1.ObservationService/ListInstanceSpecs", &["worker"]),
    ("/portico.registry.v1.SealingService/GetSealing", &[]),
    ("/portico.registry.v1.SealingService/Rewrap", &[]),
];

/// Records refusals, at the pace in which they come out.
pub(crate) async fn record(
    service: Arc<Service>,
    mut refused: RefusedPeers,
    shutdown: CancellationToken,
) -> Result<(), Infallible> {
    while let Some(Some(peer)) = shutdown.run_until_cancelled(refused.next()).await {
        let record = audit_record(&service, &peer);
        if let Err(error) = service.append_audit(vec![record]).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "a refused peer cannot be recorded");
        }
    }
    shutdown.cancelled().await;
    Ok(())
}

fn audit_record(service: &Service, peer: &RefusedPeer) -> AuditRecord {
    AuditRecord {
        id: AuditId::generate(&*service.clock, &*service.rng),
        occurred_at: service.clock.now(),
        service: "registry".to_owned(),
        principal: peer.principal(),
        client_id: String::new(),
        action: "peer.refused".to_owned(),
        target: peer.target().to_owned(),
        name: peer.name(),
        outcome: Outcome::Denied,
        reason: peer.reason.to_owned(),
        correlation_id: String::new(),
        trace_id: String::new(),
        duration_ms: 0,
        request_bytes: 0,
        response_bytes: 0,
        peer: peer.peer(),
    }
    .cleaned()
}

#[cfg(test)]
mod tests {
    use portico_transport::{callers, method_paths};

    use super::*;

    #[test]
    fn s0_28_every_method_says_which_services_may_call_it() {
        let mut listed: Vec<_> = RULES.iter().map(|(method, _)| (*method).to_owned()).collect();
        listed.sort();
        assert_eq!(listed, method_paths(portico_proto_registry::FILE_DESCRIPTOR_SET).unwrap());
    }

    #[test]
    fn s3_60_services_may_call_what_their_work_needs_and_nothing_else() {
        let may = |service: &str| -> Vec<&str> {
            let mine = RULES.iter().filter(|(_, services)| services.contains(&service));
            mine.filter_map(|(method, _)| method.rsplit('.').next()).collect()
        };
        assert_eq!(
            may("gateway"),
            [
                "CatalogueService/WatchCatalogue",
                "SecretResolverService/ResolveSecrets",
                "AuditSinkService/AppendAudit"
            ]
        );
        assert_eq!(may("auth-server"), ["CatalogueService/WatchCatalogue"]);
        assert_eq!(
            may("worker"),
            [
                "SecretResolverService/ResolveSecrets",
                "ObservationService/ReportInstance",
                "ObservationService/ReportCapabilities",
                "ObservationService/ListInstanceSpecs",
            ]
        );
        assert!(may("registry").is_empty());
    }

    #[test]
    fn s3_60_no_method_is_open_to_a_service_that_does_not_connect() {
        let graph = include_str!("../../../../helm/portico/graph.yaml");
        let callers = callers(graph, "registry");
        assert_eq!(callers, ["gateway", "auth-server", "worker"]);
        for (method, services) in RULES {
            assert!(services.iter().all(|service| callers.contains(service)), "{method}: {services:?}");
        }
    }
}
