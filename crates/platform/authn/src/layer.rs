//! The tower layer that lets no request through without a [`Caller`].

use std::convert::Infallible;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use futures_util::future::{Either, Ready, ready};
use http::Request;
use portico_oauth_types::ResourceUri;
use tonic::service::Routes;
use tower::{Layer, Service};

use crate::caller::{Authenticator, unauthenticated};
use crate::{Caller, Verifier};

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
}

impl<S> Layer<S> for CallerLayer {
    type Service = CallerService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CallerService { inner, authenticator: self.authenticator.clone() }
    }
}

/// The service that the layer makes.
#[derive(Debug, Clone)]
pub struct CallerService<S> {
    inner: S,
    authenticator: Authenticator,
}

impl<S> Service<Request<Body>> for CallerService<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible>,
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
                Either::Right(ready(Ok(unauthenticated(rejected).into_http())))
            }
        }
    }
}

#[cfg(test)]
mod tests;
