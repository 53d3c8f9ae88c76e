use std::{sync::Arc, time::Duration};

use portico_clock::{MockClock, SharedClock};
use portico_coordination::{Consumer, Coordination, EventStream, Leases, StreamSettings};
use portico_ids::{SeededRng, SharedRng};
use portico_sealing::{HandleSealer, KeyRing};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    Db, Duty, on_db, revision, scalar,
    testing::{databases, schema_with},
};

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp_micros(1_800_000_000_123_456).unwrap()
}

fn clock() -> SharedClock {
    Arc::new(MockClock::at(now()))
}

const KIND: &str = "test.event";

fn handles() -> HandleSealer {
    let rng: SharedRng = Arc::new(SeededRng::new(5));
    let dir = tempfile::tempdir().unwrap();
    HandleSealer::new(&KeyRing::generate_file(&dir.path().join("keys.json"), &*rng).unwrap(), rng)
}

fn stream(capacity: usize) -> EventStream {
    let settings = StreamSettings { capacity, ..StreamSettings::default() };
    Coordination::in_process_with(clock(), settings).events()
}

fn relay(db: &Db, stream: &EventStream, leases: Leases, replica: &str) -> Relay {
    let duty = Duty::new(leases, "outbox", replica, Duration::from_secs(5));
    Relay::new(db.clone(), Outlet { stream: stream.clone(), handles: handles(), kind: KIND }, clock(), duty)
}

fn alone(db: &Db, stream: &EventStream) -> Relay {
    relay(db, stream, Coordination::in_process(clock()).leases(), "only")
}

async fn change(db: &Db, payload: String) {
    let mut tx = db.begin_write().await.unwrap();
    revision::take(&mut tx).await.unwrap();
    append(&mut tx, &Event { topic: "t", key: "k", payload: payload.as_bytes() }, now()).await.unwrap();
    tx.commit().await.unwrap();
}

async fn waiting(db: &Db) -> i64 {
    const SQL: &str = "SELECT count(*) FROM outbox WHERE published_at IS NULL";
    on_db!(db, pool => sqlx::query(SQL).try_map(scalar).fetch_one(pool).await.unwrap())
}

async fn next(consumer: &Consumer) -> String {
    let delivery = consumer.next().await.unwrap();
    consumer.ack(delivery.id).await.unwrap();
    let sealed = String::from_utf8(delivery.payload.to_vec()).unwrap();
    assert!(handles().open(KIND, b"elsewhere", &sealed).is_none(), "only what this topic was told");
    String::from_utf8(handles().open(KIND, b"t", &sealed).unwrap()).unwrap()
}

#[tokio::test]
async fn events_are_published_in_commit_order_and_marked() {
    for (label, db, _guard) in databases(&schema_with("", "")).await {
        let stream = stream(1000);
        for n in 0..250 {
            change(&db, n.to_string()).await;
        }
        let relay = alone(&db, &stream);
        let bell = relay.bell();
        let shutdown = CancellationToken::new();
        let consumer = stream.subscribe("t", "g", "c").await.unwrap();
        let check = async {
            for n in 0..250 {
                assert_eq!(next(&consumer).await, n.to_string(), "{label}");
            }
            change(&db, "last".to_owned()).await;
            bell.ring();
            assert_eq!(next(&consumer).await, "last", "{label}");
            // The mark follows the publication; a further event tells that the pass before it has ended.
            while waiting(&db).await > 0 {
                tokio::task::yield_now().await;
            }
            shutdown.cancel();
        };
        let (ended, ()) = tokio::join!(relay.run(shutdown.clone()), check);
        ended.unwrap();
    }
}

#[tokio::test]
async fn an_undone_change_tells_nobody() {
    for (label, db, _guard) in databases(&schema_with("", "")).await {
        let mut tx = db.begin_write().await.unwrap();
        append(&mut tx, &Event { topic: "t", key: "k", payload: b"undone" }, now()).await.unwrap();
        drop(tx);
        assert_eq!(waiting(&db).await, 0, "{label}");
    }
}

#[tokio::test]
async fn nothing_is_lost_while_a_consumer_is_behind() {
    for (label, db, _guard) in databases(&schema_with("", "")).await {
        let stream = stream(2);
        let consumer = stream.subscribe("t", "g", "c").await.unwrap();
        for n in 0..5 {
            change(&db, n.to_string()).await;
        }
        let shutdown = CancellationToken::new();
        let relay = alone(&db, &stream);
        let check = async {
            while waiting(&db).await > 3 {
                tokio::task::yield_now().await;
            }
            assert_eq!(waiting(&db).await, 3, "{label}: the stream is full, the rest waits");
            for n in 0..5 {
                assert_eq!(next(&consumer).await, n.to_string(), "{label}");
            }
            shutdown.cancel();
        };
        let (ended, ()) = tokio::join!(relay.run(shutdown.clone()), check);
        ended.unwrap();
    }
}

#[tokio::test]
async fn s0_26_s2_29_of_two_relays_one_publishes_and_the_other_takes_over_without_loss_or_repetition() {
    for (label, db, _guard) in databases(&schema_with("", "")).await {
        let (stream, leases) = (stream(1000), Coordination::in_process(clock()).leases());
        let consumer = stream.subscribe("t", "g", "c").await.unwrap();
        let (first, second) = (relay(&db, &stream, leases.clone(), "a"), relay(&db, &stream, leases, "b"));
        let bells = [first.bell(), second.bell()];
        let (first_ends, second_ends) = (CancellationToken::new(), CancellationToken::new());
        let check = async {
            for n in 0..300 {
                change(&db, n.to_string()).await;
                bells.iter().for_each(Bell::ring);
                if n == 150 {
                    first_ends.cancel();
                }
            }
            for n in 0..300 {
                assert_eq!(next(&consumer).await, n.to_string(), "{label}");
            }
            while waiting(&db).await > 0 {
                tokio::task::yield_now().await;
            }
            second_ends.cancel();
        };
        let (a, b, ()) = tokio::join!(first.run(first_ends.clone()), second.run(second_ends.clone()), check);
        assert!(a.is_ok() && b.is_ok());
        let more = tokio::time::timeout(Duration::from_millis(1), consumer.next()).await;
        assert!(more.is_err(), "{label}: nothing was published twice");
    }
}
