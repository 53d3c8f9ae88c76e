use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use chrono::{Duration, TimeZone as _, Utc};
use http::header::AUTHORIZATION;
use portico_clock::MockClock;
use portico_oauth_types::Scope;
use portico_transport::{PeerIdentity, reason_of};
use tonic::{Code, Status};
use tower::ServiceExt as _;

use super::*;
use crate::testing::TestIssuer;

async fn who(request: Request<Body>) -> String {
    match Caller::from_extensions(request.extensions()) {
        Some(Caller::Principal(principal)) => principal.id.to_string(),
        Some(Caller::Service(peer)) => peer.service.clone(),
        None => "nobody".to_owned(),
    }
}

fn issuer() -> (TestIssuer, MockClock) {
    let clock = MockClock::at(Utc.timestamp_opt(1_800_000_000, 0).unwrap());
    (TestIssuer::new(Arc::new(clock.clone())), clock)
}

fn request(token: Option<&str>) -> Request<Body> {
    let mut request = Request::builder().uri("/x");
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    request.body(Body::empty()).unwrap()
}

async fn grpc(layer: &CallerLayer, request: Request<Body>) -> Response {
    let routes = Routes::from(Router::new().route("/x", get(who)));
    layer.protect(routes).into_axum_router().oneshot(request).await.unwrap()
}

async fn text(response: Response) -> String {
    String::from_utf8(axum::body::to_bytes(response.into_body(), 4096).await.unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn s0_02_a_good_token_becomes_the_caller() {
    let (issuer, _) = issuer();
    let user = issuer.user();
    let token = issuer.api_token(&user, Scope::Admin.into());
    let response = grpc(&issuer.api_layer(), request(Some(&token))).await;
    assert_eq!(text(response).await, user.to_string());
}

#[tokio::test]
async fn a_peer_identity_becomes_the_caller_and_a_bad_token_beside_it_does_not_matter() {
    let (issuer, _) = issuer();
    let mut request = request(Some("x"));
    request.extensions_mut().insert(PeerIdentity::new("gateway"));
    assert_eq!(text(grpc(&issuer.api_layer(), request).await).await, "gateway");
}

#[tokio::test]
async fn s2_34_nothing_passes_without_credentials_not_even_an_unknown_path() {
    let (issuer, clock) = issuer();
    let user = issuer.user();
    let mcp = issuer.token(&user, "https://portico.test/mcp", Scope::Admin.into());
    let unknown_path = Request::builder().uri("/y").body(Body::empty()).unwrap();
    for (request, code, reason) in [
        (request(None), Code::Unauthenticated, "token_missing"),
        (unknown_path, Code::Unauthenticated, "token_missing"),
        (request(Some("x")), Code::Unauthenticated, "token_malformed"),
        (request(Some(&mcp)), Code::Unauthenticated, "token_audience_wrong"),
    ] {
        let response = grpc(&issuer.api_layer(), request).await;
        let status = Status::from_header_map(response.headers()).unwrap();
        assert_eq!((status.code(), reason_of(&status).as_deref()), (code, Some(reason)));
    }
    clock.advance(Duration::seconds(121));
    let response = grpc(&issuer.api_layer(), request(Some(&mcp))).await;
    assert_eq!(Status::from_header_map(response.headers()).unwrap().code(), Code::Unavailable);
}
