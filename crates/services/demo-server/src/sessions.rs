//! Sessions of the revisions up to 2025-11-25.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Duration, Utc};
use portico_clock::SharedClock;
use portico_ids::{SharedRng, secret_token};
use portico_mcp_types::{Revision, method};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::event_log::EventLog;
use crate::json_rpc;

const MAX_SESSIONS: usize = 1000;
/// Streams of one session that can still be resumed.
const MAX_STREAMS: usize = 16;
const IDLE: Duration = Duration::minutes(30);

/// The number of the stream that GET opens; those of POSTs follow.
pub(crate) const STANDING: u64 = 0;

#[derive(Debug)]
pub(crate) struct Sessions {
    clock: SharedClock,
    rng: SharedRng,
    open: Mutex<HashMap<String, Arc<Session>>>,
}

/// One client's session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) revision: Revision,
    /// Whether the client declared that it shows forms.
    pub(crate) shows_forms: bool,
    /// Cancelled when the session ends.
    pub(crate) ended: CancellationToken,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    last_used: DateTime<Utc>,
    standing: Arc<EventLog>,
    streams: VecDeque<(u64, Arc<EventLog>)>,
    last_stream: u64,
    subscriptions: HashSet<String>,
    /// Calls under way, by the id that the client gave them.
    calls: HashMap<String, CancellationToken>,
    /// Our own requests to the client, by the id that we gave them.
    questions: HashMap<u64, oneshot::Sender<Result<Value, Value>>>,
    last_question: u64,
}

impl Sessions {
    pub(crate) fn new(clock: SharedClock, rng: SharedRng) -> Self {
        Self { clock, rng, open: Mutex::default() }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a session and returns its id: 256 random bits. The longest idle one makes room if there are too many.
    pub(crate) fn create(&self, revision: Revision, shows_forms: bool) -> String {
        let id = secret_token(&*self.rng).expose_secret().to_owned();
        let now = self.clock.now();
        let session = Session {
            revision,
            shows_forms,
            ended: CancellationToken::new(),
            state: Mutex::new(State {
                last_used: now,
                standing: EventLog::new(),
                streams: VecDeque::new(),
                last_stream: STANDING,
                subscriptions: HashSet::new(),
                calls: HashMap::new(),
                questions: HashMap::new(),
                last_question: 0,
            }),
        };
        let mut open = self.open();
        let oldest_kept = now - IDLE;
        open.retain(|_, session| {
            let kept = session.state().last_used > oldest_kept;
            if !kept {
                session.end();
            }
            kept
        });
        if open.len() >= MAX_SESSIONS {
            let idle =
                open.iter().min_by_key(|(_, session)| session.state().last_used).map(|(id, _)| id.clone());
            if let Some(session) = idle.and_then(|id| open.remove(&id)) {
                session.end();
            }
        }
        open.insert(id.clone(), Arc::new(session));
        id
    }

    /// The session of that id, unless it ended or was idle for too long.
    pub(crate) fn find(&self, id: &str) -> Option<Arc<Session>> {
        let session = self.open().get(id).cloned()?;
        let now = self.clock.now();
        let mut state = session.state();
        if state.last_used + IDLE < now {
            return None;
        }
        state.last_used = now;
        drop(state);
        Some(session)
    }

    pub(crate) fn remove(&self, id: &str) {
        if let Some(session) = self.open().remove(id) {
            session.end();
        }
    }

    pub(crate) fn end_all(&self) {
        for (_, session) in self.open().drain() {
            session.end();
        }
    }

    /// Tells every session that subscribed to this resource.
    pub(crate) fn tell_changed(&self, uri: &str) {
        let message = json_rpc::notification(method::RESOURCE_UPDATED, &json!({ "uri": uri }));
        for session in self.open().values() {
            let state = session.state();
            if state.subscriptions.contains(uri) {
                state.standing.push(message.clone());
            }
        }
    }
}

impl Session {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cancels what is under way and ends the streams.
    fn end(&self) {
        self.ended.cancel();
        let state = self.state();
        state.standing.close();
        for (_, stream) in &state.streams {
            stream.close();
        }
    }

    /// A stream for the answer to one POST, with its number. The oldest makes room, finished ones first.
    pub(crate) fn open_stream(&self) -> (u64, Arc<EventLog>) {
        let mut state = self.state();
        if state.streams.len() == MAX_STREAMS {
            let oldest = state.streams.iter().position(|(_, stream)| stream.is_closed()).unwrap_or(0);
            state.streams.remove(oldest);
        }
        state.last_stream += 1;
        let stream = (state.last_stream, EventLog::new());
        state.streams.push_back(stream.clone());
        stream
    }

    /// The stream that GET opens.
    pub(crate) fn standing(&self) -> Arc<EventLog> {
        self.state().standing.clone()
    }

    /// The stream of that number, if it can still be resumed.
    pub(crate) fn stream(&self, number: u64) -> Option<Arc<EventLog>> {
        let state = self.state();
        if number == STANDING {
            return Some(state.standing.clone());
        }
        state.streams.iter().find(|(known, _)| *known == number).map(|(_, stream)| stream.clone())
    }

    pub(crate) fn subscribe(&self, uri: &str) {
        self.state().subscriptions.insert(uri.to_owned());
    }

    pub(crate) fn unsubscribe(&self, uri: &str) {
        self.state().subscriptions.remove(uri);
    }

    /// Notes a call, so that `notifications/cancelled` can name it.
    pub(crate) fn begin(&self, id: &str) -> CancellationToken {
        let token = self.ended.child_token();
        self.state().calls.insert(id.to_owned(), token.clone());
        token
    }

    pub(crate) fn finish(&self, id: &str) {
        self.state().calls.remove(id);
    }

    pub(crate) fn cancel(&self, id: &str) {
        if let Some(call) = self.state().calls.remove(id) {
            call.cancel();
        }
    }

    /// Sends a request to the client on `stream`; its answer arrives on the receiver.
    pub(crate) fn ask(
        &self,
        stream: &EventLog,
        method: &str,
        params: &Value,
    ) -> oneshot::Receiver<Result<Value, Value>> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state();
        state.questions.retain(|_, waiting| !waiting.is_closed());
        state.last_question += 1;
        let id = state.last_question;
        state.questions.insert(id, sender);
        drop(state);
        stream.push(json_rpc::request(id, method, params));
        receiver
    }

    /// Takes a response of the client; one that nobody waits for is dropped.
    pub(crate) fn answered(&self, id: &str, outcome: Result<Value, Value>) {
        let waiting = id.parse().ok().and_then(|id: u64| self.state().questions.remove(&id));
        if let Some(waiting) = waiting {
            // The call may have been cancelled in between.
            let _ = waiting.send(outcome);
        }
    }
}
