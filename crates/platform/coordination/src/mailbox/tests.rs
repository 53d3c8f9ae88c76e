//! What only Redis does: receivers in several processes.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::*;
use crate::contract::{
    eventually,
    in_redis::{self, Replica},
};

fn message(n: u32) -> Bytes {
    Bytes::from(n.to_string())
}

fn replicas<const N: usize>() -> Option<[Replica; N]> {
    let (url, deployment) = (in_redis::url()?, in_redis::new_deployment());
    Some([0; N].map(|_| Replica::of(&url, &deployment)))
}

#[tokio::test]
async fn a_message_reaches_its_owner_on_another_replica_in_order() {
    let Some([sender, owner]) = replicas() else { return };
    let mut inbox = owner.coordination.mailbox().receive("session").await.unwrap();
    for n in 0..500 {
        sender.coordination.mailbox().send("session", message(n)).await.unwrap();
    }
    for n in 0..500 {
        assert_eq!(inbox.next().await.unwrap(), message(n));
    }
    drop(inbox);
    let gone = async || {
        let sent = sender.coordination.mailbox().send("session", message(0)).await;
        matches!(sent, Err(CoordinationError::NoReceiver(_)))
    };
    eventually("a sender elsewhere learns that the box is closed", gone).await;
}

#[tokio::test]
async fn a_receiver_on_another_replica_takes_over_and_no_message_arrives_twice() {
    let Some([sender, one, two]) = replicas() else { return };
    let mut first = one.coordination.mailbox().receive("session").await.unwrap();
    let mailbox = sender.coordination.mailbox();
    let sending = async {
        for n in 0..1000 {
            mailbox.send("session", message(n)).await.unwrap();
        }
    };
    let taking_over = two.coordination.mailbox();
    let (second, ()) = tokio::join!(taking_over.receive("session"), sending);
    let mut second = second.unwrap();
    mailbox.send("session", message(1000)).await.unwrap();
    let mut received = Vec::new();
    while let Some(message) = first.next().await {
        received.push(message);
    }
    while received.last() != Some(&message(1000)) {
        received.push(second.next().await.unwrap());
    }
    assert_eq!(received, (0..=1000).map(message).collect::<Vec<_>>());
}

#[tokio::test]
async fn of_receivers_that_were_cut_off_the_later_one_stays() {
    let Some([one, two]) = replicas() else { return };
    let mut first = one.coordination.mailbox().receive("session").await.unwrap();
    let channel = one.key("mailbox", "session");
    // The first one misses that another takes over: its announcement of a return has to lose.
    let mut second = two.coordination.mailbox().receive("session").await.unwrap();
    assert_eq!(first.next().await, None);
    let returned = format!("R1:{}", "0".repeat(32));
    two.command(&["PUBLISH", &channel, &returned]).await;
    one.coordination.mailbox().send("session", message(1)).await.unwrap();
    assert_eq!(second.next().await, Some(message(1)), "an older receiver does not end a later one");

    let returned = format!("R{}:{}", u64::MAX, "0".repeat(32));
    two.command(&["PUBLISH", &channel, &returned]).await;
    assert_eq!(second.next().await, None, "a later receiver ends an older one");
}

#[tokio::test]
async fn an_older_receiver_that_returns_is_answered() {
    let Some([one, two]) = replicas() else { return };
    let _second = two.coordination.mailbox().receive("session").await.unwrap();
    let client = redis::Client::open(in_redis::url().unwrap()).unwrap();
    let mut listener = client.get_async_pubsub().await.unwrap();
    let channel = one.key("mailbox", "session");
    listener.subscribe(&channel).await.unwrap();
    one.command(&["PUBLISH", &channel, &format!("R1:{}", "0".repeat(32))]).await;
    let mut heard = listener.on_message();
    let answer = async {
        loop {
            let text = futures_util::StreamExt::next(&mut heard).await.unwrap();
            if !text.get_payload_bytes().starts_with(b"R1:") {
                return text.get_payload_bytes().to_vec();
            }
        }
    };
    let answer = timeout(Duration::from_secs(10), answer).await.unwrap();
    assert!(answer.starts_with(b"R"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn a_slow_owner_loses_messages_and_is_not_buffered_without_bound() {
    let Some([replica]) = replicas() else { return };
    let mailbox = replica.coordination.mailbox();
    let mut inbox = mailbox.receive("slow").await.unwrap();
    let sent = u32::try_from(CAPACITY).unwrap() + 10;
    for n in 0..sent {
        mailbox.send("slow", message(n)).await.unwrap();
    }
    let lost = async || replica.metric("portico_coordination_lost_messages_total") == 10;
    eventually("what found no room is counted", lost).await;
    for n in 0..sent - 10 {
        assert_eq!(inbox.next().await.unwrap(), message(n));
    }
    let large = mailbox.send("slow", vec![0; MESSAGE_LIMIT + 1].into()).await;
    assert!(matches!(large, Err(CoordinationError::TooLarge { .. })));
}
