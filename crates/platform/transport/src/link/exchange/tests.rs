use std::time::Duration;

use tonic_health::pb::health_client::HealthClient;

use super::*;
use crate::testing::{CallersOwn, ask, called_as, who_calls};
use crate::{reason_of, with_deadline};

fn gateway_link(exchange: &Exchange) -> Link {
    exchange.link("registry", PeerIdentity::new("gateway"))
}

#[tokio::test]
async fn a_call_before_the_service_is_served_is_unavailable() {
    let exchange = Exchange::new();
    let link = gateway_link(&exchange);
    let status = called_as(link.clone(), "gateway").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(reason_of(&status).as_deref(), Some("service_starting"));
    exchange.serve("registry", who_calls());
    assert!(called_as(link, "gateway").await.unwrap());
}

#[tokio::test]
async fn the_callee_sees_who_calls_and_nothing_else_of_the_caller() {
    let exchange = Exchange::new();
    exchange.serve("registry", who_calls());
    let mut client = HealthClient::new(gateway_link(&exchange));
    let mut request = tonic::Request::new(ask("gateway"));
    request.extensions_mut().insert(CallersOwn);
    // A caller cannot choose to be somebody else.
    request.extensions_mut().insert(PeerIdentity::new("worker"));
    let answer = client.check(request).await.unwrap().into_inner();
    assert_eq!(answer.status(), tonic_health::pb::health_check_response::ServingStatus::Serving);
}

#[tokio::test(start_paused = true)]
async fn every_call_has_a_deadline() {
    let exchange = Exchange::new();
    exchange.serve("registry", who_calls());
    let mut client = HealthClient::new(gateway_link(&exchange));
    for (request, seconds) in [
        (tonic::Request::new(ask("slow")), DEFAULT_DEADLINE.as_secs()),
        (with_deadline(Duration::from_secs(2), ask("slow")), 2),
    ] {
        let started = tokio::time::Instant::now();
        let status = client.check(request).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert_eq!(started.elapsed().as_secs(), seconds);
    }
}

#[tokio::test]
async fn a_panic_in_the_callee_is_an_error_of_the_caller() {
    let exchange = Exchange::new();
    exchange.serve("registry", who_calls());
    let status = called_as(gateway_link(&exchange), "panic").await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
}
