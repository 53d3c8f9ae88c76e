//! What only Redis does: two processes, and bounds that hold there.

use std::time::Duration;

use bytes::Bytes;
use redis::Value;
use tokio::time::timeout;

use super::*;
use crate::contract::{
    eventually,
    in_redis::{self, Replica},
};

const A: Bytes = Bytes::from_static(b"a");

fn small() -> StreamSettings {
    StreamSettings { capacity: 4, max_attempts: 1, visibility_timeout: Duration::from_millis(300) }
}

async fn length(replica: &Replica, key: &str) -> i64 {
    match replica.command(&["XLEN", key]).await {
        Value::Int(length) => length,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn s4_01_replicas_share_the_events_of_a_topic() {
    let Some(url) = in_redis::url() else { return };
    let deployment = in_redis::new_deployment();
    let (one, two) = (Replica::of(&url, &deployment), Replica::of(&url, &deployment));
    let foreign = Replica::of(&url, &in_redis::new_deployment());
    let first = one.coordination.events().subscribe("t", "g", "one").await.unwrap();
    let second = two.coordination.events().subscribe("t", "g", "two").await.unwrap();
    let theirs = foreign.coordination.events().subscribe("t", "g", "one").await.unwrap();
    for key in ["1", "2"] {
        two.coordination.events().publish("t", key, A).await.unwrap();
    }
    let (a, b) = (first.next().await.unwrap(), second.next().await.unwrap());
    assert_eq!((a.key.as_str(), b.key.as_str()), ("1", "2"));
    // The bell wakes a consumer of another process at once.
    first.ack(a.id).await.unwrap();
    second.ack(b.id).await.unwrap();
    let published = async {
        tokio::task::yield_now().await;
        two.coordination.events().publish("t", "3", A).await.unwrap();
    };
    let (woken, ()) = tokio::join!(timeout(remote::LISTEN / 2, first.next()), published);
    assert_eq!(woken.unwrap().unwrap().key, "3");
    assert!(timeout(Duration::from_millis(100), theirs.next()).await.is_err(), "deployments do not meet");
}

#[tokio::test]
async fn a_topic_is_bounded_and_refuses_while_a_group_is_behind() {
    let Some(url) = in_redis::url() else { return };
    let replica = Replica::with(&url, &in_redis::new_deployment(), small());
    let (events, stream) = (replica.coordination.events(), replica.key("topic", "t"));
    for n in 0..9 {
        events.publish("t", &n.to_string(), A).await.unwrap();
    }
    assert_eq!(length(&replica, &stream).await, 4, "without a group the oldest make room");

    let (slow, fast) = (events.subscribe("t", "slow", "1").await, events.subscribe("t", "fast", "1").await);
    let (slow, fast) = (slow.unwrap(), fast.unwrap());
    for n in 5..9 {
        let event = fast.next().await.unwrap();
        assert_eq!(event.key, n.to_string());
        fast.ack(event.id).await.unwrap();
    }
    let refused = events.publish("t", "9", A).await;
    assert!(matches!(refused, Err(CoordinationError::Full { capacity: 4, .. })), "{refused:?}");

    let event = slow.next().await.unwrap();
    slow.ack(event.id).await.unwrap();
    assert_eq!(length(&replica, &stream).await, 3, "what every group has acknowledged is dropped");
    events.publish("t", "9", A).await.unwrap();
    assert_eq!(fast.next().await.unwrap().key, "9");
    let large = events.publish("t", "k", vec![0; PAYLOAD_LIMIT].into()).await;
    assert!(matches!(large, Err(CoordinationError::TooLarge { .. })));
}

#[tokio::test]
async fn dead_letters_are_bounded_and_counted() {
    let Some(url) = in_redis::url() else { return };
    let replica = Replica::with(&url, &in_redis::new_deployment(), small());
    let events = replica.coordination.events();
    let consumer = events.subscribe("t", "g", "1").await.unwrap();
    for n in 0..6 {
        events.publish("t", &n.to_string(), A).await.unwrap();
        let poison = consumer.next().await.unwrap();
        assert_eq!((poison.key, poison.attempt), (n.to_string(), 1));
        // It is abandoned, and found so while waiting for the next.
        let buried = eventually("a dead letter", async || {
            replica.metric("portico_coordination_dead_letters_total") == n + 1
        });
        tokio::select! {
            again = consumer.next() => panic!("{again:?}"),
            () = buried => {}
        }
    }
    let letters = events.dead_letters("t", "g").await.unwrap();
    let keys: Vec<_> = letters.iter().map(|letter| letter.key.as_str()).collect();
    assert_eq!(keys, ["2", "3", "4", "5"]);
    assert!(letters.windows(2).all(|pair| pair[0].id < pair[1].id));
    assert_eq!(replica.metric("portico_coordination_dead_letters_total"), 6);
    replica.assert_every_key_is_bounded().await;
}

#[tokio::test]
async fn a_cancelled_wait_keeps_the_event_that_was_on_its_way() {
    let Some(replica) = in_redis::replica() else { return };
    let events = replica.coordination.events();
    let consumer = events.subscribe("t", "g", "1").await.unwrap();
    for n in 0..50 {
        events.publish("t", &n.to_string(), A).await.unwrap();
    }
    for n in 0..50 {
        // Cancelled while the question is on its way: its answer is kept for the next wait.
        let cancelled = timeout(Duration::ZERO, consumer.next()).await;
        let event = match cancelled {
            Ok(event) => event.unwrap(),
            Err(_) => consumer.next().await.unwrap(),
        };
        assert_eq!((event.key.as_str(), event.attempt), (n.to_string().as_str(), 1));
        consumer.ack(event.id).await.unwrap();
    }
}

#[tokio::test]
async fn a_consumer_that_was_not_seen_for_long_is_forgotten() {
    let Some(replica) = in_redis::replica() else { return };
    let events = replica.coordination.events();
    drop(events.subscribe("t", "g", "1").await.unwrap());
    let stream = replica.key("topic", "t");
    for name in ["old", "busy"] {
        replica.command(&["XGROUP", "CREATECONSUMER", &stream, "g", name]).await;
    }
    events.publish("t", "k", A).await.unwrap();
    replica.command(&["XREADGROUP", "GROUP", "g", "busy", "COUNT", "1", "STREAMS", &stream, ">"]).await;
    let join = redis::Script::new(include_str!("join.lua"));
    let mut invocation = join.key(&stream);
    // As if a day had passed.
    invocation.arg("g").arg(-1);
    invocation.invoke_async::<()>(&mut replica.raw().await).await.unwrap();
    let consumers = format!("{:?}", replica.command(&["XINFO", "CONSUMERS", &stream, "g"]).await);
    let named = |name: &str| consumers.contains(&format!("{:?}", Value::BulkString(name.into())));
    assert!(named("busy") && !named("old"), "{consumers}");
}
