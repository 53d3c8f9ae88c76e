//! What this crate's tests share: a gRPC service that tells who called it, certificates, a running server.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use axum::Router;
use portico_clock::SystemClock;
use portico_ids::SeededRng;
use portico_telemetry::{CorrelationId, Metrics};
use tokio::task::JoinHandle;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::listener::BoundListener;
use crate::server::{HttpLimits, Server, Tally};
use crate::tls::ServerTls;
use crate::{Link, PeerAddr, PeerIdentity};

/// Gives requests their correlation id.
pub(crate) fn correlate(headers: &http::HeaderMap) -> CorrelationId {
    CorrelationId::from_headers(headers, &SystemClock, &SeededRng::new(1))
}

/// Answers SERVING to the service that it is asked about, `NOT_SERVING` to anybody else.
struct WhoCalls;

/// An extension of the caller that must not cross a link.
#[derive(Clone)]
pub(crate) struct CallersOwn;

#[tonic::async_trait]
impl Health for WhoCalls {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match request.get_ref().service.as_str() {
            "slow" => return std::future::pending().await,
            "panic" => panic!("asked for"),
            _ => {}
        }
        if request.extensions().get::<CallersOwn>().is_some() {
            return Err(Status::internal("an extension of the caller arrived"));
        }
        let caller = request.extensions().get::<PeerIdentity>();
        let same = caller.is_some_and(|caller| caller.service == request.get_ref().service);
        let status = if same { ServingStatus::Serving } else { ServingStatus::NotServing };
        Ok(Response::new(HealthCheckResponse { status: status.into() }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(Box::pin(futures_util::stream::pending())))
    }
}

pub(crate) fn who_calls() -> Routes {
    Routes::new(HealthServer::new(WhoCalls))
}

pub(crate) fn ask(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

/// Whether the service at the other end of `link` takes the caller for `service`.
pub(crate) async fn called_as(link: Link, service: &str) -> Result<bool, Status> {
    let mut client = tonic_health::pb::health_client::HealthClient::new(link);
    let answer = client.check(ask(service)).await?.into_inner();
    Ok(answer.status() == ServingStatus::Serving)
}

/// A server on a port of its own that stops when it is dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) metrics: Metrics,
    pub(crate) draining: CancellationToken,
    pub(crate) shutdown: CancellationToken,
    pub(crate) abort: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.abort.cancel();
        self.shutdown.cancel();
    }
}

#[expect(clippy::disallowed_methods, reason = "the test owns this task and its end")]
pub(crate) fn start(app: Router, limits: HttpLimits, tls: Option<ServerTls>) -> Running {
    let metrics = Metrics::new();
    let listener = BoundListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr();
    let (shutdown, abort) = (CancellationToken::new(), CancellationToken::new());
    let draining = shutdown.child_token();
    let server = Server {
        name: "test",
        app,
        limits,
        tls,
        tally: Tally::new("test", Some(&metrics)),
        draining: draining.clone(),
        shutdown: shutdown.clone(),
        abort: abort.clone(),
    };
    let task = tokio::spawn(server.run(listener.into_inner()));
    Running { address, metrics, draining, shutdown, abort, task }
}

/// Routes that tell a request's peer address and identity.
pub(crate) fn echo_peer() -> Router {
    let handler = |request: axum::extract::Request| async move {
        let address = request.extensions().get::<PeerAddr>().map(|peer| peer.0.ip().to_string());
        let identity = request.extensions().get::<PeerIdentity>().map(|peer| peer.service.clone());
        format!("{address:?} {identity:?}")
    };
    Router::new().route("/", axum::routing::get(handler).post(handler)).route(
        "/slow",
        axum::routing::get(|| async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            "slow"
        }),
    )
}
