//! What somebody can do who may write to the event stream and to mailboxes: nothing but be counted.

use std::time::Duration;

use portico_proto_events::event::Payload;
use portico_proto_events::{Event, SEALED_AS, ServerDeleted, TOPIC};
use prost::Message as _;
use serde_json::json;

use super::document::{deleted, event, row, server, updated};
use super::fixture::{Fixture, State, quick, sealer};
use super::upstream::{Behaviour, Upstream};
use crate::WorkerSettings;
use crate::division::Holders;
use crate::forwarding;
use crate::shares::Share;

const FORGED: &str = r#"portico_worker_events_total{outcome="forged"}"#;

fn with_bearer(upstream: &Upstream) -> serde_json::Value {
    let mut document = upstream.document();
    document["authentication"] = json!({"type": "bearer", "token": "secret_ref:team/key"});
    document
}

/// Everything that somebody without the keys, or with a sealed text of another kind, can say in the event's words.
fn forgeries(fixture: &Fixture, event: &Event) -> [Vec<u8>; 4] {
    let bytes = event.encode_to_vec();
    let mut cut = fixture.handles.seal(SEALED_AS, TOPIC.as_bytes(), &bytes);
    cut.truncate(cut.len() - 4);
    [
        sealer(2).seal(SEALED_AS, TOPIC.as_bytes(), &bytes).into_bytes(),
        fixture.handles.seal("page", TOPIC.as_bytes(), &bytes).into_bytes(),
        cut.into_bytes(),
        bytes,
    ]
}

#[tokio::test]
async fn s4_04_forged_events_and_letters_send_no_credential_anywhere_and_block_no_change() {
    let fixture = Fixture::new();
    let behaviour = Behaviour { token: Some("value"), ..Behaviour::default() };
    let start = || Upstream::start(behaviour.clone(), &fixture.tasks);
    let (victim, thief, moved) = (start(), start(), start());
    fixture.registry.with(|state| state.secrets.insert("team/key".to_owned(), "value".to_owned()));
    fixture.add(&row(1, 1, &with_bearer(&victim)));
    fixture.start(WorkerSettings { discovery_interval_ms: 3_600_000, ..quick() });
    fixture.until("healthy", |state| state.is_healthy(1) && !state.names(1).is_empty()).await;

    let holders = Holders::new(&fixture.coordination);
    let holder = holders.of(Share::of(server(1).parse().unwrap())).await.unwrap().unwrap();
    let huge = 1_000_000_000;
    for forged in [updated(&row(1, huge, &with_bearer(&thief))), deleted(1, huge)] {
        for payload in forgeries(&fixture, &forged) {
            let mailbox = fixture.coordination.mailbox();
            mailbox.send(&forwarding::address(&holder), payload.clone().into()).await.unwrap();
            fixture.publish_raw(payload).await;
        }
    }
    let change = row(1, 2, &with_bearer(&moved));
    fixture.add(&change);
    fixture.publish(updated(&change)).await;
    let newer = |state: &State| state.report(1).is_some_and(|report| report.spec_revision == 2);
    fixture.until("the genuine change", newer).await;
    // Letters travel beside the stream.
    let counted = async {
        while fixture.metric(FORGED) < 16 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let counted = tokio::time::timeout(Duration::from_secs(10), counted).await;
    assert!(counted.is_ok(), "{} of 16 were noticed", fixture.metric(FORGED));
    thief.seen(|seen| assert!(seen.requests.is_empty(), "{:?}", seen.requests));
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_forged_event_does_not_come_back_and_is_not_kept_for_people() {
    let fixture = Fixture::new().patient();
    fixture.start(WorkerSettings::default());
    fixture.publish_raw(event(1, Payload::ServerDeleted(ServerDeleted::default())).encode_to_vec()).await;
    fixture.publish_raw(&b"\xff\xff"[..]).await;
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(fixture.metric(FORGED), 2);
    assert!(fixture.events.dead_letters(TOPIC, "worker").await.unwrap().is_empty());
    fixture.stop().await;
}

#[tokio::test]
async fn s4_04_a_replayed_event_of_an_older_spec_sends_no_credential_to_the_address_that_was_left() {
    let fixture = Fixture::new();
    let behaviour = Behaviour { token: Some("value"), ..Behaviour::default() };
    let start = || Upstream::start(behaviour.clone(), &fixture.tasks);
    let (left, moved) = (start(), start());
    fixture.registry.with(|state| state.secrets.insert("team/key".to_owned(), "value".to_owned()));
    fixture.start(WorkerSettings { discovery_interval_ms: 3_600_000, ..quick() });
    fixture.until("resynced", |state| state.lists == 1).await;
    // To this worker the old event is news: it was not there when the instance moved.
    let newest = row(1, 5, &with_bearer(&moved));
    fixture.add(&newest);
    fixture.publish(updated(&row(1, 1, &with_bearer(&left)))).await;
    let refused = r#"portico_worker_registry_calls_total{method="resolve_secrets",outcome="failed"}"#;
    let asked = async {
        while fixture.metric(refused) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(10), asked).await.is_ok(), "it never asked");
    fixture.publish(updated(&newest)).await;
    fixture.until("the newest", |state| state.is_healthy(1)).await;
    left.seen(|seen| assert!(seen.requests.is_empty(), "{:?}", seen.requests));
    fixture.stop().await;
}
