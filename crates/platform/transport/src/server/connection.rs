//! One connection, from its first byte to its last.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::future::RouteFuture;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, Version};
use hyper::body::{Body as _, Incoming};
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use super::body::TimedBody;
use super::executor::TrackedExecutor;
use super::forwarded::TrustedProxies;
use super::limits::HttpLimits;
use super::tally::{Refusal, Tally};
use super::unproven::Place;
use crate::assembly::is_grpc;
use crate::peer::{PeerAddr, PeerIdentity};
use crate::tls::{AcceptError, ServerTls};

/// How long requests may go on when their connection has reached its age: streams that never end are cut then.
const AGE_GRACE: Duration = Duration::from_secs(30);

/// What a connection is served with.
pub(super) struct Connection {
    pub(super) app: Router,
    pub(super) builder: Arc<auto::Builder<TrackedExecutor>>,
    pub(super) address: SocketAddr,
    pub(super) proxies: TrustedProxies,
    pub(super) place: Place,
    pub(super) tally: Tally,
    pub(super) times: Times,
    pub(super) draining: CancellationToken,
    pub(super) shutdown: CancellationToken,
}

/// How long each part of a connection may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    first_request: Duration,
    body: Duration,
    tls_handshake: Duration,
    age: Option<Duration>,
    linger: Duration,
}

impl Times {
    pub(super) fn new(limits: &HttpLimits) -> Self {
        Self {
            first_request: limits.header_read_timeout(),
            body: limits.body_read_timeout(),
            tls_handshake: limits.tls_handshake_timeout(),
            age: limits.max_connection_age(),
            linger: limits.drain_linger(),
        }
    }
}

/// What the connection's one alarm stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// The first request should have come.
    FirstRequest,
    /// The connection is old.
    Age,
    /// The requests that an old connection still had should have ended.
    Cut,
    /// Who kept the connection should have used it or seen that it is the last chance.
    Linger,
    Nothing,
}

impl Connection {
    /// Serves the connection to its end; after shutdown only the requests that are in flight. One that has sent no
    /// request yet may have to make room for another.
    pub(super) async fn serve(self, stream: TcpStream, tls: Option<ServerTls>) {
        // In a box of its own each, so that a plain connection has no room for what TLS needs.
        let Some(tls) = tls else { return Box::pin(self.serve_http(TokioIo::new(stream), None)).await };
        let cut = self.place.cut();
        let accepted = tokio::time::timeout(self.times.tls_handshake, Box::pin(tls.accept(stream)));
        match cut.run_until_cancelled(accepted).await {
            Some(Ok(Ok((stream, identity)))) => {
                Box::pin(self.serve_http(TokioIo::new(stream), identity)).await;
            }
            Some(Ok(Err(error))) => {
                self.refused(Refusal::TlsHandshake, "TLS handshakes failed", Some(&error));
                tls.report(&error, self.address);
            }
            Some(Err(_)) => self.refused(Refusal::TlsTimeout, "TLS handshakes took too long", None),
            None => made_room(&self.tally, self.address),
        }
    }

    /// Counts a refusal that anybody can cause as often as it likes. The log tells of the newest one now and then.
    fn refused(&self, refusal: Refusal, what: &'static str, error: Option<&AcceptError>) {
        let error = error.map(tracing::field::display);
        if let Some(refused) = self.tally.refuse(refusal) {
            tracing::info!(
                peer.address = %self.address,
                error,
                connections.refused = refused,
                "{what}; this is the newest one since the last line of this kind, at most one a minute"
            );
        } else {
            tracing::debug!(peer.address = %self.address, error, "{what}");
        }
    }

    async fn serve_http<I>(self, io: I, identity: Option<PeerIdentity>)
    where
        I: Read + Write + Unpin + Send + 'static,
    {
        let (times, began) = (self.times, Instant::now());
        let cut = self.place.cut();
        let seen = Arc::new(Seen::new(self.place));
        let service = Requests {
            app: self.app,
            address: self.address,
            proxies: self.proxies,
            identity,
            body: times.body,
            seen: Arc::clone(&seen),
        };
        let mut connection = pin!(self.builder.serve_connection(io, service));
        // hyper's own header timeout starts only once it knows the HTTP version, and HTTP/2 has none: a client
        // that connects and stays silent is cut here.
        let mut alarm = pin!(tokio::time::sleep_until(began + times.first_request));
        let mut due = Due::FirstRequest;
        let mut stop = pin!(async {
            self.draining.cancelled().await;
            seen.draining.store(true, Ordering::Relaxed);
            self.shutdown.cancelled().await;
        });
        let mut stopping = false;
        loop {
            tokio::select! {
                // First of all whether the end is near, so that no answer goes out without saying so.
                biased;
                () = stop.as_mut(), if !stopping => {
                    stopping = true;
                    if due == Due::Cut {
                        continue;
                    }
                    // HTTP/2 says GOAWAY and loses nothing. An HTTP/1 connection that is closed while its client
                    // writes loses a request: it answers one more, as the last one, or ends after a while.
                    if seen.http2.load(Ordering::Relaxed) || times.linger.is_zero() {
                        due = Due::Nothing;
                        connection.as_mut().graceful_shutdown();
                    } else {
                        due = Due::Linger;
                        alarm.as_mut().reset(Instant::now() + times.linger);
                    }
                }
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(peer.address = %self.address, %error, "a connection ended early");
                    }
                    return;
                }
                () = cut.cancelled() => {
                    made_room(&self.tally, self.address);
                    return;
                }
                () = alarm.as_mut(), if due != Due::Nothing => match due {
                    Due::FirstRequest if !seen.requested.load(Ordering::Relaxed) => {
                        self.tally.refuse(Refusal::NoRequest);
                        tracing::debug!(peer.address = %self.address, "a connection sent no request in time");
                        return;
                    }
                    Due::FirstRequest => match times.age {
                        Some(age) => {
                            due = Due::Age;
                            alarm.as_mut().reset(began + age);
                        }
                        None => due = Due::Nothing,
                    },
                    Due::Age => {
                        due = Due::Cut;
                        alarm.as_mut().reset(Instant::now() + AGE_GRACE);
                        connection.as_mut().graceful_shutdown();
                    }
                    Due::Linger => {
                        due = Due::Nothing;
                        connection.as_mut().graceful_shutdown();
                    }
                    Due::Cut => {
                        tracing::debug!(peer.address = %self.address, "a connection reached its age and was cut");
                        return;
                    }
                    Due::Nothing => {}
                },
            }
        }
    }
}

fn made_room(tally: &Tally, address: SocketAddr) {
    tally.refuse(Refusal::Silent);
    tracing::debug!(peer.address = %address, "a silent connection made room for another");
}

/// What a connection and its requests tell one another.
#[derive(Debug)]
struct Seen {
    place: Place,
    requested: AtomicBool,
    http2: AtomicBool,
    draining: AtomicBool,
}

impl Seen {
    const fn new(place: Place) -> Self {
        let (requested, http2, draining) =
            (AtomicBool::new(false), AtomicBool::new(false), AtomicBool::new(false));
        Self { place, requested, http2, draining }
    }
}

/// Hands the requests of one connection to the routes, with what the connection knows about its peer.
#[derive(Clone)]
struct Requests {
    app: Router,
    address: SocketAddr,
    proxies: TrustedProxies,
    identity: Option<PeerIdentity>,
    /// How long a whole request body may take.
    body: Duration,
    seen: Arc<Seen>,
}

impl hyper::service::Service<Request<Incoming>> for Requests {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let http2 = request.version() == Version::HTTP_2;
        if !self.seen.requested.swap(true, Ordering::Relaxed) {
            self.seen.place.prove();
        }
        if http2 {
            self.seen.http2.store(true, Ordering::Relaxed);
        }
        let client = PeerAddr(self.proxies.client(self.address, request.headers()));
        let extensions = request.extensions_mut();
        extensions.insert(client);
        match &self.identity {
            Some(identity) => drop(extensions.insert(identity.clone())),
            None => drop(extensions.remove::<PeerIdentity>()),
        }
        let seen = (!http2).then(|| Arc::clone(&self.seen));
        // There is nothing to wait for, or the call has a deadline.
        let is_bare = request.body().is_end_stream() || (http2 && is_grpc(request.headers()));
        let limit = self.body;
        let request = request
            .map(|body| if is_bare { Body::new(body) } else { Body::new(TimedBody::new(body, limit)) });
        Answer { inner: self.app.clone().call(request), seen }
    }
}

/// An answer that tells an HTTP/1 client when it is the last one of its connection (RFC 9112 §9.6).
struct Answer {
    inner: RouteFuture<Infallible>,
    seen: Option<Arc<Seen>>,
}

impl Future for Answer {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut answer = ready!(Pin::new(&mut self.inner).poll(context))?;
        if self.seen.as_ref().is_some_and(|seen| seen.draining.load(Ordering::Relaxed)) {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Poll::Ready(Ok(answer))
    }
}
