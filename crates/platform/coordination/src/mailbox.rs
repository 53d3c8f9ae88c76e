//! Messages from one replica to another one that owns a stream or a session.

#![expect(clippy::unused_async, reason = "a shared backend waits for the network here")]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use tokio::sync::mpsc::{self, error::TrySendError};

use crate::{CoordinationError, lock};

/// How many messages an owner may be behind.
const CAPACITY: usize = 1024;

/// Sends to owners by name. A clone shares the boxes.
///
/// At most once and only while the owner receives: a message to nobody is refused, not kept.
#[derive(Clone, Debug)]
pub struct Mailbox {
    boxes: Arc<Mutex<HashMap<String, mpsc::Sender<Bytes>>>>,
}

/// The receiving end of one owner; dropping it closes the box.
#[derive(Debug)]
pub struct Inbox {
    owner: String,
    messages: mpsc::Receiver<Bytes>,
    boxes: Arc<Mutex<HashMap<String, mpsc::Sender<Bytes>>>>,
}

impl Mailbox {
    pub(crate) fn in_process() -> Self {
        Self { boxes: Arc::default() }
    }

    /// Sends one message; messages of one sender arrive in their order.
    pub async fn send(&self, to: &str, message: Bytes) -> Result<(), CoordinationError> {
        let sender = lock(&self.boxes).get(to).cloned();
        let sent = sender.as_ref().map(|sender| sender.try_send(message));
        match sent {
            Some(Ok(())) => Ok(()),
            Some(Err(TrySendError::Full(_))) => {
                Err(CoordinationError::Full { what: format!("mailbox {to}"), capacity: CAPACITY })
            }
            None | Some(Err(TrySendError::Closed(_))) => Err(CoordinationError::NoReceiver(to.to_owned())),
        }
    }

    /// Opens the owner's box; an earlier receiver of the same owner gets what was sent before and then ends.
    pub async fn receive(&self, owner: &str) -> Result<Inbox, CoordinationError> {
        let (sender, messages) = mpsc::channel(CAPACITY);
        lock(&self.boxes).insert(owner.to_owned(), sender);
        Ok(Inbox { owner: owner.to_owned(), messages, boxes: Arc::clone(&self.boxes) })
    }
}

impl Inbox {
    /// Waits for the next message; nothing when another receiver took over. Cancelling the wait loses nothing.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.messages.recv().await
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.messages.close();
        let mut boxes = lock(&self.boxes);
        // A closed sender is this one's: a box that a later receiver opened stays.
        if boxes.get(&self.owner).is_some_and(mpsc::Sender::is_closed) {
            boxes.remove(&self.owner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_owner_is_not_buffered_without_bound() {
        let mailbox = Mailbox::in_process();
        let mut inbox = mailbox.receive("slow").await.unwrap();
        for _ in 0..CAPACITY {
            mailbox.send("slow", Bytes::new()).await.unwrap();
        }
        let refused = mailbox.send("slow", Bytes::new()).await;
        assert!(matches!(refused, Err(CoordinationError::Full { capacity: CAPACITY, .. })));
        inbox.next().await.unwrap();
        mailbox.send("slow", Bytes::new()).await.unwrap();
    }

    #[tokio::test]
    async fn closed_boxes_leave_nothing_behind() {
        let mailbox = Mailbox::in_process();
        let first = mailbox.receive("a").await.unwrap();
        let second = mailbox.receive("a").await.unwrap();
        drop(first);
        mailbox.send("a", Bytes::new()).await.unwrap();
        drop(second);
        assert!(lock(&mailbox.boxes).is_empty());
    }
}
