//! Tower layers that let no request through without a [`Caller`].

use std::convert::Infallible;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use futures_util::future::{Either, Ready, ready};
use http::header::{HeaderValue, WWW_AUTHENTICATE};
use http::{Request, StatusCode};
use portico_oauth_types::{ResourceUri, ScopeSet};
use portico_transport::problem;
use tonic::service::Routes;
use tower::{Layer, Service};

use crate::caller::{Authenticator, challenge, unauthenticated};
use crate::{Caller, TokenRejected, Verifier};

/// Authenticates gRPC requests: a peer identity or a bearer token for `audience`, else UNAUTHENTICATED.
#[derive(Debug, Clone)]
pub struct CallerLayer {
    authenticator: Authenticator,
}

impl CallerLayer {
    /// Makes a layer that takes tokens for `audience`, the management plane of the deployment.
    #[must_use]
    pub fn new(verifier: Verifier, audience: ResourceUri) -> Self {
        Self { authenticator: Authenticator::new(verifier, audience) }
    }

    /// Puts the layer around every method of `routes`.
    #[must_use]
    pub fn protect(&self, routes: Routes) -> Routes {
        Routes::from(routes.into_axum_router().layer(self.clone()))
    }

    /// Returns the same rule for an axum router, whose refusals are problem+json with a challenge.
    #[must_use]
    pub fn for_http(&self) -> HttpCallerLayer {
        HttpCallerLayer { authenticator: self.authenticator.clone() }
    }
}

/// Authenticates HTTP requests: a peer identity or a bearer token, else 401 with a challenge.
#[derive(Debug, Clone)]
pub struct HttpCallerLayer {
    authenticator: Authenticator,
}

impl<S> Layer<S> for CallerLayer {
    type Service = CallerService<S, Grpc>;

    fn layer(&self, inner: S) -> Self::Service {
        CallerService { inner, authenticator: self.authenticator.clone(), refusal: Grpc }
    }
}

impl<S> Layer<S> for HttpCallerLayer {
    type Service = CallerService<S, Http>;

    fn layer(&self, inner: S) -> Self::Service {
        CallerService { inner, authenticator: self.authenticator.clone(), refusal: Http }
    }
}

/// The service that the layers make.
#[derive(Debug, Clone)]
pub struct CallerService<S, R> {
    inner: S,
    authenticator: Authenticator,
    refusal: R,
}

/// Writes a refusal in the form that the client of a protocol understands.
pub trait Refusal {
    /// Makes the response.
    fn refuse(&self, rejected: TokenRejected, audience: &ResourceUri) -> Response;
}

/// A gRPC status with `google.rpc.ErrorInfo`.
#[derive(Debug, Clone, Copy)]
pub struct Grpc;

impl Refusal for Grpc {
    fn refuse(&self, rejected: TokenRejected, _audience: &ResourceUri) -> Response {
        unauthenticated(rejected).into_http()
    }
}

/// problem+json, and a challenge where a token would help.
#[derive(Debug, Clone, Copy)]
pub struct Http;

impl Refusal for Http {
    fn refuse(&self, rejected: TokenRejected, audience: &ResourceUri) -> Response {
        if rejected.unavailable {
            return problem(StatusCode::SERVICE_UNAVAILABLE, rejected.code, rejected.to_string(), None);
        }
        let mut response = problem(StatusCode::UNAUTHORIZED, rejected.code, rejected.to_string(), None);
        if let Ok(value) = HeaderValue::from_str(&challenge(audience, ScopeSet::EMPTY, rejected)) {
            response.headers_mut().insert(WWW_AUTHENTICATE, value);
        }
        response
    }
}

impl<S, R> Service<Request<Body>> for CallerService<S, R>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible>,
    R: Refusal,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<Response, Infallible>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        match self.authenticator.caller(request.extensions(), request.headers()) {
            Ok(caller) => {
                request.extensions_mut().insert::<Caller>(caller);
                Either::Left(self.inner.call(request))
            }
            Err(rejected) => {
                tracing::debug!(reason = rejected.code, path = request.uri().path(), "request refused");
                Either::Right(ready(Ok(self.refusal.refuse(rejected, self.authenticator.audience()))))
            }
        }
    }
}

#[cfg(test)]
mod tests;
