//! The in-process hub: services of one process call one another without a socket.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures_util::FutureExt;
use http::{Request, Response};
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::{ServiceExt, service_fn};

use super::{DEFAULT_DEADLINE, Link, requested_deadline};
use crate::assembly::deadline_exceeded;
use crate::error::grpc_error;
use crate::peer::PeerIdentity;

type Slot = Arc<OnceLock<Routes>>;

/// Where the services of one process find one another by name.
///
/// Links can be made before the service that they lead to is served, so the order of building does not matter.
#[derive(Debug, Clone, Default)]
pub struct Exchange {
    slots: Arc<Mutex<HashMap<String, Slot>>>,
}

impl Exchange {
    /// Makes an empty hub.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Serves a service under its name; from now on links to it work. The first one to serve a name keeps it.
    pub fn serve(&self, service: &str, routes: Routes) {
        if self.slot(service).set(routes.prepare()).is_err() {
            tracing::error!(service, "a service was served twice in one process: the second one is ignored");
        }
    }

    /// Makes a link to the service `to` that acts as `from`.
    ///
    /// A call before the service is served fails with UNAVAILABLE, as it would over the network.
    #[must_use]
    pub fn link(&self, to: &str, from: PeerIdentity) -> Link {
        let slot = self.slot(to);
        let to: Arc<str> = to.into();
        Link::new(service_fn(move |request| call(slot.clone(), to.clone(), from.clone(), request)))
    }

    fn slot(&self, service: &str) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.entry(service.to_owned()).or_default().clone()
    }
}

async fn call(
    slot: Slot,
    to: Arc<str>,
    from: PeerIdentity,
    mut request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let Some(routes) = slot.get() else {
        let message = format!("the service {to} is not serving yet: try again in a moment");
        return Ok(grpc_error(Code::Unavailable, "service_starting", message).into_http());
    };
    // Only what would cross a socket crosses this one: the caller's extensions stay behind.
    request.extensions_mut().clear();
    request.extensions_mut().insert(from);
    let deadline = requested_deadline(request.headers()).unwrap_or(DEFAULT_DEADLINE);
    // A panic stays on the callee's side, as it would over the network.
    let answer = AssertUnwindSafe(routes.clone().oneshot(request)).catch_unwind();
    match tokio::time::timeout(deadline, answer).await {
        Ok(Ok(answer)) => answer.map_err(|never| match never {}),
        Ok(Err(_)) => {
            tracing::error!(service = %to, "a call panicked");
            let message = "the service failed: the reason is in its log";
            Ok(grpc_error(Code::Internal, "internal", message).into_http())
        }
        Err(_) => Ok(deadline_exceeded().into_http()),
    }
}

#[cfg(test)]
mod tests;
