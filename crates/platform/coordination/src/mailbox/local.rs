//! Mailboxes inside this process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use tokio::sync::mpsc::{self, error::TrySendError};

use super::CAPACITY;
use crate::{CoordinationError, lock};

type Boxes = Arc<Mutex<HashMap<String, mpsc::Sender<Bytes>>>>;

#[derive(Clone, Debug, Default)]
pub(super) struct LocalMailbox {
    boxes: Boxes,
}

impl LocalMailbox {
    pub(super) fn send(&self, to: &str, message: Bytes) -> Result<(), CoordinationError> {
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

    pub(super) fn receive(&self, owner: &str) -> LocalInbox {
        let (sender, messages) = mpsc::channel(CAPACITY);
        lock(&self.boxes).insert(owner.to_owned(), sender);
        LocalInbox { owner: owner.to_owned(), messages, boxes: Arc::clone(&self.boxes) }
    }
}

#[derive(Debug)]
pub(super) struct LocalInbox {
    owner: String,
    pub(super) messages: mpsc::Receiver<Bytes>,
    boxes: Boxes,
}

impl Drop for LocalInbox {
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
        let mailbox = LocalMailbox::default();
        let mut inbox = mailbox.receive("slow");
        for _ in 0..CAPACITY {
            mailbox.send("slow", Bytes::new()).unwrap();
        }
        let refused = mailbox.send("slow", Bytes::new());
        assert!(matches!(refused, Err(CoordinationError::Full { capacity: CAPACITY, .. })));
        inbox.messages.recv().await.unwrap();
        mailbox.send("slow", Bytes::new()).unwrap();
    }

    #[test]
    fn closed_boxes_leave_nothing_behind() {
        let mailbox = LocalMailbox::default();
        let first = mailbox.receive("a");
        let second = mailbox.receive("a");
        drop(first);
        mailbox.send("a", Bytes::new()).unwrap();
        drop(second);
        assert!(lock(&mailbox.boxes).is_empty());
    }
}
