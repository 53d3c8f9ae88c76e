//! A tower layer that refuses a principal that calls too often.

use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use futures_util::future::{Either, Ready, ready};
use http::Request;
use portico_authn::{Caller, Principal};
use portico_clock::SharedClock;
use portico_coordination::{Limit, LimitKey, RateLimiter};
use portico_telemetry::Metrics;
use portico_transport::grpc_retry_later;
use prometheus_client::metrics::counter::Counter;
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::CallLimitSettings;

/// Refuses principals that call more often than the settings allow, before their message is read.
///
/// It stands behind the layer that names the caller. Services of the deployment pass: what they may do is little, and work
/// that many people need hangs on it. Replicas share the limit of a principal through coordination.
#[derive(Debug, Clone)]
pub struct CallLimit {
    limiter: RateLimiter,
    limit: Limit,
    /// What the buckets of this service are called among those of the deployment.
    scope: &'static str,
    clock: SharedClock,
    refused: Counter,
}

impl CallLimit {
    /// Makes a limit whose buckets are those of `scope`, such as `registry.calls`.
    #[must_use]
    pub fn new(
        scope: &'static str,
        settings: &CallLimitSettings,
        limiter: RateLimiter,
        clock: SharedClock,
    ) -> Self {
        let limit = Limit { per_minute: settings.principal_per_minute, burst: settings.principal_burst };
        Self { limiter, limit, scope, clock, refused: Counter::default() }
    }

    /// Shows operators under this name how many calls it refuses.
    #[must_use]
    pub fn registered(self, metrics: &Metrics, name: &str) -> Self {
        metrics.register(
            name,
            "Calls that were refused because their principal calls too often",
            self.refused.clone(),
        );
        self
    }

    /// Puts the layer around every method of `routes`.
    #[must_use]
    pub fn protect(&self, routes: Routes) -> Routes {
        Routes::from(routes.into_axum_router().layer(self.clone()))
    }

    /// Takes one call of what the principal may do.
    fn take(&self, principal: &Principal) -> Result<(), Status> {
        let key = LimitKey::new(self.scope, &principal.id.to_string());
        let Err(limited) = self.limiter.try_acquire(&key, self.limit, self.clock.now()) else {
            return Ok(());
        };
        self.refused.inc();
        tracing::debug!(principal = %principal.id, scope = self.scope, "a call is over the limit");
        let Limit { per_minute, burst } = self.limit;
        let message = format!(
            "you call too often: {per_minute} calls a minute are allowed, {burst} of them at once; try again in {} s",
            whole_seconds(limited.retry_after)
        );
        Err(grpc_retry_later(Code::ResourceExhausted, "rate_limited", message, limited.retry_after))
    }
}

/// Rounded up: whoever comes back then does not come too early.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

impl<S> Layer<S> for CallLimit {
    type Service = LimitedService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        LimitedService { inner, limit: self.clone() }
    }
}

/// The service that the layer makes.
#[derive(Debug, Clone)]
pub struct LimitedService<S> {
    inner: S,
    limit: CallLimit,
}

impl<S> Service<Request<Body>> for LimitedService<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<Response, Infallible>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let taken = match Caller::from_extensions(request.extensions()) {
            Some(Caller::Principal(principal)) => self.limit.take(principal),
            // Nobody is let in by the methods themselves.
            Some(Caller::Service(_)) | None => Ok(()),
        };
        match taken {
            Ok(()) => Either::Left(self.inner.call(request)),
            Err(status) => Either::Right(ready(Ok(status.into_http()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use portico_authn::testing::{ISSUER, TestIssuer};
    use portico_clock::MockClock;
    use portico_coordination::Coordination;
    use portico_oauth_types::ScopeSet;
    use portico_process::install_crypto_provider;
    use portico_transport::{PeerIdentity, reason_of, retry_after_of};
    use tower::ServiceExt as _;

    use super::*;

    const SETTINGS: CallLimitSettings =
        CallLimitSettings { principal_per_minute: 60, principal_burst: 3, denial_records_per_minute: 10 };

    struct Bench {
        clock: MockClock,
        issuer: TestIssuer,
        metrics: Metrics,
        routes: axum::Router,
    }

    impl Bench {
        fn new() -> Self {
            install_crypto_provider();
            let clock = MockClock::at(chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap());
            let shared: SharedClock = Arc::new(clock.clone());
            let issuer = TestIssuer::new(Arc::clone(&shared));
            let limiter = Coordination::in_process(Arc::clone(&shared)).rate_limiter();
            let metrics = Metrics::new();
            let limit = CallLimit::new("test.calls", &SETTINGS, limiter, shared)
                .registered(&metrics, "portico_test_calls_limited");
            let answering = axum::Router::new().fallback(async || Status::ok("answered").into_http::<Body>());
            let routes = answering.layer(limit).layer(issuer.api_layer());
            Self { clock, issuer, metrics, routes }
        }

        fn token(&self) -> String {
            let api = format!("{ISSUER}/api");
            let claims = self.issuer.claims(&self.issuer.user(), &api, "admin".parse::<ScopeSet>().unwrap());
            self.issuer.mint(&claims)
        }

        async fn call(&self, prepare: impl FnOnce(&mut Request<Body>)) -> Status {
            let mut request = Request::post("/portico.test.v1.Test/Call").body(Body::empty()).unwrap();
            prepare(&mut request);
            let response = self.routes.clone().oneshot(request).await.unwrap();
            Status::from_header_map(response.headers()).unwrap()
        }

        async fn call_as(&self, token: &str) -> Status {
            let header = format!("Bearer {token}").parse().unwrap();
            self.call(|request| drop(request.headers_mut().insert("authorization", header))).await
        }
    }

    #[tokio::test]
    async fn a_principal_over_its_limit_is_refused_and_told_when_to_come_back() {
        let bench = Bench::new();
        let token = bench.token();
        for _ in 0..SETTINGS.principal_burst {
            assert_eq!(bench.call_as(&token).await.code(), Code::Ok);
        }
        let refused = bench.call_as(&token).await;
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert_eq!(reason_of(&refused).as_deref(), Some("rate_limited"));
        assert_eq!(retry_after_of(&refused), Some(Duration::from_secs(1)));
        assert!(refused.message().ends_with("try again in 1 s"), "{}", refused.message());
        assert!(bench.metrics.render().contains("portico_test_calls_limited_total 1"));
        // Another one is not affected, and the first one is let in when it was told.
        assert_eq!(bench.call_as(&bench.token()).await.code(), Code::Ok);
        bench.clock.advance(chrono::TimeDelta::seconds(1));
        assert_eq!(bench.call_as(&token).await.code(), Code::Ok);
    }

    #[tokio::test]
    async fn a_service_of_the_deployment_has_no_limit() {
        let bench = Bench::new();
        for _ in 0..100 {
            let status = bench
                .call(|request| {
                    request.extensions_mut().insert(PeerIdentity::new("gateway"));
                })
                .await;
            assert_eq!(status.code(), Code::Ok);
        }
    }
}
