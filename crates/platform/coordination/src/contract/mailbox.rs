use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::Suite;
use crate::CoordinationError;

fn message(n: u8) -> Bytes {
    Bytes::from(vec![n])
}

pub(super) async fn messages_arrive_in_order_at_their_owner_only<P: AsyncFn(Duration)>(suite: &Suite<P>) {
    let mailbox = suite.backend.mailbox();
    let mut a = mailbox.receive("a").await.unwrap();
    let mut b = mailbox.receive("b").await.unwrap();
    for n in 0..10 {
        mailbox.send("a", message(n)).await.unwrap();
    }
    for n in 0..10 {
        assert_eq!(a.next().await.unwrap(), message(n));
    }
    assert!(timeout(suite.unit, b.next()).await.is_err());
    mailbox.send("b", message(1)).await.unwrap();
    assert_eq!(b.next().await.unwrap(), message(1), "a cancelled wait loses nothing");
}

pub(super) async fn a_message_to_nobody_is_refused<P: AsyncFn(Duration)>(suite: &Suite<P>) {
    let mailbox = suite.backend.mailbox();
    let unknown = mailbox.send("nobody", message(1)).await;
    assert!(matches!(unknown, Err(CoordinationError::NoReceiver(owner)) if owner == "nobody"));
    drop(mailbox.receive("gone").await.unwrap());
    let gone = mailbox.send("gone", message(1)).await;
    assert!(matches!(gone, Err(CoordinationError::NoReceiver(owner)) if owner == "gone"));
}

pub(super) async fn a_new_receiver_takes_over<P: AsyncFn(Duration)>(suite: &Suite<P>) {
    let mailbox = suite.backend.mailbox();
    let mut first = mailbox.receive("a").await.unwrap();
    mailbox.send("a", message(1)).await.unwrap();
    let mut second = mailbox.receive("a").await.unwrap();
    mailbox.send("a", message(2)).await.unwrap();
    assert_eq!(second.next().await.unwrap(), message(2));
    assert_eq!(first.next().await, Some(message(1)));
    assert_eq!(first.next().await, None);
    drop(first);
    mailbox.send("a", message(3)).await.unwrap();
    assert_eq!(second.next().await.unwrap(), message(3));
}
