//! Links to services in other processes.

use std::time::Duration;

use http::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tower::{ServiceExt, service_fn};

use super::{DEFAULT_DEADLINE, Link, requested_deadline};
use crate::assembly::deadline_exceeded;
use crate::error::grpc_error;
use crate::tls::ClientTls;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Why a link cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The address is not `host:port`.
    #[error("{address:?} is not the address of a service: write host:port")]
    Address {
        /// What was given.
        address: String,
    },
}

/// Makes a link over a channel that somebody else connected.
#[must_use]
pub fn remote_link(endpoint: Channel) -> Link {
    Link::new(service_fn(move |request| call(endpoint.clone(), request)))
}

async fn call(channel: Channel, request: Request<Body>) -> Result<Response<Body>, Status> {
    let deadline = requested_deadline(request.headers()).unwrap_or(DEFAULT_DEADLINE);
    match tokio::time::timeout(deadline, channel.oneshot(request)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "a service cannot be reached");
            let message = "the service cannot be reached: it may be restarting, try again in a moment";
            Ok(grpc_error(Code::Unavailable, "service_unreachable", message).into_http())
        }
        Err(_) => Ok(deadline_exceeded().into_http()),
    }
}

/// Makes a link over mutual TLS to a service at `host:port`, connected at the first call.
///
/// The other end must prove the identity for which `tls` was made ([`ClientTls`]); its DNS name proves nothing.
/// A connection that is made after the certificates were renewed uses the new ones.
pub fn dial_mutual(address: &str, tls: ClientTls) -> Result<Link, LinkError> {
    let invalid = || LinkError::Address { address: address.to_owned() };
    let uri: Uri = format!("http://{address}").parse().map_err(|_| invalid())?;
    if uri.port_u16().is_none() || uri.path() != "/" || uri.query().is_some() || address.contains('@') {
        return Err(invalid());
    }
    let host = uri.host().ok_or_else(invalid)?.trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(host).map_err(|_| invalid())?;
    let endpoint = Endpoint::from(uri)
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    let target = address.to_owned();
    let connector = service_fn(move |_: Uri| {
        let (target, name, tls) = (target.clone(), name.clone(), tls.clone());
        async move { connect(&target, name, &tls).await.map(TokioIo::new) }
    });
    Ok(remote_link(endpoint.connect_with_connector_lazy(connector)))
}

async fn connect(
    target: &str,
    name: ServerName<'static>,
    tls: &ClientTls,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    TlsConnector::from(tls.current()).connect(name, stream).await
}
