//! A channel that waits when Portico says that it is called too often.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use portico_transport::retry_after_of;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::{Code, Status};

/// How long one call waits for its turn in all: a job that makes many calls keeps going at the pace that it is allowed.
const LONGEST: Duration = Duration::from_secs(20);
/// Shortest wait, should the answer say less.
const SHORTEST: Duration = Duration::from_millis(50);

/// Sends a call again that was one too many (`RESOURCE_EXHAUSTED` with `google.rpc.RetryInfo`): it was refused before
/// anything was done. Only for calls of one message, which the command line makes.
#[derive(Debug, Clone)]
pub(crate) struct Patient<S> {
    inner: S,
}

impl<S> Patient<S> {
    pub(super) const fn new(inner: S) -> Self {
        Self { inner }
    }
}

type Sent<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

impl<S> Service<Request<Body>> for Patient<S>
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

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let clone = self.inner.clone();
        // The one that is ready.
        let mut inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let message = match body.collect().await {
                Ok(body) => body.to_bytes(),
                Err(status) => return Ok(status.into_http()),
            };
            let mut waited = Duration::ZERO;
            loop {
                let again = Request::from_parts(parts.clone(), Body::new(Full::new(message.clone())));
                let response = inner.call(again).await?;
                let Some(wait) = asked_to_wait(&response) else { return Ok(response) };
                waited += wait;
                if waited > LONGEST {
                    return Ok(response);
                }
                tokio::time::sleep(wait).await;
                std::future::poll_fn(|context| inner.poll_ready(context)).await?;
            }
        })
    }
}

/// How long to wait before the same call may pass, if that is all that is wrong with it.
fn asked_to_wait(response: &Response<Body>) -> Option<Duration> {
    // A call that is refused has its status in the head of the answer.
    let status = Status::from_header_map(response.headers())?;
    let wait = retry_after_of(&status).filter(|_| status.code() == Code::ResourceExhausted)?;
    Some(wait.max(SHORTEST))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use bytes::Bytes;
    use portico_transport::{grpc_error, grpc_retry_later};
    use tokio::time::Instant;
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    /// Calls something that answers with `refusal` so many times first; answers the last status and how often it was called.
    async fn call(refusals: u32, refusal: Status) -> (Code, u32) {
        let calls = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&calls);
        let inner = service_fn(move |request: Request<Body>| {
            let (count, refusal) = (Arc::clone(&count), refusal.clone());
            async move {
                let message = request.into_body().collect().await.unwrap().to_bytes();
                assert_eq!(message, "message");
                let refuse = count.fetch_add(1, Ordering::Relaxed) < refusals;
                Ok::<_, Infallible>(if refuse { refusal } else { Status::ok("done") }.into_http::<Body>())
            }
        });
        let request = Request::new(Body::new(Full::new(Bytes::from_static(b"message"))));
        let response = Patient::new(inner).oneshot(request).await.unwrap();
        let status = Status::from_header_map(response.headers()).unwrap();
        (status.code(), calls.load(Ordering::Relaxed))
    }

    fn one_too_many(wait: Duration) -> Status {
        grpc_retry_later(Code::ResourceExhausted, "rate_limited", "you call too often", wait)
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_one_too_many_waits_for_its_turn() {
        let begin = Instant::now();
        assert_eq!(call(3, one_too_many(Duration::from_secs(1))).await, (Code::Ok, 4));
        assert_eq!(begin.elapsed(), Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_and_the_refusal_is_told() {
        let begin = Instant::now();
        assert_eq!(call(u32::MAX, one_too_many(Duration::from_secs(3))).await, (Code::ResourceExhausted, 7));
        assert!(begin.elapsed() <= LONGEST);
        // Much later is no wait at all.
        assert_eq!(call(u32::MAX, one_too_many(Duration::from_mins(5))).await, (Code::ResourceExhausted, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_for_another_reason_is_not_sent_again() {
        let streams = grpc_error(Code::ResourceExhausted, "too_many_streams", "too many are open");
        assert_eq!(call(1, streams).await, (Code::ResourceExhausted, 1));
        let denied = grpc_error(Code::PermissionDenied, "no_permission", "you may not do this");
        assert_eq!(call(1, denied).await, (Code::PermissionDenied, 1));
    }
}
