//! Sockets that are bound before anything is served.

use std::future::Future;
use std::io::ErrorKind;
use std::net::SocketAddr;

use axum::Router;
use portico_process::Tasks;
use portico_telemetry::Metrics;
use tokio::net::{TcpListener, TcpSocket};

use crate::server::{HttpLimits, Server, Tally};
use crate::tls::ServerTls;

const BACKLOG: u32 = 1024;

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else listens there.
    #[error("cannot listen on {0}: the port is in use; stop the program that uses it or choose another port")]
    AddressInUse(SocketAddr),
    /// The port is privileged.
    #[error(
        "cannot listen on {0}: permission denied; choose a port above 1023 or grant the program CAP_NET_BIND_SERVICE"
    )]
    PermissionDenied(SocketAddr),
    /// No interface of this machine has the address.
    #[error(
        "cannot listen on {0}: this machine has no such address; choose 127.0.0.1, 0.0.0.0 or one that it has"
    )]
    AddressNotAvailable(SocketAddr),
    /// Anything else.
    #[error("cannot listen on {address}")]
    Other {
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl BindError {
    fn new(address: SocketAddr, source: std::io::Error) -> Self {
        match source.kind() {
            ErrorKind::AddrInUse => Self::AddressInUse(address),
            ErrorKind::PermissionDenied => Self::PermissionDenied(address),
            ErrorKind::AddrNotAvailable => Self::AddressNotAvailable(address),
            _ => Self::Other { address, source },
        }
    }
}

/// An address that is taken, where nobody can connect yet. Of two programs that took it before either of them listened,
/// Linux lets the first one listen; the other is refused then.
#[derive(Debug)]
pub struct ReservedAddress {
    socket: TcpSocket,
    address: SocketAddr,
    name: &'static str,
    metrics: Option<Metrics>,
}

impl ReservedAddress {
    /// Takes a TCP address; port 0 lets the system choose one. Needs a tokio runtime.
    pub fn reserve(address: SocketAddr) -> Result<Self, BindError> {
        let open = || {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            // Without this a restart waits for the old connections to leave TIME_WAIT.
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            let address = socket.local_addr()?;
            Ok(Self { socket, address, name: "listener", metrics: None })
        };
        open().map_err(|source| BindError::new(address, source))
    }

    /// Names the listener in logs and in the list of tasks.
    #[must_use]
    pub fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// Shows how many connections the listener has, and how many it refused, under its name.
    #[must_use]
    pub fn measured(self, metrics: &Metrics) -> Self {
        Self { metrics: Some(metrics.clone()), ..self }
    }

    /// Returns the address, with the port that the system chose.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Lets connections in.
    pub fn listen(self) -> Result<BoundListener, BindError> {
        let Self { socket, address, name, metrics } = self;
        let listener = socket.listen(BACKLOG).map_err(|source| BindError::new(address, source))?;
        Ok(BoundListener { listener, address, name, metrics })
    }

    /// Serves from when `ready` completes until the tasks shut down, then drains; tells `listening` once it takes
    /// connections. Until then they are refused, so that a balancer goes elsewhere at once.
    pub fn serve_when(
        self,
        ready: impl Future<Output = ()> + Send + 'static,
        serving: Serving,
        listening: impl FnOnce() + Send + 'static,
        tasks: &Tasks,
    ) {
        let shutdown = tasks.shutdown_token();
        let tokens = tasks.clone();
        tasks.spawn(self.name, async move {
            if shutdown.run_until_cancelled(ready).await.is_some() {
                let listener = self.listen()?;
                listening();
                listener.into_server(serving, &tokens).await;
            }
            Ok::<(), BindError>(())
        });
    }
}

/// What a listener serves, and how.
#[derive(Debug, Clone)]
pub struct Serving {
    /// The routes.
    pub app: Router,
    /// What one client may take.
    pub limits: HttpLimits,
    /// TLS, if connections are not plain.
    pub tls: Option<ServerTls>,
}

/// A socket that is bound and listening, with nothing served yet.
#[derive(Debug)]
pub struct BoundListener {
    listener: TcpListener,
    address: SocketAddr,
    name: &'static str,
    metrics: Option<Metrics>,
}

impl BoundListener {
    /// Binds a TCP address; port 0 lets the system choose one. Needs a tokio runtime.
    pub fn bind(address: SocketAddr) -> Result<Self, BindError> {
        ReservedAddress::reserve(address)?.listen()
    }

    /// Names the listener in logs and in the list of tasks.
    #[must_use]
    pub fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// Shows how many connections the listener has, and how many it refused, under its name.
    #[must_use]
    pub fn measured(self, metrics: &Metrics) -> Self {
        Self { metrics: Some(metrics.clone()), ..self }
    }

    /// Returns the bound address, with the port that the system chose.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    #[cfg(test)]
    pub(crate) fn into_inner(self) -> TcpListener {
        self.listener
    }

    /// Serves `app` until the tasks shut down, then drains.
    pub fn serve(self, app: Router, limits: HttpLimits, tls: Option<ServerTls>, tasks: &Tasks) {
        let name = self.name;
        let server = self.into_server(Serving { app, limits, tls }, tasks);
        tasks.spawn(name, async move {
            server.await;
            Ok::<(), std::convert::Infallible>(())
        });
    }

    fn into_server(self, serving: Serving, tasks: &Tasks) -> impl Future<Output = ()> + Send + use<> {
        let Serving { app, limits, tls } = serving;
        let server = Server {
            name: self.name,
            app,
            limits,
            tls,
            tally: Tally::new(self.name, self.metrics.as_ref()),
            draining: tasks.drain_token(),
            shutdown: tasks.shutdown_token(),
            abort: tasks.abort_token(),
        };
        server.run(self.listener)
    }
}
