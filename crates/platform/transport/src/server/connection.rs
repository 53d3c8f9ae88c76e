//! One connection, from its first byte to its last.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::future::RouteFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use super::executor::TrackedExecutor;
use crate::peer::{PeerAddr, PeerIdentity};
use crate::tls::ServerTls;

/// What a connection is served with.
pub(super) struct Connection {
    pub(super) app: Router,
    pub(super) builder: Arc<auto::Builder<TrackedExecutor>>,
    pub(super) address: SocketAddr,
    pub(super) first_request: Duration,
    pub(super) tls_handshake: Duration,
    pub(super) shutdown: CancellationToken,
}

impl Connection {
    /// Serves the connection to its end; after shutdown only the requests that are in flight.
    pub(super) async fn serve(self, stream: TcpStream, tls: Option<ServerTls>) {
        let Some(tls) = tls else { return self.serve_http(TokioIo::new(stream), None).await };
        match tokio::time::timeout(self.tls_handshake, tls.accept(stream)).await {
            Ok(Ok((stream, identity))) => self.serve_http(TokioIo::new(stream), identity).await,
            Ok(Err(error)) => {
                tracing::info!(peer.address = %self.address, %error, "a TLS connection was refused");
            }
            Err(_) => tracing::info!(peer.address = %self.address, "a TLS handshake took too long"),
        }
    }

    async fn serve_http<I>(self, io: I, identity: Option<PeerIdentity>)
    where
        I: Read + Write + Unpin + Send + 'static,
    {
        let requested = Arc::new(AtomicBool::new(false));
        let service = Requests {
            app: self.app,
            address: PeerAddr(self.address),
            identity,
            requested: requested.clone(),
        };
        let mut connection = pin!(self.builder.serve_connection(io, service));
        // hyper's own header timeout starts only once it knows the HTTP version, and HTTP/2 has none: a client
        // that connects and stays silent is cut here.
        let mut silence = pin!(tokio::time::sleep(self.first_request));
        let mut watching = true;
        let mut draining = false;
        loop {
            tokio::select! {
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(peer.address = %self.address, %error, "a connection ended early");
                    }
                    return;
                }
                () = self.shutdown.cancelled(), if !draining => {
                    draining = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = silence.as_mut(), if watching => {
                    watching = false;
                    if !requested.load(Ordering::Relaxed) {
                        tracing::debug!(peer.address = %self.address, "a connection sent no request in time");
                        return;
                    }
                }
            }
        }
    }
}

/// Hands the requests of one connection to the routes, with what the connection knows about its peer.
#[derive(Clone)]
struct Requests {
    app: Router,
    address: PeerAddr,
    identity: Option<PeerIdentity>,
    requested: Arc<AtomicBool>,
}

impl hyper::service::Service<Request<Incoming>> for Requests {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = RouteFuture<Infallible>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        self.requested.store(true, Ordering::Relaxed);
        let extensions = request.extensions_mut();
        extensions.insert(self.address);
        match &self.identity {
            Some(identity) => drop(extensions.insert(identity.clone())),
            None => drop(extensions.remove::<PeerIdentity>()),
        }
        self.app.clone().call(request)
    }
}
