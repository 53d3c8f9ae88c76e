//! A channel that puts the caller's access token on each call, and gets a new one before it expires.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, Result};
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Response};
use secrecy::ExposeSecret as _;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;

use super::identity::TokenSource;

/// What a token is taken to last whose answer does not say (RFC 6749 §5.1).
const USUAL_LIFETIME: u64 = 60;

/// The access token of the management plane. A command may run for longer than one lasts.
#[derive(Debug)]
pub(super) struct ApiToken {
    source: TokenSource,
    resource: String,
    scope: &'static str,
    held: Mutex<Held>,
}

#[derive(Debug, Clone)]
struct Held {
    header: HeaderValue,
    renew_at: Instant,
}

impl ApiToken {
    /// # Errors
    /// Portico cannot be reached, or refuses the identity.
    pub(super) async fn get(source: TokenSource, resource: String, scope: &'static str) -> Result<Self> {
        let held = Mutex::new(fetch(&source, &resource, scope).await?);
        Ok(Self { source, resource, scope, held })
    }

    /// Holds the lock while it fetches: calls at the same time wait for one token, for as long as a request may take.
    async fn header(&self) -> Result<HeaderValue> {
        let mut held = self.held.lock().await;
        if Instant::now() >= held.renew_at {
            *held = fetch(&self.source, &self.resource, self.scope).await?;
        }
        Ok(held.header.clone())
    }
}

/// Gets a token and says when half of its life is over.
async fn fetch(source: &TokenSource, resource: &str, scope: &str) -> Result<Held> {
    let tokens = source.get(resource, scope).await?;
    let mut header = HeaderValue::try_from(format!("Bearer {}", tokens.access_token.expose_secret()))
        .context("the access token has characters that a header cannot carry")?;
    header.set_sensitive(true);
    let lifetime = Duration::from_secs(tokens.expires_in.unwrap_or(USUAL_LIFETIME).min(86_400));
    Ok(Held { header, renew_at: Instant::now() + lifetime / 2 })
}

/// Signs each call.
#[derive(Debug, Clone)]
pub(crate) struct Signing<S> {
    inner: S,
    token: Arc<ApiToken>,
}

impl<S> Signing<S> {
    pub(super) const fn new(inner: S, token: Arc<ApiToken>) -> Self {
        Self { inner, token }
    }
}

type Sent<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

impl<S> Service<Request<Body>> for Signing<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Sent<S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let clone = self.inner.clone();
        // The one that is ready.
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let token = Arc::clone(&self.token);
        Box::pin(async move {
            match token.header().await {
                Ok(header) => {
                    request.headers_mut().insert(AUTHORIZATION, header);
                    inner.call(request).await
                }
                Err(error) => Ok(Status::unauthenticated(format!("{error:#}")).into_http()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicU32, Ordering};

    use axum::routing::post;
    use axum::{Json, Router};
    use tower::{ServiceExt as _, service_fn};

    use super::super::http::Http;
    use super::super::identity::Identity;
    use super::*;

    /// Which tokens three calls carry, from a token endpoint that says how long they last.
    async fn three_calls(expires_in: u64) -> Vec<String> {
        portico_process::install_crypto_provider();
        let given = Arc::new(AtomicU32::new(0));
        let answer = async move || {
            let number = given.fetch_add(1, Ordering::Relaxed);
            Json(serde_json::json!({ "access_token": format!("t{number}"), "expires_in": expires_in }))
        };
        let router = Router::new().route("/oauth2/token", post(answer));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/oauth2/token", listener.local_addr().unwrap()).parse().unwrap();
        let serving = axum::serve(listener, router).into_future();
        let identity = Identity::ServiceAccount { client_id: "c".to_owned(), client_secret: "s".into() };
        let calling = async {
            let source = TokenSource { http: Http::new().unwrap(), url, identity };
            let token =
                ApiToken::get(source, "https://portico.example/api".to_owned(), "admin").await.unwrap();
            let echo = service_fn(async |request: Request<Body>| {
                let header = request.headers()[AUTHORIZATION].clone();
                Ok::<_, Infallible>(
                    Response::builder().header(AUTHORIZATION, header).body(Body::empty()).unwrap(),
                )
            });
            let channel = Signing::new(echo, Arc::new(token));
            let mut tokens = Vec::new();
            for _ in 0..3 {
                let answer = channel.clone().oneshot(Request::new(Body::empty())).await.unwrap();
                tokens.push(answer.headers()[AUTHORIZATION].to_str().unwrap().to_owned());
            }
            tokens
        };
        tokio::select! {
            tokens = calling => tokens,
            ended = serving => panic!("{ended:?}"),
        }
    }

    #[tokio::test]
    async fn a_command_that_outlives_its_access_token_gets_another_one() {
        assert_eq!(three_calls(0).await, ["Bearer t1", "Bearer t2", "Bearer t3"]);
    }

    #[tokio::test]
    async fn one_access_token_serves_as_long_as_it_lasts() {
        assert_eq!(three_calls(600).await, ["Bearer t0", "Bearer t0", "Bearer t0"]);
    }
}
