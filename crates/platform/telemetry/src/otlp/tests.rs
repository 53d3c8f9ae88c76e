use std::sync::{Arc, Mutex};

use opentelemetry::trace::{Tracer as _, TracerProvider as _};
use opentelemetry_proto::tonic::collector::{
    metrics::v1::{
        ExportMetricsServiceRequest, ExportMetricsServiceResponse,
        metrics_service_server::{MetricsService, MetricsServiceServer},
    },
    trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
};
use prometheus_client::metrics::counter::Counter;
use tonic::{Request, Response, Status};

use super::*;

/// A collector that keeps what it got.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<String>>>,
    metrics: Arc<Mutex<Vec<String>>>,
    services: Arc<Mutex<Vec<String>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.unwrap().attributes;
            let name = attributes.into_iter().find(|attribute| attribute.key == "service.name").unwrap();
            self.services.lock().unwrap().push(format!("{:?}", name.value));
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans).map(|span| span.name);
            self.spans.lock().unwrap().extend(spans);
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        for resource in request.into_inner().resource_metrics {
            let names =
                resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics).map(|metric| metric.name);
            self.metrics.lock().unwrap().extend(names);
        }
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_waiting_reaches_the_collector_at_shutdown() {
    let collector = Collector::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let routes = tonic::service::Routes::new(TraceServiceServer::new(collector.clone()))
        .add_service(MetricsServiceServer::new(collector.clone()));
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    #[expect(clippy::disallowed_methods, reason = "the test's collector is no listener of Portico")]
    let server = tonic::transport::Server::builder().add_routes(routes).serve_with_incoming(incoming);
    #[expect(clippy::disallowed_methods, reason = "the test ends the collector itself")]
    let serving = tokio::spawn(server);

    let mut otlp = Otlp::start(&endpoint, &TelemetrySettings::default(), "gateway").unwrap();
    otlp.tracer_provider().tracer("test").start("tools/call");
    let metrics = Metrics::new();
    metrics.register("portico_test_calls", "Calls", Counter::<u64>::default());
    otlp.export_metrics(metrics);
    // Blocks this thread of the runtime, as dropping the guard does.
    otlp.shutdown();

    assert_eq!(*collector.spans.lock().unwrap(), ["tools/call"]);
    assert_eq!(*collector.metrics.lock().unwrap(), ["portico_test_calls"]);
    assert!(collector.services.lock().unwrap()[0].contains("gateway"));
    serving.abort();
}

#[test]
fn an_address_that_is_no_url_of_a_collector_is_refused() {
    let endpoint = "unix:///run/otel.sock".parse().unwrap();
    let error = Otlp::start(&endpoint, &TelemetrySettings::default(), "gateway").err().unwrap();
    assert!(error.to_string().contains("write e.g. `http://127.0.0.1:4317`"), "{error}");
}
