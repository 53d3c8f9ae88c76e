//! Going on with a stream that another replica owns.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::letter::{Body, Number, Piece, Resume, State};
use super::{Outgoing, Replicas, Sent, locked};
use crate::engine::Engine;
use crate::session::EventId;

/// How long the owner of a stream has for its first word.
const FIRST_WORD: Duration = Duration::from_secs(2);
/// Pieces that wait for a slow agent; with more it is let go and comes back.
const WAITING: usize = 64;
/// Most bytes that are kept of a GET stream's missed events: more than a replica keeps.
const MAX_MISSED: usize = 512 * 1024;
/// Most streams of others at the same time.
const MAX_ASKED: usize = 10_000;

/// What the owner says of a stream.
#[derive(Debug)]
pub(crate) enum Handover {
    /// The answer comes from there, piece by piece.
    Call(RemoteStream),
    /// What the agent missed of a GET stream, which its owner has given up.
    Standing(Bytes),
    /// The stream is forgotten, or its owner is dead.
    Gone,
    /// The owner cannot be asked just now.
    Unavailable,
}

/// A stream that another replica owns; dropping it tells the owner.
#[derive(Debug)]
pub(crate) struct RemoteStream {
    engine: Arc<Engine>,
    owner: Arc<str>,
    number: u64,
    pieces: mpsc::Receiver<Piece>,
}

impl RemoteStream {
    /// Asks the owner for what came after `after`.
    pub(crate) async fn ask(engine: &Arc<Engine>, owner: &str, session: &str, after: EventId) -> Handover {
        let replicas = &engine.replicas;
        let number = replicas.random();
        let (sender, pieces) = mpsc::channel(WAITING);
        {
            let mut asked = locked(&replicas.asked);
            if asked.len() >= MAX_ASKED {
                return Handover::Unavailable;
            }
            asked.insert(number, sender);
        }
        let mut stream = Self { engine: Arc::clone(engine), owner: owner.into(), number, pieces };
        let resume =
            Resume { number, session: session.to_owned(), stream: after.stream, after: after.number };
        match replicas.send(owner, Body::Resume(resume)).await {
            Sent::Yes => {}
            Sent::ToNobody => return Handover::Gone,
            Sent::No => return Handover::Unavailable,
        }
        match tokio::time::timeout(FIRST_WORD, stream.first_word()).await {
            Ok(Some(State::Open)) => Handover::Call(stream),
            Ok(Some(State::Standing)) => {
                let missed = tokio::time::timeout(FIRST_WORD, stream.missed()).await;
                Handover::Standing(missed.unwrap_or_default())
            }
            _ => Handover::Gone,
        }
    }

    async fn first_word(&mut self) -> Option<State> {
        Some(self.pieces.recv().await?.state())
    }

    async fn missed(&mut self) -> Bytes {
        let mut missed = BytesMut::new();
        while let Some(piece) = self.pieces.recv().await {
            missed.extend_from_slice(&piece.events);
            if piece.state() != State::Standing || missed.len() > MAX_MISSED {
                break;
            }
        }
        missed.freeze()
    }

    /// The next piece, `None` if there comes no more although the answer was not complete.
    pub(crate) async fn next(&mut self) -> Option<(State, Bytes)> {
        let piece = self.pieces.recv().await?;
        Some((piece.state(), piece.events))
    }

    /// Tells the owner that the agent is still there.
    pub(crate) fn stay(&self) {
        self.post(Body::Stay(Number { number: self.number }));
    }

    fn post(&self, body: Body) {
        self.engine.replicas.post(Outgoing::To(Arc::clone(&self.owner), body));
    }
}

impl Drop for RemoteStream {
    fn drop(&mut self) {
        // Still listed: the owner has not said its last word.
        if locked(&self.engine.replicas.asked).remove(&self.number).is_some() {
            self.post(Body::Stop(Number { number: self.number }));
        }
    }
}

impl Replicas {
    /// Takes in a piece of a stream that an agent came back for here.
    pub(super) fn take(&self, piece: Piece) {
        let mut asked = locked(&self.asked);
        let (number, last) = (piece.number, matches!(piece.state(), State::Gone | State::Ended));
        let Some(sender) = asked.get(&number) else { return };
        // An agent that does not keep up is let go; it comes back for the rest.
        if sender.try_send(piece).is_err() || last {
            asked.remove(&number);
        }
    }
}
