//! Waits, with a clock that stands still: the server's address is one that is never called, so no socket is opened.

use std::time::Duration;

use portico_proto_events::TOPIC;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::document::{row, updated};
use super::fixture::Fixture;
use crate::WorkerSettings;

fn unreachable() -> Value {
    json!({"type": "url", "endpoint": "http://169.254.169.254/mcp"})
}

/// Jitter is a tenth in both directions.
fn near(elapsed: Duration, seconds: f64) {
    let elapsed = elapsed.as_secs_f64();
    assert!((seconds * 0.88..=seconds * 1.12).contains(&elapsed), "{elapsed} s, not {seconds} s");
}

#[tokio::test(start_paused = true)]
async fn s4_36_the_third_failure_is_reported_and_then_only_now_and_then() {
    let fixture = Fixture::new().patient();
    fixture.add(&row(1, 1, &unreachable()));
    let begun = Instant::now();
    fixture.start(WorkerSettings::default());
    fixture.until("unhealthy", |state| state.is_unhealthy(1)).await;
    near(begun.elapsed(), 3.0);
    let told = Instant::now();
    fixture.registry.with(|state| {
        assert_eq!(state.reports.len(), 1);
        assert!(!state.report(1).unwrap().reason.is_empty());
    });
    fixture.until("told again", |state| state.reports.len() == 2).await;
    // Five minutes, at the first probe after that.
    let waited = told.elapsed().as_secs();
    assert!((300..=367).contains(&waited), "{waited} s");
    let probes = fixture.metric(r#"portico_worker_probes_total{outcome="failed"}"#);
    assert!((10..=15).contains(&probes), "{probes} probes, not backed off");
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn s4_05_nothing_is_lost_while_the_registry_is_down() {
    let fixture = Fixture::new().patient();
    fixture.registry.with(|state| state.is_down = true);
    fixture.start(WorkerSettings::default());
    let mut document = unreachable();
    document["authentication"] = json!({"type": "bearer", "token": "secret_ref:team/key"});
    let first = row(1, 1, &document);
    fixture.add(&first);
    fixture.publish(updated(&first)).await;
    // Longer than the stream delivers an event that nobody acknowledges.
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert!(!fixture.readiness.is_ready());
    assert_eq!(fixture.events.dead_letters(TOPIC, "worker").await.unwrap().len(), 1);
    // That its secret cannot be had says nothing about the server.
    assert_eq!(fixture.metric(r#"portico_worker_probes_total{outcome="failed"}"#), 0);
    fixture.registry.with(|state| {
        state.is_down = false;
        state.secrets.insert("team/key".to_owned(), "value".to_owned());
    });
    let back = Instant::now();
    fixture.until("told", |state| state.is_unhealthy(1)).await;
    assert!(back.elapsed() <= Duration::from_secs(37), "{:?}", back.elapsed());
    fixture.until("resynced", |state| state.lists > 0).await;
    assert!(fixture.readiness.is_ready());
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn s4_24_an_event_is_acknowledged_when_its_instance_was_looked_at() {
    let fixture = Fixture::new().patient();
    fixture.start(WorkerSettings::default());
    let first = row(1, 1, &unreachable());
    fixture.add(&first);
    fixture.publish(updated(&first)).await;
    fixture.until("told", |state| state.is_unhealthy(1)).await;
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert!(fixture.events.dead_letters(TOPIC, "worker").await.unwrap().is_empty());
    assert_eq!(fixture.metric(r#"portico_worker_events_total{outcome="applied"}"#), 1);
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn s4_05_a_resync_every_few_minutes_finds_what_events_missed() {
    let fixture = Fixture::new().patient();
    fixture.start(WorkerSettings::default());
    fixture.until("resynced", |state| state.lists == 1).await;
    let begun = Instant::now();
    fixture.add(&row(1, 1, &unreachable()));
    fixture.until("found", |state| state.is_unhealthy(1)).await;
    near(begun.elapsed(), 303.0);
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn another_revision_of_the_spec_starts_afresh() {
    let fixture = Fixture::new().patient();
    let first = row(1, 1, &unreachable());
    fixture.add(&first);
    fixture.start(WorkerSettings::default());
    fixture.until("unhealthy", |state| state.is_unhealthy(1)).await;
    let mut document = unreachable();
    document["health_check"] = json!({"path": "/up", "retries": 1});
    fixture.publish(updated(&row(1, 2, &document))).await;
    let changed = Instant::now();
    fixture.until("told anew", |state| state.report(1).unwrap().spec_revision == 2).await;
    assert!(changed.elapsed() < Duration::from_secs(1), "{:?}", changed.elapsed());
    fixture.stop().await;
}
