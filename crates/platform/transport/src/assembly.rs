//! Putting HTTP routes and gRPC services together.

mod open_streams;

use std::collections::BTreeSet;
use std::pin::Pin;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use portico_process::Readiness;
use portico_telemetry::{CORRELATION_HEADER, CorrelationId};
use prost::Message;
use prost_types::FileDescriptorSet;
use tokio_stream::Stream;
use tonic::service::Routes;
use tonic::{Code, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::error::{grpc_error, problem};
use crate::link::requested_deadline;

/// The longest time that a gRPC handler gets before its answer starts, whatever the caller asked for.
const LONGEST_HANDLER: Duration = Duration::from_mins(1);
/// How often a health watcher looks whether readiness changed.
const HEALTH_POLL: Duration = Duration::from_secs(1);

/// Why gRPC services cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum AssemblyError {
    /// A descriptor set that was compiled in is not one.
    #[error("a compiled-in protobuf descriptor set cannot be read")]
    Descriptors(#[from] prost::DecodeError),
    /// Reflection refused the descriptor sets.
    #[error("gRPC reflection cannot serve the compiled-in descriptor sets")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Serves HTTP routes and gRPC services on one port.
///
/// An unknown gRPC path answers `grpc-status: 12`, an unknown HTTP path a problem+json 404; a fallback that `http` has
/// is replaced. These answers carry what `correlate` makes of the request's headers.
pub fn one_port<C>(http: Router, grpc: Routes, correlate: C) -> Router
where
    C: Fn(&HeaderMap) -> CorrelationId + Clone + Send + Sync + 'static,
{
    let grpc = deadlines(grpc.prepare().into_axum_router().reset_fallback());
    let correlate_too = correlate.clone();
    let nothing_here =
        move |headers: HeaderMap| std::future::ready(nothing_here(&headers, &correlate(&headers)));
    let wrong_method = move |headers: HeaderMap| std::future::ready(wrong_method(&correlate_too(&headers)));
    http.reset_fallback().merge(grpc).fallback(nothing_here).method_not_allowed_fallback(wrong_method)
}

/// Serves gRPC services alone, with deadlines and `grpc-status: 12` for unknown paths.
pub fn grpc_app<C>(grpc: Routes, correlate: C) -> Router
where
    C: Fn(&HeaderMap) -> CorrelationId + Clone + Send + Sync + 'static,
{
    one_port(Router::new(), grpc, correlate)
}

/// Joins the gRPC services of several services of a deployment; give the result to [`grpc_routes`].
pub fn merge_routes(services: impl IntoIterator<Item = Routes>) -> Routes {
    let routers = services.into_iter().map(|routes| routes.into_axum_router().reset_fallback());
    // tonic's empty routes bring the fallback that answers UNIMPLEMENTED.
    Routes::from(routers.fold(Routes::default().into_axum_router(), Router::merge))
}

/// Adds reflection (v1 and v1alpha) and `grpc.health.v1` to a deployment's services.
///
/// Health follows `readiness` for the whole server (the empty name) and for every service in `descriptor_sets`.
pub fn grpc_routes(
    descriptor_sets: &[&'static [u8]],
    services: Routes,
    readiness: Readiness,
) -> Result<Routes, AssemblyError> {
    let reflection = || {
        let health = tonic_health::pb::FILE_DESCRIPTOR_SET;
        descriptor_sets.iter().fold(
            tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(health),
            |builder, set| builder.register_encoded_file_descriptor_set(set),
        )
    };
    let mut names = BTreeSet::from([String::new()]);
    for set in descriptor_sets {
        for file in FileDescriptorSet::decode(*set)?.file {
            names.extend(file.service.iter().map(|service| format!("{}.{}", file.package(), service.name())));
        }
    }
    let health = HealthServer::new(ReadinessHealth { names, readiness });
    let for_everybody =
        Routes::new(reflection().build_v1()?).add_service(reflection().build_v1alpha()?).add_service(health);
    Ok(merge_routes([services, open_streams::bounded(for_everybody)]))
}

/// Honours `grpc-timeout` (gRPC over HTTP/2, Requests) on the serving side and bounds it.
fn deadlines(grpc: Router) -> Router {
    grpc.layer(from_fn(|request: Request, next: Next| async move {
        let deadline = requested_deadline(request.headers()).unwrap_or(LONGEST_HANDLER).min(LONGEST_HANDLER);
        match tokio::time::timeout(deadline, next.run(request)).await {
            Ok(response) => response,
            Err(_) => deadline_exceeded().into_http(),
        }
    }))
}

pub(crate) fn deadline_exceeded() -> Status {
    grpc_error(Code::DeadlineExceeded, "deadline_exceeded", "the answer took longer than the caller waits")
}

pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

fn nothing_here(headers: &HeaderMap, correlation: &CorrelationId) -> Response {
    if is_grpc(headers) {
        let status = grpc_error(Code::Unimplemented, "unknown_method", "this server has no such gRPC method");
        return correlated(status.into_http(), correlation);
    }
    let detail = "there is nothing at this path";
    let response = problem(StatusCode::NOT_FOUND, "not_found", detail, Some(correlation.as_str()));
    correlated(response, correlation)
}

fn wrong_method(correlation: &CorrelationId) -> Response {
    let detail = "this path does not take this method; the Allow header lists those that it takes";
    let status = StatusCode::METHOD_NOT_ALLOWED;
    correlated(problem(status, "method_not_allowed", detail, Some(correlation.as_str())), correlation)
}

fn correlated(mut response: Response, correlation: &CorrelationId) -> Response {
    response.headers_mut().insert(CORRELATION_HEADER, correlation.header_value());
    response
}

/// `grpc.health.v1` as a view of the process's readiness.
#[derive(Debug)]
struct ReadinessHealth {
    names: BTreeSet<String>,
    readiness: Readiness,
}

impl ReadinessHealth {
    fn status(readiness: &Readiness) -> ServingStatus {
        if readiness.is_ready() { ServingStatus::Serving } else { ServingStatus::NotServing }
    }
}

#[tonic::async_trait]
impl Health for ReadinessHealth {
    async fn check(
        &self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, Status> {
        if !self.names.contains(&request.get_ref().service) {
            return Err(grpc_error(
                Code::NotFound,
                "unknown_service",
                "this server has no such gRPC service",
            ));
        }
        let status = Self::status(&self.readiness);
        Ok(tonic::Response::new(HealthCheckResponse { status: status.into() }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<Self::WatchStream>, Status> {
        // grpc.health.v1 Watch: an unknown service is SERVICE_UNKNOWN on the stream, not an error.
        let known = self.names.contains(&request.get_ref().service);
        let readiness = self.readiness.clone();
        let current = move || if known { Self::status(&readiness) } else { ServingStatus::ServiceUnknown };
        let stream = futures_util::stream::unfold(None, move |last| {
            let current = current.clone();
            async move {
                let mut now = current();
                while Some(now) == last {
                    tokio::time::sleep(HEALTH_POLL).await;
                    now = current();
                }
                Some((Ok(HealthCheckResponse { status: now.into() }), Some(now)))
            }
        });
        Ok(tonic::Response::new(Box::pin(stream)))
    }
}

#[cfg(test)]
mod tests;
