use std::time::Duration;

use bytes::Bytes;
use portico_clock::SystemClock;
use portico_coordination::Coordination;
use serde_json::json;

use super::*;
use crate::settings::WorkerSettings;
use crate::shares::Share;
use crate::tests::document::{instance, row};

fn spec(n: u32, revision: i64) -> Spec {
    let document = json!({"type": "url", "endpoint": "http://a.example/mcp"});
    Spec::of_row(row(n, revision, &document), &WorkerSettings::default()).unwrap()
}

fn everything() -> Held {
    Held { shares: Share::all().collect(), taken: 1 }
}

fn id(n: u32) -> InstanceId {
    instance(n).parse().unwrap()
}

/// Ids of events, which only a stream makes.
async fn deliveries<const N: usize>() -> [DeliveryId; N] {
    let events = Coordination::in_process(Arc::new(SystemClock)).events();
    let consumer = events.subscribe("topic", "group", "consumer").await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..N {
        events.publish("topic", "key", Bytes::new()).await.unwrap();
        ids.push(consumer.next().await.unwrap().id);
    }
    ids.try_into().unwrap()
}

#[tokio::test]
async fn an_event_is_done_when_its_revision_was_looked_at_or_superseded() {
    let [first, again, newer, older, late] = deliveries().await;
    let mut instances = Instances::default();
    assert!(matches!(instances.apply(spec(1, 3), Some(first)), Applied::New(_)));
    assert!(matches!(instances.apply(spec(1, 3), Some(first)), Applied::Known), "delivered again");
    assert!(matches!(instances.apply(spec(1, 3), Some(again)), Applied::Known));
    assert_eq!(instances.take_done(), []);

    assert!(matches!(instances.apply(spec(1, 5), Some(newer)), Applied::Known));
    assert_eq!(instances.take_done(), [first, again], "superseded");
    assert!(matches!(instances.apply(spec(1, 4), Some(older)), Applied::Superseded));
    assert_eq!(instances.take_done(), [older]);

    instances.looked(Looked { instance: id(1), revision: 3 });
    assert_eq!(instances.take_done(), [], "the newest revision was not looked at");
    instances.looked(Looked { instance: id(1), revision: 5 });
    assert_eq!(instances.take_done(), [newer]);
    instances.apply(spec(1, 5), Some(late));
    assert_eq!(instances.take_done(), [late]);
}

#[tokio::test]
async fn deleting_an_instance_finishes_what_waited_for_it_and_ends_its_watcher() {
    let [first, late] = deliveries().await;
    let mut instances = Instances::default();
    let Applied::New(mut specs) = instances.apply(spec(1, 3), Some(first)) else { panic!("it is new") };
    instances.forget_server(spec(1, 3).server);
    assert_eq!(instances.take_done(), [first]);
    assert!(specs.changed().await.is_err());
    assert!(matches!(instances.apply(spec(1, 3), Some(late)), Applied::Superseded));
    assert_eq!(instances.take_done(), [late]);
}

#[tokio::test(start_paused = true)]
async fn s4_05_a_list_that_is_older_than_an_event_does_not_undo_it() {
    let mut instances = Instances::default();
    instances.apply(spec(1, 1), None);
    instances.apply(spec(2, 2), None);
    tokio::time::advance(Duration::from_secs(1)).await;
    let started = Instant::now();
    // While the list is read, one instance is deleted and one made.
    instances.forget(id(2));
    instances.apply(spec(3, 4), None);
    let list = Resynced { started, specs: vec![spec(1, 1), spec(2, 2)] };
    assert!(instances.resync(list, &everything()).is_empty());
    assert_eq!(instances.entries.keys().copied().collect::<HashSet<_>>(), HashSet::from([id(1), id(3)]));

    tokio::time::advance(Duration::from_secs(1)).await;
    let new = instances
        .resync(Resynced { started: Instant::now(), specs: vec![spec(3, 4), spec(4, 5)] }, &everything());
    assert_eq!(new.into_iter().map(|(id, _)| id).collect::<Vec<_>>(), [id(4)]);
    assert_eq!(instances.entries.keys().copied().collect::<HashSet<_>>(), HashSet::from([id(3), id(4)]));
    assert!(instances.gone.is_empty());
}

#[tokio::test]
async fn what_refers_to_a_new_secret_is_looked_at_again_at_the_same_revision() {
    let [first, changed] = deliveries().await;
    let mut instances = Instances::default();
    let Applied::New(mut specs) = instances.apply(spec(1, 3), Some(first)) else { panic!("it is new") };
    specs.borrow_and_update();
    instances.looked(Looked { instance: id(1), revision: 3 });
    assert_eq!(instances.take_done(), [first]);
    assert!(matches!(instances.apply_again(spec(1, 3), Some(changed)), Applied::Known));
    assert!(specs.has_changed().unwrap(), "its watcher starts afresh");
    assert_eq!(instances.take_done(), [], "and is awaited");
    instances.looked(Looked { instance: id(1), revision: 3 });
    assert_eq!(instances.take_done(), [changed]);
    let mut unknown = Instances::default();
    assert!(matches!(unknown.apply_again(spec(1, 3), None), Applied::New(_)), "its creation was missed");
}

#[tokio::test]
async fn what_another_worker_holds_is_watched_no_longer() {
    let mut instances = Instances::default();
    let Applied::New(mut specs) = instances.apply(spec(1, 3), None) else { panic!("it is new") };
    instances.keep(&everything());
    assert!(!specs.has_changed().unwrap());
    instances.keep(&Held::default());
    assert!(specs.changed().await.is_err());
    let list = Resynced { started: Instant::now(), specs: vec![spec(1, 3)] };
    assert!(instances.resync(list, &Held::default()).is_empty());
}
