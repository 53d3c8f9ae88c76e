//! Links to services in other processes.

use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tower::{ServiceExt, service_fn};

use super::{DEFAULT_DEADLINE, Link, requested_deadline};
use crate::assembly::deadline_exceeded;
use crate::error::grpc_error;
use crate::tls::ClientTls;

/// How long one replica may take until it has proven who it is; a stopped one accepts and says nothing.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A replica that does not answer pings for this long twice is given up, and another one dialled.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Why a link cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The address is not `host:port`.
    #[error("{address:?} is not the address of a service: write host:port, or several with commas between")]
    Address {
        /// What was given.
        address: String,
    },
}

/// Makes a link over a channel.
pub(crate) fn remote_link(channel: Channel) -> Link {
    Link::new(service_fn(move |request| call(channel.clone(), request)))
}

async fn call(channel: Channel, request: Request<Body>) -> Result<Response<Body>, Status> {
    let deadline = requested_deadline(request.headers()).unwrap_or(DEFAULT_DEADLINE);
    match timeout(deadline, channel.oneshot(request)).await {
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
/// See [`ServiceAddress`]; the other end must prove the identity for which `tls` was made ([`ClientTls`]).
pub fn dial_mutual(address: &str, tls: ClientTls) -> Result<Link, LinkError> {
    Ok(ServiceAddress::parse(address)?.dial(tls))
}

/// Where a service is: `host:port`, or several with commas between.
///
/// Several addresses, and several that one name resolves to, are replicas: any of them will do, and after a broken
/// connection the next one is tried. A DNS name proves nothing; the certificate does.
#[derive(Debug, Clone)]
pub struct ServiceAddress {
    targets: Vec<Target>,
}

/// One address that was given.
#[derive(Debug, Clone)]
struct Target {
    uri: Uri,
    host: String,
    port: u16,
    name: ServerName<'static>,
}

impl ServiceAddress {
    /// Reads an address; nothing is resolved.
    pub fn parse(text: &str) -> Result<Self, LinkError> {
        let targets = text.split(',').map(str::trim).map(Target::parse).collect::<Result<_, _>>()?;
        Ok(Self { targets })
    }

    /// Returns the hosts and ports as they were given.
    pub fn hosts(&self) -> impl Iterator<Item = (&str, u16)> {
        self.targets.iter().map(|target| (target.host.as_str(), target.port))
    }

    /// Makes a link, connected at the first call. A connection that is made after the certificates were renewed uses the
    /// new ones. Needs a tokio runtime.
    #[must_use]
    pub fn dial(&self, tls: ClientTls) -> Link {
        // Only names the authority of requests; where they go is the connector's business.
        let uri = self.targets.first().map(|target| target.uri.clone()).unwrap_or_default();
        let replicas =
            Arc::new(Replicas { next: AtomicUsize::new(anywhere()), targets: self.targets.clone(), tls });
        let endpoint = Endpoint::from(uri)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true);
        let connector = service_fn(move |_: Uri| {
            let replicas = Arc::clone(&replicas);
            async move { replicas.connect().await.map(TokioIo::new) }
        });
        remote_link(endpoint.connect_with_connector_lazy(connector))
    }
}

/// Where a link begins among its replicas: elsewhere in every process, so that the replicas share the load.
fn anywhere() -> usize {
    usize::try_from(RandomState::new().hash_one(()) >> 32).unwrap_or_default()
}

impl Target {
    fn parse(address: &str) -> Result<Self, LinkError> {
        let invalid = || LinkError::Address { address: address.to_owned() };
        let uri: Uri = format!("http://{address}").parse().map_err(|_| invalid())?;
        let port = uri.port_u16().ok_or_else(invalid)?;
        if uri.path() != "/" || uri.query().is_some() || address.contains('@') {
            return Err(invalid());
        }
        let host = uri.host().ok_or_else(invalid)?.trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host.clone()).map_err(|_| invalid())?;
        Ok(Self { uri, host, port, name })
    }
}

/// The places where one service may be.
#[derive(Debug)]
struct Replicas {
    next: AtomicUsize,
    targets: Vec<Target>,
    tls: ClientTls,
}

type Connected = tokio_rustls::client::TlsStream<TcpStream>;

impl Replicas {
    /// Connects to the first replica that proves who it is, beginning after the last one.
    async fn connect(&self) -> std::io::Result<Connected> {
        let (count, begin) = (self.targets.len(), self.next.fetch_add(1, Ordering::Relaxed));
        let mut last = std::io::Error::from(std::io::ErrorKind::NotFound);
        for target in self.targets.iter().cycle().skip(begin % count.max(1)).take(count) {
            match self.connect_to(target).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn connect_to(&self, target: &Target) -> std::io::Result<Connected> {
        let addresses = lookup_host((target.host.as_str(), target.port));
        let addresses = timeout(CONNECT_TIMEOUT, addresses).await.map_err(|_| timed_out())??;
        let mut last = std::io::Error::from(std::io::ErrorKind::NotFound);
        for address in addresses {
            last = match timeout(CONNECT_TIMEOUT, self.prove(address, target)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => error,
                Err(_) => timed_out(),
            };
            tracing::debug!(peer.address = %address, error = %last, "a replica cannot be reached");
        }
        Err(last)
    }

    async fn prove(&self, address: SocketAddr, target: &Target) -> std::io::Result<Connected> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        TlsConnector::from(self.tls.current()).connect(target.name.clone(), stream).await
    }
}

fn timed_out() -> std::io::Error {
    std::io::ErrorKind::TimedOut.into()
}
