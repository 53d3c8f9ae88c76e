//! Streams that anybody may open: reflection and the health watch take no token.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tonic::Code;
use tonic::service::Routes;

use crate::error::grpc_error;

/// Streams at the same time, of all callers together.
pub(super) const MOST_STREAMS: usize = 64;
/// How long one lasts; whoever needs it longer opens the next one.
const LONGEST_STREAM: Duration = Duration::from_mins(5);
/// The one method that is no stream: it is always answered.
const CHECK: &str = "/grpc.health.v1.Health/Check";

/// Bounds number and length of the streams of these services.
pub(super) fn bounded(services: Routes) -> Routes {
    let permits = Arc::new(Semaphore::new(MOST_STREAMS));
    let bound = move |request: Request, next: Next| {
        let stream = request.uri().path() != CHECK;
        let permit = stream.then(|| Arc::clone(&permits).try_acquire_owned());
        async move {
            match permit {
                None => next.run(request).await,
                Some(Ok(permit)) => next.run(request).await.map(|body| Body::new(Bounded::new(body, permit))),
                Some(Err(_)) => {
                    let message = "too many streams that need no token are open: try again later";
                    grpc_error(Code::ResourceExhausted, "too_many_streams", message).into_http()
                }
            }
        }
    };
    Routes::from(services.into_axum_router().layer(from_fn(bound)))
}

/// The body of a stream that ends after a while and makes room for another one then.
struct Bounded {
    body: Body,
    end: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl Bounded {
    fn new(body: Body, permit: OwnedSemaphorePermit) -> Self {
        Self { body, end: Box::pin(tokio::time::sleep(LONGEST_STREAM)), _permit: permit }
    }
}

impl http_body::Body for Bounded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.end.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
