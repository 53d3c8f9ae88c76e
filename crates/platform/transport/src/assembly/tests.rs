use http::HeaderValue;
use http::header::ALLOW;
use http_body_util::BodyExt;
use tonic::transport::Endpoint;
use tonic_health::pb::health_client::HealthClient;
use tower::ServiceExt;

use super::*;
use crate::link::remote_link;
use crate::testing::{ask, called_as, correlate, echo_peer, start, who_calls};
use crate::{HttpLimits, reason_of, with_deadline};

fn get(path: &str) -> Request {
    Request::builder().uri(path).body(axum::body::Body::empty()).unwrap()
}

#[tokio::test]
async fn one_port_serves_http_and_grpc() {
    let server = start(one_port(echo_peer(), who_calls(), correlate), HttpLimits::default(), None);
    let channel = Endpoint::from_shared(format!("http://{}", server.address)).unwrap().connect_lazy();
    let mut client = HealthClient::new(remote_link(channel));
    let answer = client.check(ask("gateway")).await.unwrap().into_inner();
    // Nobody from outside is a service of ours.
    assert_eq!(answer.status(), ServingStatus::NotServing);
}

#[tokio::test]
async fn unknown_http_path_is_a_problem_404() {
    let response = one_port(echo_peer(), who_calls(), correlate).oneshot(get("/nope")).await.unwrap();
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
}

#[tokio::test]
async fn wrong_http_method_is_a_problem_405_with_allow() {
    let mut request = get("/slow");
    *request.method_mut() = http::Method::DELETE;
    let response = one_port(echo_peer(), who_calls(), correlate).oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(response.headers()[ALLOW], "GET,HEAD");
    assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
}

#[tokio::test]
async fn what_no_handler_answers_carries_the_correlation_id_too() {
    let mut wrong_method = get("/slow");
    *wrong_method.method_mut() = http::Method::DELETE;
    for mut request in [get("/nope"), wrong_method] {
        request.headers_mut().insert(CORRELATION_HEADER, HeaderValue::from_static("agent-run-0042"));
        let response = one_port(echo_peer(), who_calls(), correlate).oneshot(request).await.unwrap();
        assert_eq!(response.headers()[CORRELATION_HEADER], "agent-run-0042");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem["correlation_id"], "agent-run-0042");
    }
    let response = one_port(echo_peer(), who_calls(), correlate).oneshot(get("/nope")).await.unwrap();
    assert_eq!(response.headers()[CORRELATION_HEADER].len(), 36, "one is made where there is none");
}

#[tokio::test]
async fn unknown_grpc_path_is_unimplemented() {
    let mut request = get("/portico.nope.v1.Nope/Nope");
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"));
    let response = one_port(echo_peer(), who_calls(), correlate).oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let status = Status::from_header_map(response.headers()).unwrap();
    assert_eq!(status.code(), Code::Unimplemented);
    assert_eq!(reason_of(&status).as_deref(), Some("unknown_method"));
}

#[tokio::test(start_paused = true)]
async fn a_slow_handler_ends_at_the_callers_deadline() {
    let app = grpc_app(who_calls(), correlate).map_request(|request: http::Request<tonic::body::Body>| {
        let mut request = request.map(axum::body::Body::new);
        request.headers_mut().insert("grpc-timeout", HeaderValue::from_static("3S"));
        request
    });
    let app = app.map_response(|response: Response| response.map(tonic::body::Body::new));
    let mut client = HealthClient::new(app);
    let started = tokio::time::Instant::now();
    let status = client.check(with_deadline(Duration::from_secs(3), ask("slow"))).await.unwrap_err();
    assert_eq!(reason_of(&status).as_deref(), Some("deadline_exceeded"));
    assert_eq!(started.elapsed().as_secs(), 3);
}

#[tokio::test]
async fn s3_42_health_follows_readiness() {
    let readiness = Readiness::new();
    let check = readiness.check("database");
    let set = tonic_health::pb::FILE_DESCRIPTOR_SET;
    let routes = grpc_routes(&[set], Routes::default(), readiness).unwrap();
    let app = one_port(Router::new(), routes, correlate);
    let link =
        app.map_request(|request: http::Request<tonic::body::Body>| request.map(axum::body::Body::new));
    let mut client =
        HealthClient::new(link.map_response(|answer: Response| answer.map(tonic::body::Body::new)));
    let before = client.check(ask("")).await.unwrap().into_inner();
    assert_eq!(before.status(), ServingStatus::NotServing);
    check.ready();
    let after = client.check(ask("grpc.health.v1.Health")).await.unwrap().into_inner();
    assert_eq!(after.status(), ServingStatus::Serving);
    let unknown = client.check(ask("portico.nope.v1.Nope")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

/// Health of a process that is ready, as anybody reaches it.
fn health() -> HealthClient<crate::Link> {
    let readiness = Readiness::new();
    readiness.check("database").ready();
    let set = tonic_health::pb::FILE_DESCRIPTOR_SET;
    let exchange = crate::Exchange::new();
    exchange.serve("registry", grpc_routes(&[set], Routes::default(), readiness).unwrap());
    HealthClient::new(exchange.link("registry", crate::PeerIdentity::new("anybody")))
}

#[tokio::test]
async fn streams_that_need_no_token_are_few() {
    let mut client = health();
    let mut streams = Vec::new();
    for _ in 0..open_streams::MOST_STREAMS {
        streams.push(client.watch(ask("")).await.unwrap().into_inner());
    }
    let refused = client.watch(ask("")).await.unwrap_err();
    assert_eq!(reason_of(&refused).as_deref(), Some("too_many_streams"));
    // Who only asks is answered, and whoever leaves makes room.
    client.check(ask("")).await.unwrap();
    streams.pop();
    client.watch(ask("")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_needs_no_token_ends_after_a_while() {
    let mut stream = health().watch(ask("")).await.unwrap().into_inner();
    let began = tokio::time::Instant::now();
    while let Ok(Some(_)) = stream.message().await {}
    assert_eq!(began.elapsed().as_secs(), 300);
}

#[tokio::test]
async fn problem_body_is_json() {
    let headers = HeaderMap::new();
    let response = nothing_here(&headers, &correlate(&headers));
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(value["reason"], "not_found");
}

#[tokio::test]
async fn reflection_lists_every_service() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, ServiceResponse};

    let set = tonic_health::pb::FILE_DESCRIPTOR_SET;
    let both = merge_routes([Routes::default(), Routes::default()]);
    let routes = grpc_routes(&[set], both, Readiness::new()).unwrap();
    let exchange = crate::Exchange::new();
    exchange.serve("registry", routes);
    let mut client = ServerReflectionClient::new(exchange.link("registry", crate::PeerIdentity::new("cli")));
    let list = Some(MessageRequest::ListServices(String::new()));
    let request = ServerReflectionRequest { host: String::new(), message_request: list };
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("no list")
    };
    assert!(list.service.contains(&ServiceResponse { name: "grpc.health.v1.Health".to_owned() }));
}

#[tokio::test]
async fn merged_routes_answer_unimplemented_to_what_none_of_them_has() {
    let exchange = crate::Exchange::new();
    exchange.serve("all", merge_routes([who_calls(), Routes::default()]));
    let link = exchange.link("all", crate::PeerIdentity::new("gateway"));
    assert!(called_as(link.clone(), "gateway").await.unwrap());
    let mut reflection =
        tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient::new(link);
    let status = reflection.server_reflection_info(tokio_stream::empty()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}
