//! What the worker finds out about servers of every kind.

use portico_process::Tasks;
use portico_proto_registry::CapabilityKind;
use serde_json::json;

use super::document::{instance, row, server, updated};
use super::fixture::{Fixture, State, quick};
use super::upstream::{Behaviour, RAW_TOOL, Upstream};

fn everything() -> Vec<(CapabilityKind, String)> {
    vec![
        (CapabilityKind::Tool, "tool-0".to_owned()),
        (CapabilityKind::Tool, "tool-1".to_owned()),
        (CapabilityKind::Tool, "tool-2".to_owned()),
        (CapabilityKind::Resource, "file:///a".to_owned()),
        (CapabilityKind::ResourceTemplate, "file:///{x}".to_owned()),
    ]
}

/// Looks at one server until its capabilities are known.
async fn looked_at(behaviour: Behaviour) -> (Fixture, Upstream) {
    let fixture = Fixture::new();
    let upstream = Upstream::start(behaviour, &fixture.tasks);
    fixture.add(&row(1, 1, &upstream.document()));
    fixture.start(quick());
    fixture.until("capabilities", |state| state.is_healthy(1) && !state.names(1).is_empty()).await;
    (fixture, upstream)
}

/// Waits for a moment between two probes at which the server has no session.
async fn closes_all(fixture: Fixture, upstream: Upstream) {
    upstream.until("every session is closed", |seen| seen.opened > 0 && seen.open.is_empty()).await;
    fixture.stop().await;
}

#[tokio::test]
async fn s1_05_a_stateless_server_is_listed_page_by_page() {
    let behaviour = Behaviour { has_sessions: false, ..Behaviour::default() };
    let (fixture, upstream) = looked_at(behaviour).await;
    fixture.registry.with(|state| {
        assert_eq!(state.names(1), everything());
        assert_eq!(state.report(1).unwrap().protocol_versions, ["2026-07-28"]);
        let found = &state.capabilities[&server(1)];
        assert_eq!(found[0].definition_json, RAW_TOOL, "bytes as the server wrote them");
        assert_eq!((found[0].title.as_str(), found[0].description.as_str()), ("Zero", "counts"));
        assert_eq!(found[3].title, "A");
        assert_eq!(state.callers.iter().collect::<Vec<_>>(), ["worker"]);
    });
    assert_eq!(upstream.seen(|seen| seen.opened), 0);
    fixture.stop().await;
}

#[tokio::test]
async fn s1_05_a_session_server_is_listed_over_sse_and_every_session_is_closed() {
    let behaviour =
        Behaviour { is_stateless: false, streams: true, revision: "2025-06-18", ..Behaviour::default() };
    let (fixture, upstream) = looked_at(behaviour).await;
    fixture.registry.with(|state| {
        assert_eq!(state.names(1), everything());
        assert_eq!(state.report(1).unwrap().protocol_versions, ["2025-06-18"]);
        assert_eq!(state.capabilities[&server(1)][0].definition_json, RAW_TOOL);
    });
    upstream.until("more sessions for probes", |seen| seen.opened > 3).await;
    let begun: Vec<String> = upstream.seen(|seen| seen.requests.iter().take(4).cloned().collect());
    assert_eq!(begun, ["server/discover", "initialize", "notifications/initialized", "tools/list"]);
    closes_all(fixture, upstream).await;
}

#[tokio::test]
async fn both_eras_are_recorded_when_a_server_speaks_both() {
    let (fixture, upstream) = looked_at(Behaviour::default()).await;
    fixture.registry.with(|state| {
        assert_eq!(state.report(1).unwrap().protocol_versions, ["2026-07-28", "2025-11-25"]);
    });
    closes_all(fixture, upstream).await;
}

#[tokio::test]
async fn a_server_that_changes_its_era_stays_healthy() {
    let behaviour = Behaviour { has_sessions: false, ..Behaviour::default() };
    let (fixture, upstream) = looked_at(behaviour).await;
    upstream.behave(|behaviour| {
        behaviour.is_stateless = false;
        behaviour.has_sessions = true;
    });
    let new_era =
        |state: &super::fixture::State| state.report(1).unwrap().protocol_versions == ["2025-11-25"];
    fixture.until("the new era", new_era).await;
    fixture.registry.with(|state| assert!(state.reports.iter().all(|report| report.reason.is_empty())));
    closes_all(fixture, upstream).await;
}

#[tokio::test]
async fn the_instances_own_credential_is_sent_and_a_new_one_is_picked_up() {
    let fixture = Fixture::new();
    let behaviour = Behaviour { token: Some("canary-1"), ..Behaviour::default() };
    let upstream = Upstream::start(behaviour, &fixture.tasks);
    let mut document = upstream.document();
    document["authentication"] = json!({"type": "bearer", "token": "secret_ref:team/key"});
    fixture.add(&row(1, 1, &document));
    fixture.start(quick());
    fixture.until("the missing secret is told", |state| state.is_unhealthy(1)).await;
    assert!(upstream.seen(|seen| seen.requests.is_empty()), "nothing is sent without the credential");
    fixture.registry.with(|state| {
        let reason = &state.report(1).unwrap().reason;
        assert!(reason.contains("team/key"), "{reason}");
        state.secrets.insert("team/key".to_owned(), "canary-1\n".to_owned());
    });
    fixture.until("healed", |state| state.is_healthy(1)).await;
    fixture.registry.with(|state| {
        assert!(state.resolved.iter().all(|purpose| *purpose == format!("instance/{}", instance(1))));
    });
    // Rotated at the server first: the worker notices by the refusal.
    upstream.behave(|behaviour| behaviour.token = Some("canary-2"));
    fixture.until("the refusal is told", |state| state.is_unhealthy(1)).await;
    fixture.registry.with(|state| {
        assert!(state.report(1).unwrap().reason.contains("authentication.token"));
        assert!(!format!("{:?}", state.reports).contains("canary"));
        state.secrets.insert("team/key".to_owned(), "canary-2".to_owned());
    });
    fixture.until("healed again", |state| state.is_healthy(1)).await;
    fixture.stop().await;
}

#[tokio::test]
async fn probes_go_on_with_the_known_credential_while_the_registry_is_down() {
    let fixture = Fixture::new();
    let behaviour = Behaviour { token: Some("canary"), has_sessions: false, ..Behaviour::default() };
    let upstream = Upstream::start(behaviour, &fixture.tasks);
    let mut document = upstream.document();
    document["authentication"] = json!({"type": "bearer", "token": "secret_ref:team/key"});
    fixture.add(&row(1, 1, &document));
    fixture.registry.with(|state| state.secrets.insert("team/key".to_owned(), "canary".to_owned()));
    fixture.start(quick());
    fixture.until("healthy", |state| state.is_healthy(1) && !state.names(1).is_empty()).await;
    fixture.registry.with(|state| state.is_down = true);
    let lists = upstream.seen(|seen| seen.count("tools/list"));
    upstream.until("discovered again", |seen| seen.count("tools/list") >= lists + 9).await;
    fixture.stop().await;
}

#[tokio::test]
async fn a_session_whose_work_is_cancelled_is_closed_too() {
    let fixture = Fixture::new();
    let behaviour = Behaviour { is_stateless: false, hangs_on: Some("tools/list"), ..Behaviour::default() };
    let upstream = Upstream::start(behaviour, &fixture.tasks);
    fixture.add(&row(1, 1, &upstream.document()));
    fixture.start(quick());
    upstream.until("the list is asked for", |seen| seen.count("tools/list") > 0).await;
    assert_eq!(upstream.seen(|seen| seen.open.len()), 1);
    upstream.behave(|behaviour| behaviour.hangs_on = None);
    fixture.publish(updated(&row(1, 2, &upstream.document()))).await;
    fixture.until("the newer revision", |state| state.report(1).is_some_and(|r| r.spec_revision == 2)).await;
    closes_all(fixture, upstream).await;
}

#[tokio::test]
async fn shutdown_closes_the_sessions_that_are_open() {
    let fixture = Fixture::new();
    // The servers of a test live as long as its tasks: this one has to outlive the worker.
    let servers = Tasks::new();
    let behaviour = Behaviour { is_stateless: false, hangs_on: Some("tools/list"), ..Behaviour::default() };
    let upstream = Upstream::start(behaviour, &servers);
    fixture.add(&row(1, 1, &upstream.document()));
    fixture.start(quick());
    upstream.until("the list is asked for", |seen| seen.count("tools/list") > 0).await;
    fixture.stop().await;
    assert!(upstream.seen(|seen| seen.opened == 1 && seen.open.is_empty()));
}

#[tokio::test]
async fn an_answer_above_the_size_limit_is_not_taken_and_the_server_stays_healthy() {
    let fixture = Fixture::new();
    let behaviour = Behaviour { padding: 9 * 1024 * 1024, ..Behaviour::default() };
    let upstream = Upstream::start(behaviour, &fixture.tasks);
    fixture.add(&row(1, 1, &upstream.document()));
    fixture.start(quick());
    upstream.until("listed again", |seen| seen.count("tools/list") > 1).await;
    let told = |state: &State| state.report(1).map(|report| report.reason.clone()).unwrap_or_default();
    fixture
        .until("the owner can read it", |state| told(state).starts_with("its lists cannot be read: "))
        .await;
    fixture.registry.with(|state| {
        assert!(state.is_healthy(1));
        assert_eq!(state.capability_reports, 0);
    });
    assert!(fixture.metric(r#"portico_worker_discoveries_total{outcome="failed"}"#) >= 1);
    upstream.behave(|behaviour| behaviour.padding = 0);
    fixture.until("capabilities", |state| state.capability_reports == 1).await;
    fixture.until("the owner need not read it any more", |state| told(state).is_empty()).await;
    fixture.stop().await;
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_the_owner_is_told_what_to_register() {
    let fixture = Fixture::new();
    let behaviour = Behaviour { status: Some(308), ..Behaviour::default() };
    let upstream = Upstream::start(behaviour, &fixture.tasks);
    fixture.add(&row(1, 1, &upstream.document()));
    fixture.start(quick());
    fixture.until("unhealthy", |state| state.is_unhealthy(1)).await;
    let reason = fixture.registry.with(|state| state.report(1).unwrap().reason.clone());
    assert!(reason.contains("308") && reason.contains("register the address"), "{reason}");
    fixture.stop().await;
}

#[tokio::test]
async fn capabilities_are_reported_again_only_when_they_change() {
    let (fixture, upstream) = looked_at(Behaviour::default()).await;
    let lists = upstream.seen(|seen| seen.count("tools/list"));
    upstream.until("listed again", |seen| seen.count("tools/list") >= lists + 7).await;
    assert_eq!(fixture.registry.with(|state| state.capability_reports), 1);
    upstream.behave(|behaviour| behaviour.tools = 2);
    fixture.until("the tool that went", |state| state.names(1).len() == 4).await;
    fixture.stop().await;
}
