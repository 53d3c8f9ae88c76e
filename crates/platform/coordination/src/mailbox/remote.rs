//! Mailboxes over Redis: a channel for each owner, listened to by whoever receives for it.

use bytes::Bytes;
use portico_ids::SharedRng;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};

use super::CAPACITY;
use crate::{
    CoordinationError,
    server::{Operation, Question, Server, message_text},
};

const CAPABILITY: &str = "mailbox";
// At most once.
const SEND: Operation = Operation::once(CAPABILITY, "send");
const RECEIVE: Operation = Operation::once(CAPABILITY, "receive");

#[derive(Clone, Debug)]
pub(super) struct RemoteMailbox {
    server: Server,
    rng: SharedRng,
}

impl RemoteMailbox {
    pub(super) fn new(server: Server, rng: SharedRng) -> Self {
        Self { server, rng }
    }

    pub(super) async fn send(&self, to: &str, message: &[u8]) -> Result<(), CoordinationError> {
        let channel = self.channel(to);
        // A box that was closed here just now would still count. Waiting for it in vain does no harm.
        let _ = timeout(self.server.deadline(), self.server.channels().left(&channel)).await;
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(channel).arg(message_text(message));
        let receivers: u64 = self.server.ask(SEND, Question::Command(&publish)).await?;
        if receivers == 0 {
            return Err(CoordinationError::NoReceiver(to.to_owned()));
        }
        Ok(())
    }

    pub(super) async fn receive(&self, owner: &str) -> Result<RemoteInbox, CoordinationError> {
        let patience = self.server.deadline();
        let deadline = Instant::now() + patience;
        self.server.reachable(RECEIVE).await?;
        let (channel, token) = (self.channel(owner), self.token());
        let opened = self.server.channels().open(&channel, token.clone(), CAPACITY);
        // From here on dropping it closes the box, also when this is cancelled.
        let inbox = RemoteInbox { server: self.server.clone(), channel, token, messages: opened.messages };
        match timeout_at(deadline, opened.opened).await {
            Ok(Ok(())) => Ok(inbox),
            _ => Err(RECEIVE.unavailable(format!("no answer within {patience:?}"))),
        }
    }

    fn channel(&self, owner: &str) -> String {
        self.server.keys().name("mailbox", &[owner])
    }

    fn token(&self) -> String {
        let mut bytes = [0; 16];
        self.rng.fill(&mut bytes);
        format!("{:032x}", u128::from_be_bytes(bytes))
    }
}

#[derive(Debug)]
pub(super) struct RemoteInbox {
    server: Server,
    channel: String,
    token: String,
    pub(super) messages: mpsc::Receiver<Bytes>,
}

impl Drop for RemoteInbox {
    fn drop(&mut self) {
        self.server.channels().close_box(&self.channel, &self.token);
    }
}
