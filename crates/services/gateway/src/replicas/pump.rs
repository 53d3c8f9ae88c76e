//! Bringing a stream of this replica to another one, where its agent is now.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::letter::{Body, PIECE, Piece, Resume, State};
use super::{Replicas, Sent, locked};
use crate::engine::Engine;
use crate::session::{EventId, Replay, Session};

/// How often the other replica is told that the call goes on.
pub(crate) const WORD: Duration = Duration::from_secs(4);
/// How long one of both may be silent before the other gives it up.
pub(crate) const SILENT: Duration = Duration::from_secs(15);
/// Most streams that are brought to other replicas at the same time.
const MAX_PUMPS: usize = 10_000;

/// The streams that are brought elsewhere, by who asked under which number.
#[derive(Debug, Default)]
pub(super) struct Pumps(Mutex<HashMap<(String, u64), Watch>>);

/// When the other replica last said that the agent is still there.
#[derive(Debug, Clone)]
struct Watch {
    heard: Instant,
    stop: CancellationToken,
}

impl Replicas {
    pub(super) fn stay(&self, from: String, number: u64) {
        if let Some(watch) = locked(&self.pumps.0).get_mut(&(from, number)) {
            watch.heard = Instant::now();
        }
    }

    pub(super) fn stop(&self, from: String, number: u64) {
        if let Some(watch) = locked(&self.pumps.0).get(&(from, number)) {
            watch.stop.cancel();
        }
    }

    fn is_silent(&self, asker: &(String, u64)) -> bool {
        locked(&self.pumps.0).get(asker).is_none_or(|watch| watch.heard.elapsed() > SILENT)
    }
}

/// Answers another replica that asks for a stream.
pub(super) fn begin(engine: &Arc<Engine>, from: String, resume: Resume) {
    let stop = CancellationToken::new();
    let asker = (from, resume.number);
    {
        let mut pumps = locked(&engine.replicas.pumps.0);
        if pumps.len() >= MAX_PUMPS {
            tracing::warn!("too many streams go on at other replicas");
            return;
        }
        pumps.insert(asker.clone(), Watch { heard: Instant::now(), stop: stop.clone() });
    }
    let task_engine = Arc::clone(engine);
    engine.tasks.spawn_short("gateway.hand-over", async move {
        let session = task_engine.sessions.at_hand(&resume.session);
        let pump = Pump { engine: &task_engine, asker: &asker };
        let at = EventId { stream: resume.stream, number: resume.after };
        stop.run_until_cancelled(pump.run(session, at)).await;
        locked(&task_engine.replicas.pumps.0).remove(&asker);
    });
}

struct Pump<'a> {
    engine: &'a Arc<Engine>,
    asker: &'a (String, u64),
}

impl Pump<'_> {
    async fn run(&self, session: Option<Arc<Session>>, at: EventId) {
        let Some(session) = session else {
            self.say(State::Gone, Bytes::new()).await;
            return;
        };
        match session.streams.since(at) {
            Replay::Unknown => {
                self.say(State::Gone, Bytes::new()).await;
            }
            Replay::Standalone(missed, _) => {
                session.streams.take_over(at.stream);
                if self.say(State::Standing, Bytes::new()).await && self.bring(State::Standing, &missed).await
                {
                    self.say(State::Ended, Bytes::new()).await;
                }
            }
            Replay::Call { .. } => {
                if self.say(State::Open, Bytes::new()).await {
                    self.follow(&session, at).await;
                }
            }
        }
    }

    /// Brings what comes until the answer is complete, the agent has left or the other replica is gone.
    async fn follow(&self, session: &Session, mut at: EventId) {
        loop {
            let Replay::Call { missed, last, ended, grown } = session.streams.since(at) else {
                self.say(State::Gone, Bytes::new()).await;
                return;
            };
            at.number = last;
            if !self.bring(State::Open, &missed).await {
                return;
            }
            if ended {
                self.say(State::Ended, Bytes::new()).await;
                return;
            }
            // Registered before looking once more: what comes in between is not lost.
            let mut growth = std::pin::pin!(grown.notified_owned());
            growth.as_mut().enable();
            if !matches!(session.streams.since(at), Replay::Call { missed, ended: false, .. } if missed.is_empty())
            {
                continue;
            }
            tokio::select! {
                () = &mut growth => {}
                () = tokio::time::sleep(WORD) => {
                    if self.engine.replicas.is_silent(self.asker) || !self.say(State::Open, Bytes::new()).await {
                        return;
                    }
                }
            }
        }
    }

    async fn bring(&self, state: State, events: &[Bytes]) -> bool {
        let events = Bytes::from(events.concat());
        let mut from = 0;
        while from < events.len() {
            let to = (from + PIECE).min(events.len());
            if !self.say(state, events.slice(from..to)).await {
                return false;
            }
            from = to;
        }
        true
    }

    async fn say(&self, state: State, events: Bytes) -> bool {
        let (to, number) = self.asker;
        let piece = Piece { number: *number, state: state.into(), events };
        self.engine.replicas.send(to, Body::Piece(piece)).await == Sent::Yes
    }
}
