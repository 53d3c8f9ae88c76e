//! The pooled client.

use std::error::Error;
use std::fmt;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::body::Body;
use crate::connect::{Connector, VettedTcp};
use crate::policy::{OutboundPolicy, check_scheme, userinfo};
use crate::refused::AddressRefused;
use crate::resolve::{Resolve, SystemResolver};

/// How often a server is asked over HTTP/2 whether it is still there, while it owes an answer.
const PING_EVERY: Duration = Duration::from_secs(20);
/// How long it may take to say so.
const PING_DEADLINE: Duration = Duration::from_secs(10);

/// Limits of the connections that a client keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OutboundLimits {
    /// Milliseconds for name resolution, TCP and TLS together.
    #[schemars(range(min = 1))]
    pub connect_timeout_ms: u64,
    /// Idle connections that are kept per host.
    pub max_idle_per_host: usize,
    /// Seconds that an idle connection is kept.
    pub idle_timeout_seconds: u64,
    /// Bytes of a response head; at least 8192.
    #[schemars(range(min = 8192))]
    pub max_header_bytes: u32,
}

impl Default for OutboundLimits {
    fn default() -> Self {
        Self {
            connect_timeout_ms: 5_000,
            max_idle_per_host: 256,
            // Below what common servers keep, so that a request seldom meets a connection that is just closing.
            idle_timeout_seconds: 50,
            max_header_bytes: 256 * 1024,
        }
    }
}

/// What a client is made with beside its policy.
#[derive(Debug)]
pub struct OutboundParts {
    /// Who resolves names.
    pub resolver: Arc<dyn Resolve>,
    /// Certification authorities beside the system's.
    pub extra_roots: Vec<CertificateDer<'static>>,
}

impl Default for OutboundParts {
    fn default() -> Self {
        Self { resolver: Arc::new(SystemResolver), extra_roots: Vec::new() }
    }
}

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// TLS cannot be set up.
    #[error("TLS cannot be set up for outbound requests")]
    Tls(#[from] rustls::Error),
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// The policy refuses the address.
    #[error(transparent)]
    Refused(#[from] AddressRefused),
    /// No connection within the connect deadline; nothing was sent.
    #[error("the server took too long to accept a connection")]
    ConnectTimeout,
    /// No connection: refused, unreachable, or its certificate is not trusted; nothing was sent.
    #[error("no connection to the server")]
    Connect(#[source] hyper_util::client::legacy::Error),
    /// The answer did not start within the caller's deadline.
    #[error("the server took too long to answer")]
    FirstByteTimeout,
    /// The connection broke between the request and the head of the answer.
    #[error("the connection to the server broke")]
    Exchange(#[source] hyper_util::client::legacy::Error),
    /// The body did not end within the caller's deadline.
    #[error("the server took too long to send its answer")]
    BodyTimeout,
    /// The body broke off.
    #[error("the server's answer broke off")]
    Body(#[source] hyper::Error),
    /// The body is larger than the caller takes.
    #[error("the server's answer is larger than {limit} bytes")]
    TooLarge {
        /// What the caller takes.
        limit: usize,
    },
}

impl OutboundError {
    /// Whether the server has seen nothing of the request, so that it can be sent elsewhere.
    #[must_use]
    pub fn is_before_send(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::ConnectTimeout | Self::Connect(_))
    }

    fn new(error: hyper_util::client::legacy::Error) -> Self {
        if !error.is_connect() {
            return Self::Exchange(error);
        }
        let mut cause: Option<&(dyn Error + 'static)> = error.source();
        while let Some(error) = cause {
            if let Some(refused) = error.downcast_ref::<AddressRefused>() {
                return Self::Refused(refused.clone());
            }
            if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
            {
                return Self::ConnectTimeout;
            }
            cause = error.source();
        }
        Self::Connect(error)
    }
}

/// Calls addresses that a user can influence, within the policy. Clones share the connections.
#[derive(Clone)]
pub struct OutboundClient {
    client: Client<Connector, Body>,
    policy: Arc<OutboundPolicy>,
    resolver: Arc<dyn Resolve>,
}

impl fmt::Debug for OutboundClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboundClient").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl OutboundClient {
    /// Makes a client with the system's resolver and certification authorities.
    pub fn new(policy: OutboundPolicy, limits: &OutboundLimits) -> Result<Self, BuildError> {
        Self::with_parts(policy, limits, OutboundParts::default())
    }

    /// Makes a client with a resolver or certification authorities of one's own.
    pub fn with_parts(
        policy: OutboundPolicy,
        limits: &OutboundLimits,
        parts: OutboundParts,
    ) -> Result<Self, BuildError> {
        let (policy, resolver) = (Arc::new(policy), parts.resolver);
        let timeout = Duration::from_millis(limits.connect_timeout_ms.max(1));
        let tcp = VettedTcp { policy: policy.clone(), resolver: resolver.clone(), timeout };
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls(parts.extra_roots)?)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(limits.idle_timeout_seconds))
            .pool_max_idle_per_host(limits.max_idle_per_host)
            .http1_max_buf_size((limits.max_header_bytes as usize).max(8192))
            .http2_max_header_list_size(limits.max_header_bytes)
            .http2_adaptive_window(true)
            // All calls to a server share one connection: one that leads nowhere any more must not cost each its deadline.
            .http2_keep_alive_interval(PING_EVERY)
            .http2_keep_alive_timeout(PING_DEADLINE)
            .build(Connector { https, timeout });
        Ok(Self { client, policy, resolver })
    }

    /// Returns the policy, for checks at registration.
    #[must_use]
    pub fn policy(&self) -> &OutboundPolicy {
        &self.policy
    }

    /// Checks a URL and every address that its host has now, with the client's own resolver.
    pub async fn check_url(&self, url: &url::Url) -> Result<(), AddressRefused> {
        self.policy.check_url_resolved(url, &*self.resolver).await
    }

    /// Sends a request and waits at most `first_byte` for the head of the answer, connecting included.
    ///
    /// The body of the answer streams; its deadline is the caller's ([`collect`] has one).
    pub async fn request(
        &self,
        mut request: Request<Body>,
        first_byte: Duration,
    ) -> Result<Response<Incoming>, OutboundError> {
        // The URL alone says which host is meant and the connection which version is spoken.
        request.headers_mut().remove(HOST);
        *request.version_mut() = Version::HTTP_11;
        let uri = request.uri();
        check_scheme(uri.scheme_str().unwrap_or("(none)"))?;
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(userinfo().into());
        }
        match tokio::time::timeout(first_byte, self.client.request(request)).await {
            Ok(answer) => answer.map_err(OutboundError::new),
            Err(_) => Err(OutboundError::FirstByteTimeout),
        }
    }

    /// Sends a request that could go elsewhere as well: without a connection within `connection` it is given up unsent.
    ///
    /// With one it has until `first_byte`, as in [`request`](Self::request).
    pub async fn request_if_connected(
        &self,
        mut request: Request<Body>,
        connection: Duration,
        first_byte: Duration,
    ) -> Result<Response<Incoming>, OutboundError> {
        // Known from the moment at which the request is put on a connection, and not before.
        let connected = capture_connection(&mut request);
        let is_unsent = || connected.connection_metadata().is_none();
        let mut answer = pin!(self.request(request, first_byte));
        let answered = match tokio::time::timeout(connection, &mut answer).await {
            Ok(answered) => answered,
            Err(_) if is_unsent() => return Err(OutboundError::ConnectTimeout),
            Err(_) => answer.await,
        };
        match answered {
            Err(OutboundError::FirstByteTimeout) if is_unsent() => Err(OutboundError::ConnectTimeout),
            answered => answered,
        }
    }
}

/// Reads a whole body of at most `limit` bytes within `deadline`.
pub async fn collect(body: Incoming, limit: usize, deadline: Duration) -> Result<Bytes, OutboundError> {
    let reading = Limited::new(body, limit).collect();
    let read = tokio::time::timeout(deadline, reading).await.map_err(|_| OutboundError::BodyTimeout)?;
    match read {
        Ok(body) => Ok(body.to_bytes()),
        // A limited body fails with its own body's error or because of the limit.
        Err(error) => Err(match error.downcast::<hyper::Error>() {
            Ok(error) => OutboundError::Body(*error),
            Err(_) => OutboundError::TooLarge { limit },
        }),
    }
}

fn tls(extra_roots: Vec<CertificateDer<'static>>) -> Result<ClientConfig, BuildError> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::warn!(%error, "some of the system's certification authorities cannot be read");
    }
    roots.add_parsable_certificates(native.certs);
    for root in extra_roots {
        roots.add(root)?;
    }
    if roots.is_empty() {
        tracing::warn!("the system has no certification authorities: no https server can be called");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

#[cfg(test)]
mod tests;
