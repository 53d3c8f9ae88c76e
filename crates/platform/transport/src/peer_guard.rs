//! Which service may call which method.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::Code;
use tonic::service::Routes;

use crate::assembly::AssemblyError;
use crate::error::grpc_error;
use crate::peer::{PeerAddr, PeerIdentity};
use crate::refused_peers::{PeerRefusals, RefusedPeer};

/// The services that may call a method, by its path, e.g. `/portico.auth.v1.TrustService/WatchTrust`.
pub type PeerRule = (&'static str, &'static [&'static str]);

/// Refuses peers at methods that are not for them. Whoever is no peer is somebody else's decision.
///
/// A method without a rule is for no peer.
#[derive(Debug, Clone)]
pub struct PeerGuard {
    rules: Arc<HashMap<&'static str, &'static [&'static str]>>,
    refusals: PeerRefusals,
}

impl PeerGuard {
    /// Makes a guard that knows these rules and reports what it refuses.
    #[must_use]
    pub fn new(rules: &'static [PeerRule], refusals: PeerRefusals) -> Self {
        Self { rules: Arc::new(rules.iter().copied().collect()), refusals }
    }

    /// Puts the guard in front of every method of `routes`, over a socket and inside the process alike.
    #[must_use]
    pub fn protect(&self, routes: Routes) -> Routes {
        let guard = self.clone();
        Routes::from(routes.into_axum_router().layer(from_fn(move |request: Request, next: Next| {
            let refused = guard.refuse(&request);
            async move {
                match refused {
                    Some(refusal) => refusal,
                    None => next.run(request).await,
                }
            }
        })))
    }

    fn refuse(&self, request: &Request) -> Option<Response> {
        let peer = request.extensions().get::<PeerIdentity>()?;
        let method = request.uri().path();
        if self.rules.get(method).is_some_and(|services| services.contains(&peer.service.as_str())) {
            return None;
        }
        let address = request.extensions().get::<PeerAddr>().map(|address| address.0.ip());
        tracing::warn!(peer.service, rpc.method = method, "a peer called a method that is not for it");
        self.refusals.report(RefusedPeer {
            service: Some(peer.service.clone()),
            address,
            method: method.to_owned(),
            reason: "peer_not_allowed",
            untold: 0,
        });
        let message = format!("the service {} may not call this method", peer.service);
        Some(grpc_error(Code::PermissionDenied, "peer_not_allowed", message).into_http())
    }
}

/// Lists the path of every method in a descriptor set, sorted: what a list of rules has to cover.
pub fn method_paths(descriptor_set: &[u8]) -> Result<Vec<String>, AssemblyError> {
    let mut paths = Vec::new();
    for file in FileDescriptorSet::decode(descriptor_set)?.file {
        for service in &file.service {
            let names = service.method.iter().map(prost_types::MethodDescriptorProto::name);
            paths.extend(names.map(|name| format!("/{}.{}/{name}", file.package(), service.name())));
        }
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use portico_telemetry::Metrics;

    use super::*;
    use crate::testing::{called_as, who_calls};
    use crate::{Exchange, reason_of};

    const RULES: &[PeerRule] = &[("/grpc.health.v1.Health/Check", &["gateway", "worker"])];

    #[tokio::test]
    async fn s0_28_a_peer_calls_what_is_listed_for_it_and_nothing_else() {
        let (refusals, mut refused) = PeerRefusals::new(&Metrics::new(), "portico_test_refused_peers");
        let exchange = Exchange::new();
        exchange.serve("registry", PeerGuard::new(RULES, refusals).protect(who_calls()));
        let link = |service| exchange.link("registry", PeerIdentity::new(service));
        assert!(called_as(link("gateway"), "gateway").await.unwrap());
        let status = called_as(link("auth-server"), "auth-server").await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
        assert_eq!(reason_of(&status).as_deref(), Some("peer_not_allowed"));
        let told = refused.next().await.unwrap();
        assert_eq!(told.service.as_deref(), Some("auth-server"));
        assert_eq!(told.method, "/grpc.health.v1.Health/Check");

        // Listed for a method is not listed for its neighbour.
        let mut client = tonic_health::pb::health_client::HealthClient::new(link("gateway"));
        let status = client.watch(crate::testing::ask("gateway")).await.unwrap_err();
        assert_eq!(reason_of(&status).as_deref(), Some("peer_not_allowed"));
    }

    #[tokio::test]
    async fn whoever_is_no_peer_passes_the_guard() {
        use tower::ServiceExt as _;

        let nothing = axum::body::Body::empty();
        let (refusals, _refused) = PeerRefusals::new(&Metrics::new(), "portico_test_refused_peers");
        let routes = PeerGuard::new(RULES, refusals).protect(who_calls()).into_axum_router();
        let request = Request::builder().uri("/grpc.health.v1.Health/Nope").body(nothing).unwrap();
        let answer = routes.oneshot(request).await.unwrap();
        let status = tonic::Status::from_header_map(answer.headers()).unwrap();
        assert_eq!(status.code(), Code::Unimplemented);
    }

    #[test]
    fn every_method_of_a_descriptor_set_is_listed() {
        let paths = method_paths(tonic_health::pb::FILE_DESCRIPTOR_SET).unwrap();
        assert!(paths.contains(&"/grpc.health.v1.Health/Check".to_owned()), "{paths:?}");
        assert!(paths.contains(&"/grpc.health.v1.Health/Watch".to_owned()), "{paths:?}");
    }
}
