//! What programs serve, and to whom.

use std::sync::Arc;

use axum::Router;
use http::HeaderMap;
use portico_telemetry::CorrelationId;
use portico_transport::{
    AssemblyError, BindError, HttpLimits, ReservedAddress, ServerTls, Serving, grpc_app, grpc_routes,
    one_port,
};
use tonic::service::Routes;

use crate::program::Ground;

/// How long a peer's connection lasts: afterwards it shows its certificate anew, so that one that was replaced or has
/// expired is of no use for longer.
const PEER_CONNECTION_SECONDS: u64 = 1800;

/// What everybody is served.
#[derive(Debug)]
pub struct Front {
    /// HTTP.
    pub http: Router,
    /// gRPC, with the descriptors of its services: reflection and health come with it.
    pub grpc: Option<(&'static [u8], Routes)>,
    /// What one client may take.
    pub limits: HttpLimits,
    /// TLS, if there is no proxy in front that ends it.
    pub tls: Option<ServerTls>,
}

/// Serves everybody.
///
/// Nobody can connect until all else is ready, so that a balancer that only tries goes elsewhere; the check `public`
/// holds from then on, so that one that asks does not come too early.
pub fn public(address: ReservedAddress, front: Front, ground: &Ground) -> Result<(), AssemblyError> {
    let Front { http, grpc, limits, tls } = front;
    let grpc = match grpc {
        Some((descriptors, services)) => grpc_routes(&[descriptors], services, ground.readiness.clone())?,
        None => Routes::default(),
    };
    if let Some(tls) = &tls {
        tls.watch(&ground.tasks);
    }
    let serving = Serving { app: one_port(http, grpc, correlate(ground)), limits, tls };
    let readiness = ground.readiness.clone();
    let check = Arc::new(readiness.check("public"));
    check.not_ready("waiting for the other checks");
    let last = Arc::clone(&check);
    let ready = async move { readiness.all_but(&last).await };
    address.measured(&ground.metrics).serve_when(ready, serving, move || check.ready(), &ground.tasks);
    Ok(())
}

/// Serves the services of the deployment, which prove who they are.
pub fn internal(
    address: ReservedAddress,
    services: Routes,
    tls: ServerTls,
    ground: &Ground,
) -> Result<(), BindError> {
    let limits = HttpLimits { max_connection_age_seconds: PEER_CONNECTION_SECONDS, ..HttpLimits::default() };
    let app = grpc_app(services, correlate(ground));
    address.measured(&ground.metrics).listen()?.serve(app, limits, Some(tls), &ground.tasks);
    Ok(())
}

fn correlate(ground: &Ground) -> impl Fn(&HeaderMap) -> CorrelationId + Clone + Send + Sync + 'static {
    let (clock, rng) = (ground.clock.clone(), ground.rng.clone());
    move |headers| CorrelationId::from_headers(headers, &*clock, &*rng)
}
