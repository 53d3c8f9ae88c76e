//! Listeners, TLS, peer identity, links between services, server assembly.

mod assembly;
mod error;
mod link;
mod listener;
mod peer;
mod server;
#[cfg(test)]
mod testing;
mod tls;

pub use assembly::{AssemblyError, grpc_app, grpc_routes, merge_routes, one_port};
pub use error::{ERROR_DOMAIN, grpc_error, problem, reason_of};
pub use link::{
    DEFAULT_DEADLINE, Exchange, Link, LinkError, dial_mutual, remote_link, with_deadline, within,
};
pub use listener::{BindError, BoundListener};
pub use peer::{InvalidPeerIdentity, PeerAddr, PeerIdentity};
pub use server::HttpLimits;
pub use tls::{ClientTls, ServerTls, TlsError, TlsFiles};
