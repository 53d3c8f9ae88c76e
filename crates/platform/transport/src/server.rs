//! Accepting connections and serving them within limits.

mod body;
mod connection;
mod crowd;
mod executor;
mod forwarded;
mod limits;
mod tally;
mod unproven;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::connection::{Connection, Times};
pub use self::crowd::client_network;
use self::crowd::{Crowd, Member};
use self::executor::TrackedExecutor;
use self::forwarded::TrustedProxies;
pub use self::limits::HttpLimits;
use self::tally::Refusal;
pub(crate) use self::tally::Tally;
use self::unproven::Unproven;
use crate::tls::ServerTls;

/// How long accepting pauses when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// hyper's default, which it keeps on the stack; any other number costs an allocation for each request.
const HYPER_MAX_HEADERS: usize = 100;

/// Everything that one listener serves with.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) app: Router,
    pub(crate) limits: HttpLimits,
    pub(crate) tls: Option<ServerTls>,
    pub(crate) tally: Tally,
    /// Connections are not kept any longer, but new ones are still taken.
    pub(crate) draining: CancellationToken,
    pub(crate) shutdown: CancellationToken,
    pub(crate) abort: CancellationToken,
}

impl Server {
    /// Accepts until shutdown, then waits for the open connections until they end or abort is called.
    pub(crate) async fn run(self, listener: TcpListener) {
        let tracker = TaskTracker::new();
        let executor = TrackedExecutor::new(tracker.clone(), self.abort.clone());
        let builder = |of_a_proxy| {
            let keep_alive = self.limits.keep_alive(of_a_proxy);
            Arc::new(http_builder(&self.limits, keep_alive, executor.clone(), self.tls.as_ref()))
        };
        let (for_clients, for_proxies) = (builder(false), builder(true));
        let most = self.max_connections();
        let permits = Arc::new(Semaphore::new(most));
        let unproven = Unproven::new(most);
        let proxies = TrustedProxies::new(&self.limits.trusted_proxies);
        let crowd = Crowd::new(self.limits.max_connections_per_address(), proxies.clone());
        // Routes are shared between connections once they have their state.
        let app: Router = self.app.clone().with_state(());
        while let Some(newcomer) = self.accept(&listener, &permits, &crowd).await {
            let Newcomer { stream, address, permit, member } = newcomer;
            let open = self.tally.open();
            let connection = Connection {
                app: app.clone(),
                builder: Arc::clone(if proxies.has(address.ip()) { &for_proxies } else { &for_clients }),
                address,
                proxies: proxies.clone(),
                place: unproven.enter(),
                tally: self.tally.clone(),
                times: Times::new(&self.limits),
                draining: self.draining.clone(),
                shutdown: self.shutdown.clone(),
            };
            let (tls, abort) = (self.tls.clone(), self.abort.clone());
            tracker.spawn(async move {
                // A second stage of shutdown drops the connection where it stands.
                abort.run_until_cancelled(connection.serve(stream, tls)).await;
                drop((permit, member, open));
            });
        }
        drop(listener);
        tracker.close();
        tracing::debug!(listener.name = self.name, connections = tracker.len(), "draining connections");
        tracker.wait().await;
    }

    fn max_connections(&self) -> usize {
        let files = portico_process::open_files();
        let most = self.limits.max_connections(files);
        if most < self.limits.max_connections {
            tracing::warn!(
                listener.name = self.name,
                files.limit = files,
                connections.limit = most,
                "the process may have too few files open for http.max_connections: raise its limit (ulimit -n, \
                 LimitNOFILE of systemd) to more than twice as many, or lower the setting"
            );
        }
        most
    }

    /// Takes the next connection; `None` at shutdown. A full server leaves newcomers in the kernel's backlog; those of
    /// an address that has as many as it may are closed.
    async fn accept(
        &self,
        listener: &TcpListener,
        permits: &Arc<Semaphore>,
        crowd: &Crowd,
    ) -> Option<Newcomer> {
        let permit = self.shutdown.run_until_cancelled(permits.clone().acquire_owned()).await?.ok()?;
        loop {
            match self.shutdown.run_until_cancelled(listener.accept()).await? {
                Ok((stream, address)) => {
                    let Some(member) = crowd.enter(address.ip()) else {
                        self.too_many_of(address);
                        continue;
                    };
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "a connection was closed before it was served");
                        continue;
                    }
                    return Some(Newcomer { stream, address, permit, member });
                }
                // The client gave up between SYN and accept: not our failure.
                Err(error)
                    if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => {}
                Err(error) => {
                    tracing::warn!(listener.name = self.name, %error, "cannot accept a connection: trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn too_many_of(&self, address: SocketAddr) {
        if let Some(refused) = self.tally.refuse(Refusal::AddressLimit) {
            tracing::warn!(
                listener.name = self.name,
                peer.address = %address,
                connections.refused = refused,
                limit = self.limits.max_connections_per_address,
                "an address has as many connections as it may, further ones are closed: if it is a proxy of yours, \
                 name it in http.trusted_proxies; if many clients share it, raise http.max_connections_per_address"
            );
        }
    }
}

/// A connection that may be served.
struct Newcomer {
    stream: TcpStream,
    address: SocketAddr,
    permit: OwnedSemaphorePermit,
    member: Member,
}

fn http_builder(
    limits: &HttpLimits,
    keep_alive: Duration,
    executor: TrackedExecutor,
    tls: Option<&ServerTls>,
) -> auto::Builder<TrackedExecutor> {
    let mut builder = auto::Builder::new(executor);
    builder
        .http1()
        .timer(TokioTimer::new())
        // It runs between two requests, too. A connection has a timer of its own for the first one, and afterwards a
        // slow head costs no more than none at all.
        .header_read_timeout(keep_alive)
        .max_buf_size(limits.max_header_bytes() as usize);
    if limits.max_headers != HYPER_MAX_HEADERS {
        builder.http1().max_headers(limits.max_headers);
    }
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(limits.max_header_bytes())
        .max_concurrent_streams(limits.h2_max_concurrent_streams.max(1))
        // Rapid reset (CVE-2023-44487). Resets that a client provokes (CVE-2025-8671) end at hyper's own limit.
        .max_pending_accept_reset_streams(limits.h2_max_reset_streams)
        .keep_alive_interval(limits.h2_keep_alive())
        .keep_alive_timeout(limits.h2_keep_alive());
    if tls.is_some_and(ServerTls::is_mutual) { builder.http2_only() } else { builder }
}

#[cfg(test)]
mod tests;
