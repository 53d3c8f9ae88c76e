//! The one client type between services: remote over mutual TLS, or in the same process without a socket.

mod deadline;
mod exchange;
mod remote;

pub(crate) use deadline::{DEFAULT_DEADLINE, requested_deadline};
pub use deadline::{with_deadline, within};
pub use exchange::Exchange;
#[cfg(test)]
pub(crate) use remote::remote_link;
pub use remote::{LinkError, ServiceAddress, dial_mutual};

/// What every generated client is generic over, in every deployment.
///
/// A call whose answer does not start in time fails with `DEADLINE_EXCEEDED`: the caller's `grpc-timeout` if it set
/// one ([`with_deadline`]), else ten seconds. The error is one type for every lifetime, so that the compiler sees
/// that a future over a link may move between threads; with a boxed error it does not.
pub type Link = tower::util::BoxCloneSyncService<
    http::Request<tonic::body::Body>,
    http::Response<tonic::body::Body>,
    tonic::Status,
>;
