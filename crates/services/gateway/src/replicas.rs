//! Several gateways side by side: who they are, and what they tell one another.
//!
//! The replica that accepted a POST or GET owns its stream. Letters bring to the owner what arrives elsewhere: an agent
//! that comes back for the stream ([`resume`]), a cancellation, the end of the session. A letter may be lost: then an agent
//! waits for a deadline, or a replica learns of the end of a session when it asks the shared map the next time. Where it
//! matters that a letter was read, its reader says so ([`question`]).

mod inbox;
mod letter;
mod members;
mod pump;
mod question;
mod resume;
mod shown;
mod tasks;

pub(crate) use letter::State;
pub(crate) use pump::{SILENT, WORD};
pub(crate) use resume::{Handover, RemoteStream};
pub(crate) use tasks::spawn;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use portico_clock::SharedClock;
use portico_coordination::{Coordination, CoordinationError, Leases, Mailbox, TtlMap};
use portico_ids::{ServerId, SharedRng};
use portico_sealing::HandleSealer;
use prost::Message;
use tokio::sync::mpsc;

use crate::metrics::GatewayMetrics;
use letter::{Body, Cancel, Changed, Ended, Letter, Piece, Task};
use pump::Pumps;

/// What letters are sealed as.
const SEAL: &str = "replica_letter";
/// Letters that wait to be sent; more are dropped and counted.
const WAITING: usize = 1_024;

/// This replica and the others.
#[derive(Debug)]
pub(crate) struct Replicas {
    /// Random at each start: a restarted replica is another one.
    pub(crate) id: Arc<str>,
    mailbox: Mailbox,
    map: TtlMap,
    leases: Leases,
    sealer: HandleSealer,
    clock: SharedClock,
    rng: SharedRng,
    metrics: GatewayMetrics,
    peers: Mutex<BTreeSet<Arc<str>>>,
    outgoing: mpsc::Sender<Outgoing>,
    /// Taken by the task that sends.
    unsent: Mutex<Option<mpsc::Receiver<Outgoing>>>,
    /// Changes that wait to be told: however often a server tells of one, it waits once.
    changed: Mutex<HashSet<(ServerId, &'static str)>>,
    /// Streams of others that agents came back for here.
    asked: Mutex<HashMap<u64, mpsc::Sender<Piece>>>,
    pumps: Pumps,
    /// What others were asked.
    questions: Mutex<HashMap<u64, mpsc::Sender<Option<ServerId>>>>,
}

/// Tells others what is noticed deep inside an answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct News(Option<mpsc::Sender<Outgoing>>);

impl News {
    /// A caller knows a task by this name from now on, wherever it asks for it. A letter that is lost costs the list of
    /// tasks of another replica this task.
    pub(crate) fn task(&self, key: String, sealed: &str) {
        if let Some(outgoing) = &self.0 {
            drop(outgoing.try_send(Outgoing::ToAll(Body::Task(Task { key, sealed: sealed.to_owned() }))));
        }
    }
}

/// What waits to be sent.
#[derive(Debug)]
enum Outgoing {
    ToAll(Body),
    To(Arc<str>, Body),
    Changed(ServerId, &'static str),
}

/// What became of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    Yes,
    /// The reader is gone.
    ToNobody,
    /// Letters cannot be sent just now.
    No,
}

/// What replicas are made of.
#[derive(Debug)]
pub(crate) struct ReplicaParts<'a> {
    pub(crate) coordination: &'a Coordination,
    pub(crate) sealer: HandleSealer,
    pub(crate) clock: SharedClock,
    pub(crate) rng: SharedRng,
    pub(crate) metrics: GatewayMetrics,
}

impl Replicas {
    pub(crate) fn new(parts: ReplicaParts<'_>) -> Self {
        let ReplicaParts { coordination, sealer, clock, rng, metrics } = parts;
        let mut random = [0; 8];
        rng.fill(&mut random);
        let (outgoing, unsent) = mpsc::channel(WAITING);
        Self {
            id: format!("{:016x}", u64::from_be_bytes(random)).into(),
            mailbox: coordination.mailbox(),
            map: coordination.ttl_map("gateway.replicas"),
            leases: coordination.leases(),
            sealer,
            clock,
            rng,
            metrics,
            peers: Mutex::default(),
            outgoing,
            unsent: Mutex::new(Some(unsent)),
            changed: Mutex::default(),
            asked: Mutex::default(),
            pumps: Pumps::default(),
            questions: Mutex::default(),
        }
    }

    /// For those who notice something and have no replicas at hand.
    pub(crate) fn news(&self) -> News {
        News(Some(self.outgoing.clone()))
    }

    fn random(&self) -> u64 {
        let mut random = [0; 8];
        self.rng.fill(&mut random);
        u64::from_be_bytes(random)
    }

    /// Tells all others that a session is over.
    pub(crate) fn tell_ended(&self, session: &str) {
        self.post(Outgoing::ToAll(Body::Ended(Ended { session: session.to_owned(), number: 0 })));
    }

    /// Tells all others that the agent wants no answer to a request; its call may run on any of them.
    pub(crate) fn tell_cancelled(&self, session: &str, request: &str) {
        let cancel = Cancel { session: session.to_owned(), request: request.to_owned() };
        self.post(Outgoing::ToAll(Body::Cancel(cancel)));
    }

    /// Tells all others that a server's list changed.
    pub(crate) fn tell_changed(&self, server: ServerId, method: &'static str) {
        if locked(&self.changed).insert((server, method)) {
            self.post(Outgoing::Changed(server, method));
        }
    }

    fn post(&self, letter: Outgoing) {
        if locked(&self.peers).is_empty() && !matches!(letter, Outgoing::To(..)) {
            if let Outgoing::Changed(server, method) = letter {
                locked(&self.changed).remove(&(server, method));
            }
            return;
        }
        if let Err(full) = self.outgoing.try_send(letter) {
            self.metrics.letters_dropped.inc();
            if let Outgoing::Changed(server, method) = full.into_inner() {
                locked(&self.changed).remove(&(server, method));
            }
        }
    }

    async fn send_outgoing(&self, letter: Outgoing) {
        let body = match letter {
            Outgoing::To(to, body) => {
                self.send(&to, body).await;
                return;
            }
            Outgoing::ToAll(body) => body,
            Outgoing::Changed(server, method) => {
                // Before it is sent: what changes from now on is told anew.
                locked(&self.changed).remove(&(server, method));
                Body::Changed(Changed { server: server.to_string(), method: method.to_owned() })
            }
        };
        for peer in self.peers() {
            self.send(&peer, body.clone()).await;
        }
    }

    /// Who has no letter box any more is no peer.
    async fn send(&self, to: &str, body: Body) -> Sent {
        let letter = Letter::new(&self.id, body).encode_to_vec();
        let sealed = Bytes::from(self.sealer.seal(SEAL, to.as_bytes(), &letter));
        match self.mailbox.send(&box_of(to), sealed).await {
            Ok(()) => Sent::Yes,
            Err(CoordinationError::NoReceiver(_)) => {
                locked(&self.peers).remove(to);
                Sent::ToNobody
            }
            Err(error) => {
                self.metrics.letters_dropped.inc();
                tracing::debug!(error = %error, to, "a replica cannot be told");
                Sent::No
            }
        }
    }

    /// The writer and the content of a letter to this replica.
    fn open(&self, sealed: &[u8]) -> Option<(String, Body)> {
        let sealed = std::str::from_utf8(sealed).ok()?;
        Letter::read(&self.sealer.open(SEAL, self.id.as_bytes(), sealed)?)
    }

    /// Takes in who is listed and gives those that are new.
    fn meet(&self, listed: impl Iterator<Item = String>) -> Vec<Arc<str>> {
        let mut peers = locked(&self.peers);
        let mut new = Vec::new();
        for id in listed.filter(|id| **id != *self.id) {
            let id: Arc<str> = id.into();
            if peers.insert(Arc::clone(&id)) {
                new.push(id);
            }
        }
        self.metrics.replicas.set(i64::try_from(peers.len() + 1).unwrap_or(i64::MAX));
        new
    }

    pub(crate) fn peers(&self) -> Vec<Arc<str>> {
        locked(&self.peers).iter().cloned().collect()
    }
}

/// The letter box of a replica.
fn box_of(id: &str) -> String {
    format!("gateway/{id}")
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
