//! Listeners, TLS, peer identity, links between services, server assembly.

mod assembly;
mod error;
#[cfg(any(test, feature = "testing"))]
mod graph;
mod link;
mod listener;
mod peer;
mod peer_guard;
mod refused_peers;
mod server;
#[cfg(any(test, feature = "testing"))]
mod test_ca;
#[cfg(test)]
mod testing;
mod tls;

pub use assembly::{AssemblyError, grpc_app, grpc_routes, merge_routes, one_port};
pub use error::{ERROR_DOMAIN, grpc_error, grpc_retry_later, problem, reason_of, retry_after_of};
#[cfg(any(test, feature = "testing"))]
pub use graph::callers;
pub use link::{Exchange, Link, LinkError, ServiceAddress, dial_mutual, with_deadline, within};
pub use listener::{BindError, BoundListener, ReservedAddress, Serving};
pub use peer::{InvalidPeerIdentity, PeerAddr, PeerIdentity};
pub use peer_guard::{PeerGuard, PeerRule, method_paths};
pub use refused_peers::{PeerRefusals, RefusedPeer, RefusedPeers};
pub use server::{HttpLimits, client_network};
#[cfg(any(test, feature = "testing"))]
pub use test_ca::TestCa;
pub use tls::{Certificate, ClientTls, ServerTls, TlsError, TlsFiles};
