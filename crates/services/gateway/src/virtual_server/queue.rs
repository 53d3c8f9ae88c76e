use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Messages of one standing stream that wait for a slow agent before servers are made to wait, and their bytes.
const MESSAGES: usize = 64;
const BYTES: u32 = 1024 * 1024;

/// Where members put what they say; a clone is for another one.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    messages: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
}

#[derive(Debug)]
pub(super) struct Receiver(mpsc::Receiver<Waiting>);

#[derive(Debug)]
struct Waiting {
    message: Bytes,
    _room: OwnedSemaphorePermit,
}

/// The agent has left.
#[derive(Debug)]
pub(super) struct Closed;

pub(super) fn queue() -> (Sender, Receiver) {
    let (messages, receiver) = mpsc::channel(MESSAGES);
    (Sender { messages, room: Arc::new(Semaphore::new(BYTES as usize)) }, Receiver(receiver))
}

impl Sender {
    /// Waits for room; a message that is larger than all room waits until it is alone.
    pub(super) async fn send(&self, message: Bytes) -> Result<(), Closed> {
        let size = u32::try_from(message.len()).unwrap_or(BYTES).min(BYTES);
        let room = tokio::select! {
            room = Arc::clone(&self.room).acquire_many_owned(size) => room.map_err(|_| Closed)?,
            () = self.messages.closed() => return Err(Closed),
        };
        self.messages.send(Waiting { message, _room: room }).await.map_err(|_| Closed)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.messages.is_closed()
    }
}

impl Receiver {
    pub(super) async fn recv(&mut self) -> Option<Bytes> {
        Some(self.0.recv().await?.message)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_slow_agent_makes_its_servers_wait_by_messages_and_by_bytes() {
        let (sender, mut receiver) = queue();
        let large = Bytes::from(vec![0; 2 * BYTES as usize]);
        sender.send(large).await.unwrap();
        assert!(sender.send(Bytes::from_static(b"x")).now_or_never().is_none(), "there is no room");
        assert_eq!(receiver.recv().await.unwrap().len(), 2 * BYTES as usize);
        for _ in 0..MESSAGES {
            sender.send(Bytes::from_static(b"x")).await.unwrap();
        }
        assert!(sender.send(Bytes::from_static(b"x")).now_or_never().is_none());
        drop(receiver);
        assert!(sender.send(Bytes::from_static(b"x")).await.is_err() && sender.is_closed());
    }
}
