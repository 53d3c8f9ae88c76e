use std::sync::Arc;

use axum::{body::Body, http::Request};
use chrono::DateTime;
use http_body_util::BodyExt as _;
use portico_clock::MockClock;
use serde_json::Value;
use tower::ServiceExt as _;

use super::*;

fn router(readiness: &Readiness) -> Router {
    let clock = Arc::new(MockClock::at(DateTime::from_timestamp(1_800_000_000, 0).unwrap()));
    admin_router(readiness.clone(), Metrics::new(), clock)
}

async fn get(router: &Router, path: &str) -> (StatusCode, String, Vec<u8>) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let kind = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
    (status, kind, response.into_body().collect().await.unwrap().to_bytes().to_vec())
}

async fn get_json(router: &Router, path: &str) -> (StatusCode, Value) {
    let (status, _, body) = get(router, path).await;
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn s3_53_livez_and_health_answer_with_a_timestamp() {
    let router = router(&Readiness::new());
    for path in ["/livez", "/health"] {
        let (status, body) = get_json(&router, path).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(body, json!({ "status": "ok", "timestamp": "2027-01-15T08:00:00.000000Z" }));
    }
}

#[tokio::test]
async fn s3_42_readyz_and_ready_list_every_check() {
    let readiness = Readiness::new();
    let router = router(&readiness);
    let (database, feed) = (readiness.check("database"), readiness.check("trust_feed"));
    database.ready();
    feed.not_ready("no snapshot yet");
    for path in ["/readyz", "/ready"] {
        let (status, body) = get_json(&router, path).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(body["status"], "not_ready");
        assert_eq!(
            body["checks"],
            json!([
                { "name": "database", "ready": true },
                { "name": "trust_feed", "ready": false, "reason": "no snapshot yet" },
            ])
        );
    }
    feed.ready();
    let (status, body) = get_json(&router, "/readyz").await;
    assert_eq!((status, &body["status"]), (StatusCode::OK, &json!("ready")));
}

#[tokio::test]
async fn metrics_are_openmetrics_text() {
    let (status, kind, body) = get(&router(&Readiness::new()), "/metrics").await;
    assert_eq!(status, StatusCode::OK);
    assert!(kind.starts_with("application/openmetrics-text"));
    assert!(body.ends_with(b"# EOF\n"));
}
