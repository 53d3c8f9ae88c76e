use std::{collections::HashSet, time::Duration};

use bytes::Bytes;
use tokio::time::timeout;

use super::Suite;
use crate::{Consumer, EventStream};

async fn publish(stream: &EventStream, n: u32) {
    stream.publish("topic", &n.to_string(), Bytes::from(n.to_string())).await.unwrap();
}

async fn join(stream: &EventStream, group: &str, name: &str) -> Consumer {
    stream.subscribe("topic", group, name).await.unwrap()
}

/// Takes one event and acknowledges it.
async fn handle(consumer: &Consumer) -> u32 {
    let event = consumer.next().await.unwrap();
    consumer.ack(event.id).await.unwrap();
    assert_eq!(event.key.as_bytes(), &event.payload);
    event.key.parse().unwrap()
}

async fn nothing_within(consumer: &Consumer, time: Duration) -> bool {
    timeout(time, consumer.next()).await.is_err()
}

pub(super) async fn an_event_reaches_every_group_once_in_order<P: AsyncFn(Duration)>(suite: &Suite<P>) {
    let stream = suite.backend.events();
    let (a, b) = (join(&stream, "a", "1").await, join(&stream, "b", "1").await);
    for n in 0..10 {
        publish(&stream, n).await;
    }
    for n in 0..10 {
        assert_eq!(handle(&a).await, n);
    }
    for n in 0..10 {
        assert_eq!(handle(&b).await, n);
    }
    assert!(nothing_within(&a, suite.unit).await);
    let other = stream.subscribe("another topic", "a", "1").await.unwrap();
    assert!(nothing_within(&other, suite.unit).await);
}

pub(super) async fn the_members_of_a_group_share_its_events<P: AsyncFn(Duration)>(suite: &Suite<P>) {
    let stream = suite.backend.events();
    let (one, two) = (join(&stream, "g", "1").await, join(&stream, "g", "2").await);
    publish(&stream, 1).await;
    publish(&stream, 2).await;
    // Neither acknowledges: what one member has, another does not get.
    let (a, b) = (one.next().await.unwrap(), two.next().await.unwrap());
    assert_eq!((a.key.as_str(), b.key.as_str()), ("1", "2"));
    assert!(nothing_within(&one, suite.unit).await);
}

pub(super) async fn what_was_published_before_or_between_subscriptions_is_delivered<P>(suite: &Suite<P>)
where
    P: AsyncFn(Duration),
{
    let stream = suite.backend.events();
    publish(&stream, 1).await;
    let consumer = join(&stream, "g", "1").await;
    assert_eq!(handle(&consumer).await, 1);
    drop(consumer);
    publish(&stream, 2).await;
    assert_eq!(handle(&join(&stream, "g", "1").await).await, 2);
}

pub(super) async fn an_unacknowledged_event_is_delivered_again_to_another_member<P>(suite: &Suite<P>)
where
    P: AsyncFn(Duration),
{
    let stream = suite.backend.events();
    let (crashing, healthy) = (join(&stream, "g", "1").await, join(&stream, "g", "2").await);
    publish(&stream, 1).await;
    let first = crashing.next().await.unwrap();
    assert_eq!(first.attempt, 1);
    drop(crashing);
    assert!(nothing_within(&healthy, suite.streams.visibility_timeout / 2).await);
    (suite.pass)(suite.streams.visibility_timeout).await;
    let again = healthy.next().await.unwrap();
    assert_eq!((again.id, again.attempt, again.payload), (first.id, 2, first.payload));
}

pub(super) async fn an_acknowledged_event_is_not_delivered_again<P: AsyncFn(Duration)>(suite: &Suite<P>) {
    let stream = suite.backend.events();
    let consumer = join(&stream, "g", "1").await;
    publish(&stream, 1).await;
    let event = consumer.next().await.unwrap();
    consumer.ack(event.id).await.unwrap();
    consumer.ack(event.id).await.unwrap();
    (suite.pass)(suite.streams.visibility_timeout * 2).await;
    assert!(nothing_within(&consumer, suite.unit).await);
}

pub(super) async fn an_event_that_is_never_acknowledged_becomes_a_dead_letter<P>(suite: &Suite<P>)
where
    P: AsyncFn(Duration),
{
    let stream = suite.backend.events();
    let consumer = join(&stream, "g", "1").await;
    publish(&stream, 1).await;
    publish(&stream, 2).await;
    for attempt in 1..=suite.streams.max_attempts {
        let poison = consumer.next().await.unwrap();
        assert_eq!((poison.key.as_str(), poison.attempt), ("1", attempt));
        if attempt == 1 {
            assert_eq!(handle(&consumer).await, 2, "a poisonous event does not hold up the next");
        }
        assert!(stream.dead_letters("topic", "g").await.unwrap().is_empty());
        (suite.pass)(suite.streams.visibility_timeout).await;
    }
    assert!(nothing_within(&consumer, suite.unit).await);
    let dead = stream.dead_letters("topic", "g").await.unwrap();
    assert_eq!(dead.iter().map(|letter| letter.key.as_str()).collect::<Vec<_>>(), ["1"]);
}

pub(super) async fn a_waiting_consumer_is_woken<P: AsyncFn(Duration)>(suite: &Suite<P>) {
    let stream = suite.backend.events();
    let consumer = join(&stream, "g", "1").await;
    let publish_later = async {
        (suite.pass)(suite.unit).await;
        publish(&stream, 1).await;
    };
    let (handled, ()) = tokio::join!(handle(&consumer), publish_later);
    assert_eq!(handled, 1);
}

pub(super) async fn a_cancelled_wait_loses_nothing<P: AsyncFn(Duration)>(suite: &Suite<P>) {
    let stream = suite.backend.events();
    let consumer = join(&stream, "g", "1").await;
    assert!(nothing_within(&consumer, suite.unit).await);
    publish(&stream, 1).await;
    assert_eq!(handle(&consumer).await, 1);
}

pub(super) async fn no_event_is_lost_or_given_to_two_members_under_load<P>(suite: &Suite<P>)
where
    P: AsyncFn(Duration),
{
    const EVENTS: u32 = 500;
    let stream = suite.backend.events();
    let mut members = tokio::task::JoinSet::new();
    for name in ["1", "2", "3", "4"] {
        let consumer = join(&stream, "g", name).await;
        let patience = suite.unit;
        members.spawn(async move {
            let mut handled = Vec::new();
            while let Ok(event) = timeout(patience, handle(&consumer)).await {
                handled.push(event);
                tokio::task::yield_now().await;
            }
            handled
        });
    }
    for n in 0..EVENTS {
        publish(&stream, n).await;
        if n % 7 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let handled = members.join_all().await.concat();
    assert_eq!(handled.len(), EVENTS as usize);
    assert_eq!(handled.iter().collect::<HashSet<_>>().len(), EVENTS as usize);
}
