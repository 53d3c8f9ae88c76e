//! Health, events and resync with servers that answer.

use portico_proto_events::event::Payload;
use portico_proto_events::{SEALED_AS, ServerDeleted, TOPIC};
use serde_json::json;

use super::document::{deleted, event, row, server, updated};
use super::fixture::{Fixture, State, quick};
use super::upstream::{Behaviour, Upstream};
use crate::WorkerSettings;

const HEALTHY: &str = r#"portico_worker_instances{status="healthy"}"#;

/// Quick probes, and one discovery.
fn steady() -> WorkerSettings {
    WorkerSettings { discovery_interval_ms: 3_600_000, ..quick() }
}

#[tokio::test]
async fn s0_10_a_slow_instance_does_not_delay_the_others() {
    let fixture = Fixture::new();
    let start = |hangs_on| Upstream::start(Behaviour { hangs_on, ..Behaviour::default() }, &fixture.tasks);
    let (mute, endless, well) = (start(Some("server/discover")), start(Some("tools/list")), start(None));
    fixture.start(WorkerSettings {
        probe_timeout_ms: 60_000,
        request_timeout_ms: 60_000,
        concurrent_probes: 2,
        concurrent_discoveries: 2,
        ..quick()
    });
    for (n, upstream) in [(1, &mute), (2, &endless)] {
        let row = row(n, i64::from(n), &upstream.document());
        fixture.add(&row);
        fixture.publish(updated(&row)).await;
    }
    mute.until("asked", |seen| !seen.requests.is_empty()).await;
    endless.until("asked", |seen| seen.count("tools/list") > 0).await;
    let third = row(3, 3, &well.document());
    fixture.add(&third);
    fixture.publish(updated(&third)).await;
    fixture.until("the third", |state| state.is_healthy(3) && !state.names(3).is_empty()).await;
    fixture.registry.with(|state| {
        assert!(state.report(1).is_none(), "still under way");
        assert!(state.is_healthy(2), "well, although its list never ends");
    });
    fixture.stop().await;
}

#[tokio::test]
async fn s4_05_what_happened_while_the_worker_was_down_is_repaired() {
    let fixture = Fixture::new();
    let upstream = Upstream::start(Behaviour::default(), &fixture.tasks);
    // Known to the registry only: their events are lost.
    fixture.add(&row(1, 1, &upstream.document()));
    fixture.add(&row(2, 2, &upstream.document()));
    // Deleted since, but an older event of it still arrives: the registry's word ends it.
    fixture.publish(updated(&row(3, 3, &upstream.document()))).await;
    assert!(!fixture.readiness.is_ready());
    fixture.start(steady());
    fixture.until("both", |state| state.is_healthy(1) && state.is_healthy(2)).await;
    assert!(fixture.readiness.is_ready());
    fixture.registry.with(|state| assert!(state.report(3).is_none()));
    fixture.stop().await;
}

#[tokio::test]
async fn s4_05_a_resync_drops_instances_that_the_registry_does_not_know() {
    let fixture = Fixture::new();
    let upstream = Upstream::start(Behaviour::default(), &fixture.tasks);
    fixture.add(&row(1, 1, &upstream.document()));
    fixture.start(WorkerSettings { resync_interval_ms: 10, ..steady() });
    fixture.until("healthy", |state| state.is_healthy(1) && !state.names(1).is_empty()).await;
    assert_eq!(fixture.metric(HEALTHY), 1);
    let lists = fixture.registry.with(|state| {
        state.specs.clear();
        state.lists
    });
    fixture.until("resynced", |state| state.lists >= lists + 4).await;
    assert_eq!(fixture.metric(HEALTHY), 0);
    fixture.stop().await;
}

#[tokio::test]
async fn s2_09_s4_24_an_event_makes_the_worker_look_at_once() {
    let fixture = Fixture::new();
    let upstream = Upstream::start(Behaviour::default(), &fixture.tasks);
    fixture.start(steady());
    fixture.until("resynced", |state| state.lists == 1).await;
    let first = row(1, 1, &upstream.document());
    fixture.add(&first);
    fixture.publish(updated(&first)).await;
    fixture.until("looked", |state| state.is_healthy(1) && !state.names(1).is_empty()).await;
    // A newer revision is looked at, an older one is not.
    fixture.publish(updated(&row(1, 5, &upstream.document()))).await;
    fixture.publish(updated(&row(1, 4, &upstream.document()))).await;
    let newer = |state: &State| state.report(1).is_some_and(|report| report.spec_revision == 5);
    fixture.until("the newer revision", newer).await;
    fixture.publish(event(6, Payload::ServerDeleted(ServerDeleted { server_id: server(1) }))).await;
    let second = row(2, 7, &upstream.document());
    fixture.add(&second);
    fixture.publish(updated(&second)).await;
    fixture.until("the other one", |state| state.is_healthy(2)).await;
    fixture.registry.with(|state| assert!(state.reports.iter().all(|report| report.spec_revision != 4)));
    assert_eq!(fixture.metric(HEALTHY), 1);
    assert_eq!(fixture.metric(r#"portico_worker_events_total{outcome="superseded"}"#), 1);
    fixture.stop().await;
}

#[tokio::test]
async fn s4_30_s4_36_failures_in_a_row_make_unhealthy_and_one_success_heals() {
    let fixture = Fixture::new();
    let upstream = Upstream::start(Behaviour::default(), &fixture.tasks);
    let mut document = upstream.document();
    document["health_check"] = json!({"path": "/health", "interval": 0.1, "timeout": 2, "retries": 4});
    fixture.add(&row(1, 1, &document));
    fixture.start(steady());
    fixture.until("healthy", |state| state.is_healthy(1) && !state.names(1).is_empty()).await;
    fixture.registry.with(|state| {
        assert_eq!(state.report(1).unwrap().protocol_versions, ["2026-07-28", "2025-11-25"]);
    });
    let before = upstream.seen(|seen| seen.count("GET /health"));
    upstream.behave(|behaviour| behaviour.health = 503);
    fixture.until("unhealthy", |state| state.is_unhealthy(1)).await;
    assert!(upstream.seen(|seen| seen.count("GET /health")) >= before + 4);
    fixture.registry.with(|state| {
        assert_eq!(state.report(1).unwrap().reason, "the server answered with status 503");
        // Healthy without versions, then with, then unhealthy: unchanged health is not written again.
        assert_eq!(state.reports.len(), 3);
    });
    upstream.behave(|behaviour| behaviour.health = 204);
    fixture.until("healed", |state| state.is_healthy(1)).await;
    fixture.stop().await;
}

#[tokio::test]
async fn a_deleted_instance_is_left_alone() {
    let fixture = Fixture::new();
    let upstream = Upstream::start(Behaviour { has_sessions: false, ..Behaviour::default() }, &fixture.tasks);
    let first = row(1, 1, &upstream.document());
    fixture.add(&first);
    fixture.start(steady());
    fixture.until("healthy", |state| state.is_healthy(1)).await;
    fixture.publish(deleted(1, 2)).await;
    // An older event that is delivered again does not bring it back.
    fixture.publish(updated(&first)).await;
    let other = Upstream::start(Behaviour::default(), &fixture.tasks);
    let second = row(2, 3, &other.document());
    fixture.add(&second);
    fixture.publish(updated(&second)).await;
    fixture.until("the event after it", |state| state.is_healthy(2)).await;
    let asked = upstream.seen(|seen| seen.requests.len());
    other.until("many probes later", |seen| seen.requests.len() > 12).await;
    // One request may have been on its way.
    assert!(upstream.seen(|seen| seen.requests.len()) <= asked + 1);
    fixture.stop().await;
}

#[tokio::test]
async fn of_several_instances_the_oldest_speaks_for_the_server() {
    let fixture = Fixture::new();
    let old = Upstream::start(Behaviour { tools: 1, ..Behaviour::default() }, &fixture.tasks);
    let new = Upstream::start(Behaviour::default(), &fixture.tasks);
    fixture.add(&row(1, 1, &old.document()));
    fixture.start(quick());
    fixture.until("the older one", |state| state.names(1).len() == 3).await;
    let mut second = row(2, 2, &new.document());
    second.server_id = server(1);
    fixture.add(&second);
    fixture.publish(updated(&second)).await;
    fixture.until("both are well", |state| state.is_healthy(1) && state.is_healthy(2)).await;
    new.until("probed often", |seen| seen.requests.len() > 12).await;
    assert_eq!(new.seen(|seen| seen.count("tools/list")), 0);
    old.behave(|behaviour| behaviour.status = Some(503));
    fixture.until("the younger one speaks now", |state| state.names(1).len() == 5).await;
    fixture.stop().await;
}

#[tokio::test]
async fn an_unreadable_event_is_set_aside_and_stops_nothing() {
    let fixture = Fixture::new();
    fixture.start(steady());
    fixture.publish_raw(fixture.handles.seal(SEALED_AS, TOPIC.as_bytes(), b"\xff\xff")).await;
    let upstream = Upstream::start(Behaviour::default(), &fixture.tasks);
    let first = row(1, 1, &upstream.document());
    fixture.add(&first);
    fixture.publish(updated(&first)).await;
    fixture.until("the event after it", |state| state.is_healthy(1)).await;
    assert_eq!(fixture.metric(r#"portico_worker_events_total{outcome="invalid"}"#), 1);
    fixture.stop().await;
}
