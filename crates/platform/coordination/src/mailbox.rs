//! Messages from one replica to another one that owns a stream or a session.

mod local;
mod remote;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use portico_ids::SharedRng;

use crate::{CoordinationError, server::Server};
use local::{LocalInbox, LocalMailbox};
use remote::{RemoteInbox, RemoteMailbox};

/// How many messages an owner may be behind.
const CAPACITY: usize = 1024;
/// The most bytes of one message.
const MESSAGE_LIMIT: usize = 1 << 20;

/// Sends to owners by name. A clone shares the boxes.
///
/// At most once and only while the owner receives: a message to nobody is refused, not kept. In the process a full
/// box is told to the sender. With Redis the sender cannot see it: the message is dropped and counted
/// (`portico_coordination_lost_messages`), as is what arrives in the moment in which a receiver ends or loses Redis.
#[derive(Clone, Debug)]
pub struct Mailbox {
    backend: Backend,
}

#[derive(Clone, Debug)]
enum Backend {
    Local(LocalMailbox),
    Remote(RemoteMailbox),
}

/// The receiving end of one owner; dropping it closes the box.
#[derive(Debug)]
pub struct Inbox {
    end: End,
}

#[derive(Debug)]
enum End {
    Local(LocalInbox),
    Remote(RemoteInbox),
}

impl Mailbox {
    pub(crate) fn in_process() -> Self {
        Self { backend: Backend::Local(LocalMailbox::default()) }
    }

    pub(crate) fn in_redis(server: Server, rng: SharedRng) -> Self {
        Self { backend: Backend::Remote(RemoteMailbox::new(server, rng)) }
    }

    /// Sends one message; messages of one sender arrive in their order.
    pub async fn send(&self, to: &str, message: Bytes) -> Result<(), CoordinationError> {
        let length = message.len();
        if length > MESSAGE_LIMIT {
            return Err(CoordinationError::TooLarge { length, limit: MESSAGE_LIMIT });
        }
        match &self.backend {
            Backend::Local(mailbox) => mailbox.send(to, message),
            Backend::Remote(mailbox) => mailbox.send(to, &message).await,
        }
    }

    /// Opens the owner's box; an earlier receiver of the same owner gets what was sent before and then ends.
    pub async fn receive(&self, owner: &str) -> Result<Inbox, CoordinationError> {
        let end = match &self.backend {
            Backend::Local(mailbox) => End::Local(mailbox.receive(owner)),
            Backend::Remote(mailbox) => End::Remote(mailbox.receive(owner).await?),
        };
        Ok(Inbox { end })
    }
}

impl Inbox {
    /// Waits for the next message; nothing when another receiver took over. Cancelling the wait loses nothing.
    pub async fn next(&mut self) -> Option<Bytes> {
        match &mut self.end {
            End::Local(inbox) => inbox.messages.recv().await,
            End::Remote(inbox) => inbox.messages.recv().await,
        }
    }
}
