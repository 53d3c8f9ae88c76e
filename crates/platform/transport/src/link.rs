//! The one client type between services: remote over mutual TLS, or in the same process without a socket.

mod deadline;
mod exchange;
mod remote;

pub(crate) use deadline::requested_deadline;
pub use deadline::{DEFAULT_DEADLINE, with_deadline, within};
pub use exchange::Exchange;
pub use remote::{LinkError, ServiceAddress, dial_mutual, remote_link};

/// What every generated client is generic over, in every deployment.
///
/// A call whose answer does not start in time fails with `DEADLINE_EXCEEDED`: the caller's `grpc-timeout` if it set
/// one ([`with_deadline`]), else [`DEFAULT_DEADLINE`]. The error is one type for every lifetime, so that the compiler sees
/// that a future over a link may move between threads; with a boxed error it does not.
pub type Link = tower::util::BoxCloneSyncService<
    http::Request<tonic::body::Body>,
    http::Response<tonic::body::Body>,
    tonic::Status,
>;
