//! The plain-HTTP admin surface: liveness, readiness, metrics.

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use portico_clock::SharedClock;
use portico_telemetry::{METRICS_CONTENT_TYPE, Metrics};
use serde_json::json;

use crate::Readiness;

#[derive(Clone)]
struct Admin {
    readiness: Readiness,
    metrics: Metrics,
    clock: SharedClock,
}

/// Serves `/livez` (alias `/health`), `/readyz` (alias `/ready`) and `/metrics`.
pub fn admin_router(readiness: Readiness, metrics: Metrics, clock: SharedClock) -> Router {
    Router::new()
        .route("/livez", get(live))
        .route("/health", get(live))
        .route("/readyz", get(ready))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics_page))
        .with_state(Admin { readiness, metrics, clock })
}

/// Says that the process answers; what it depends on is `/readyz`' business.
async fn live(State(admin): State<Admin>) -> Response {
    let body = json!({ "status": "ok", "timestamp": timestamp(&admin) });
    (StatusCode::OK, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

/// Lists every check with its result; 503 unless all hold.
async fn ready(State(admin): State<Admin>) -> Response {
    let checks = admin.readiness.snapshot();
    let all_hold = !checks.is_empty() && checks.iter().all(|check| check.ready);
    let (code, status) =
        if all_hold { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "not_ready") };
    let body = json!({ "status": status, "timestamp": timestamp(&admin), "checks": checks });
    (code, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

async fn metrics_page(State(admin): State<Admin>) -> Response {
    ([(header::CONTENT_TYPE, METRICS_CONTENT_TYPE)], admin.metrics.render()).into_response()
}

fn timestamp(admin: &Admin) -> String {
    admin.clock.now().to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

#[cfg(test)]
mod tests;
