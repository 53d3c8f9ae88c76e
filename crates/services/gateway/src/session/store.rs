mod confirm;
mod sealed_map;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::TimeDelta;
use portico_clock::SharedClock;
use portico_coordination::{CoordinationError, TtlMap};
use portico_ids::{ServerId, SharedRng, secret_token};
use portico_sealing::HandleSealer;
use secrecy::ExposeSecret;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::at_hand::AtHand;
use super::owned::Part;
use super::record::{Binding, MAX_SUBSCRIBED_BYTES, MAX_SUBSCRIPTIONS, Record, Subscription};
use super::streams::Budget;
use super::wheel::{Due, Wheel};
use super::{Claim, Published, Session, UpstreamSession};
use crate::refusal::{Reason, Refusal};
use sealed_map::{SealedMap, Stored};

/// Longest that a replica trusts what it has at hand before it asks the shared map whether the session still exists.
const TRUSTED: TimeDelta = TimeDelta::minutes(1);
/// How long one caller may take to ask before another one does.
const TURN: TimeDelta = TimeDelta::seconds(2);
/// Shortest time between two looks at an upstream session.
const SHORTEST_LOOK: TimeDelta = TimeDelta::seconds(5);
/// Most ended sessions that wait for their DELETE upstream; of others the wheel takes care.
const MAX_ENDED: usize = 4096;
/// When an agent is to try again what the shared map is needed for.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Longer texts are no ids of sessions.
const MAX_ID: usize = 64;

/// The sessions of all agents: in the shared map, and at hand where they are used.
#[derive(Debug)]
pub(crate) struct Sessions {
    shared: SealedMap,
    at_hand: AtHand,
    pub(crate) wheel: Wheel,
    /// Sessions that ended without their agent asking, whose upstream sessions are to be closed.
    ended: mpsc::Sender<Arc<Session>>,
    rng: SharedRng,
    clock: SharedClock,
    replica: Arc<str>,
    /// What the kept events of all sessions take.
    budget: Arc<Budget>,
    idle: TimeDelta,
    /// The filling of the shared map that was last seen to have what is at hand here; 0 before that.
    restored: AtomicU64,
}

/// What sessions are made of.
#[derive(Debug)]
pub(crate) struct SessionParts {
    pub(crate) map: TtlMap,
    pub(crate) handles: HandleSealer,
    pub(crate) rng: SharedRng,
    pub(crate) clock: SharedClock,
    pub(crate) replica: Arc<str>,
    pub(crate) idle: TimeDelta,
    /// Most sessions that one principal has at hand here.
    pub(crate) per_principal: usize,
}

impl Sessions {
    /// Also gives the sessions that ended without their agents asking, whose upstream sessions are to be closed.
    pub(crate) fn new(parts: SessionParts) -> (Self, mpsc::Receiver<Arc<Session>>) {
        let (ended, receiver) = mpsc::channel(MAX_ENDED);
        let SessionParts { map, handles, rng, clock, replica, idle, per_principal } = parts;
        let trusted = TRUSTED.min(idle / 4);
        let wheel = Wheel::new(map.clone(), handles.clone(), Arc::clone(&replica));
        let shared = SealedMap::new(map, handles, (idle, trusted), Arc::clone(&replica));
        let at_hand = AtHand::new(per_principal);
        let restored = AtomicU64::new(0);
        let budget = Arc::default();
        (Self { shared, at_hand, wheel, ended, rng, clock, replica, budget, idle, restored }, receiver)
    }

    pub(crate) async fn create(&self, record: Record) -> Result<Arc<Session>, Refusal> {
        let id = secret_token(&*self.rng).expose_secret().to_owned();
        self.count_new(&id, &record).await?;
        if let Err(error) = self.shared.put_record(&id, &record).await {
            self.at_hand.owned.remove(&record.binding.subject, &id);
            return Err(unavailable(&error));
        }
        Ok(self.take_in(id, record))
    }

    /// Finds the session of this caller; a foreign one looks like an unknown one (RS-30).
    pub(crate) async fn find(
        &self,
        id: &str,
        is_bound_to: impl Fn(&Binding) -> bool,
    ) -> Result<Arc<Session>, Refusal> {
        let now = self.clock.now();
        if let Some(session) = self.at_hand.get(id) {
            if session.ended.is_cancelled() || !is_bound_to(&session.record().binding) {
                return Err(unknown());
            }
            if session.is_to_be_confirmed(now, TURN) {
                self.confirm(&session, now).await?;
            }
            session.use_at(now);
            return Ok(session);
        }
        if id.is_empty() || id.len() > MAX_ID {
            return Err(unknown());
        }
        let record = match self.shared.record(id).await.map_err(|e| unavailable(&e))? {
            Stored::Live(record) if is_bound_to(&record.binding) => record,
            Stored::Live(_) | Stored::Over => return Err(unknown()),
            Stored::Nothing => return Err(self.missing(now).await),
        };
        let Stored::Live(_) = self.shared.renew(id).await.map_err(|e| unavailable(&e))? else {
            return Err(unknown());
        };
        self.count_new(id, &record).await?;
        Ok(self.take_in(id.to_owned(), record))
    }

    /// A session that is at hand here; whose it is has been asked elsewhere.
    pub(crate) fn at_hand(&self, id: &str) -> Option<Arc<Session>> {
        self.at_hand.get(id)
    }

    /// All sessions that are at hand here.
    pub(crate) fn all_at_hand(&self) -> Vec<Arc<Session>> {
        self.at_hand.all()
    }

    fn take_in(&self, id: String, record: Record) -> Arc<Session> {
        let now = self.clock.now();
        let streams = (Arc::clone(&self.replica), Arc::clone(&self.budget));
        let session = Session::new(id, record, streams, self.shared.epoch());
        session.use_at(now);
        session.trust_until(now + self.shared.trusted);
        session.tell_at(now);
        self.at_hand.add(Arc::new(session))
    }

    /// Forgets a session everywhere; what cannot be ended everywhere goes on everywhere.
    pub(crate) async fn end(&self, session: &Session) -> Result<(), Refusal> {
        self.shared.end(&session.id).await.map_err(|e| unavailable(&e))?;
        self.end_here(session);
        Ok(())
    }

    /// Ends what stands open on this replica for a session that is over.
    pub(crate) fn end_here(&self, session: &Session) {
        session.ended.cancel();
        self.at_hand.forget(&session.id);
    }

    /// Lets go of events that nobody came back for and of sessions that were not used here for long, and ends what stands
    /// open for those that have expired; tells how many there were.
    pub(crate) async fn look_at_idle(&self) -> usize {
        let now = self.clock.now();
        let sessions = self.at_hand.all();
        let count = sessions.len();
        let at = Instant::now();
        for session in sessions {
            session.streams.forget_late(at);
            if session.idle_for(now) < self.idle {
                continue;
            }
            if !session.streams.in_use() {
                self.at_hand.forget(&session.id);
                continue;
            }
            // Its calls may arrive elsewhere.
            match self.shared.record(&session.id).await {
                Ok(Stored::Over | Stored::Nothing) => self.end_here(&session),
                Ok(Stored::Live(_)) => {}
                Err(_) => break,
            }
        }
        count
    }

    /// Counts a session before it is taken in; one that is not taken in does not count.
    async fn count_new(&self, id: &str, record: &Record) -> Result<(), Refusal> {
        let subject = &record.binding.subject;
        let counted = self.count(subject, id, (Part::Record, record.size())).await;
        if counted.is_err() && self.at_hand.get(id).is_none() {
            self.at_hand.owned.remove(subject, id);
        }
        counted
    }

    /// Counts what a session takes; older ones of the same principal end where it takes too much.
    async fn count(&self, subject: &str, id: &str, (part, bytes): (Part, usize)) -> Result<(), Refusal> {
        for oldest in self.at_hand.owned.set(subject, id, part, bytes) {
            self.shared.end(&oldest).await.map_err(|e| unavailable(&e))?;
            if let Some(session) = self.at_hand.get(&oldest) {
                self.end_here(&session);
                if self.ended.try_send(session).is_err() {
                    tracing::warn!("many sessions end at once; servers are told later");
                }
            }
        }
        Ok(())
    }

    /// Takes in what the agent has set on other replicas; needed only where a server's session is opened anew.
    pub(crate) async fn refresh(&self, session: &Session) {
        if let Ok(Stored::Live(record)) = self.shared.record(&session.id).await {
            session.set_record(record);
        }
    }

    /// Remembers the log level that the agent set.
    pub(crate) async fn remember_log_level(&self, session: &Session, params: &str) -> Result<(), Refusal> {
        self.rewrite(session, |record| record.log_level = Some(params.to_owned())).await
    }

    /// Remembers that the agent subscribed to a resource, or no longer does.
    pub(crate) async fn remember_subscription(
        &self,
        session: &Session,
        server: ServerId,
        uri: &str,
        on: bool,
    ) -> Result<(), Refusal> {
        let change = |record: &mut Record| {
            record.subscriptions.retain(|known| known.server != server || known.uri != uri);
            let taken: usize = record.subscriptions.iter().map(|known| known.uri.len()).sum();
            let has_room =
                record.subscriptions.len() < MAX_SUBSCRIPTIONS && taken + uri.len() <= MAX_SUBSCRIBED_BYTES;
            if on && has_room {
                record.subscriptions.push(Subscription { server, uri: uri.to_owned() });
            }
        };
        self.rewrite(session, change).await
    }

    /// Changes a record; without the map it is changed here and written back later.
    async fn rewrite(&self, session: &Session, change: impl Fn(&mut Record)) -> Result<(), Refusal> {
        match self.shared.rewrite(&session.id, &change).await {
            Ok(Some(record)) => session.set_record(record),
            Ok(None) => return Err(unknown()),
            Err(error) => {
                tracing::warn!(error = %error, "what a session set is remembered here only");
                let mut record = Record::clone(&session.record());
                change(&mut record);
                session.set_record(record);
                session.dirty.store(true, Ordering::Relaxed);
                session.behind.store(true, Ordering::Relaxed);
            }
        }
        let record = session.record();
        self.count(&record.binding.subject, &session.id, (Part::Record, record.size())).await
    }

    /// What is open at `server`: known here, or opened by another replica.
    pub(crate) async fn upstream(
        &self,
        session: &Session,
        server: ServerId,
        generation: u32,
    ) -> Result<Option<Arc<UpstreamSession>>, Refusal> {
        if let Some(open) = session.upstream(server).filter(|open| open.generation >= generation) {
            return Ok(Some(open));
        }
        let found =
            self.shared.upstream(&session.id, server, generation).await.map_err(|e| unavailable(&e))?;
        let Some(open) = found.map(Arc::new) else { return Ok(None) };
        session.set_upstream(server, Arc::clone(&open));
        Ok(Some(open))
    }

    /// Publishes what was just opened; if another one came first, that one counts and the caller closes its own.
    pub(crate) async fn publish_upstream(
        &self,
        session: &Session,
        server: ServerId,
        open: UpstreamSession,
    ) -> Result<Published, Refusal> {
        let size = open.initialized.len();
        self.count(&session.record().binding.subject, &session.id, (Part::Upstream(server), size)).await?;
        // Written down first: a session that is open and not in the list would be left behind.
        let written = match self.watch(session, server, &open).await {
            Ok(()) => self.shared.put_upstream(session, server, &open).await,
            Err(error) => Err(error),
        };
        match written {
            Ok(false) => match self.upstream(session, server, open.generation).await? {
                Some(first) => Ok(Published::Lost(first)),
                None => Err(changed_meanwhile()),
            },
            written => {
                if written.is_err() {
                    session.behind.store(true, Ordering::Relaxed);
                }
                let open = Arc::new(open);
                session.set_upstream(server, Arc::clone(&open));
                Ok(Published::First(open))
            }
        }
    }

    /// Has somebody look at an upstream session from time to time, whether it is still needed.
    async fn watch(
        &self,
        session: &Session,
        server: ServerId,
        open: &UpstreamSession,
    ) -> Result<(), CoordinationError> {
        if open.id.is_none() {
            return Ok(());
        }
        let due = Due { session: session.id.clone(), server, generation: open.generation, failed: 0 };
        self.look_again(&[due]).await
    }

    /// Has these looked at again after a while.
    pub(crate) async fn look_again(&self, dues: &[Due]) -> Result<(), CoordinationError> {
        let now = self.clock.now();
        let after = ((self.idle + self.shared.trusted) / 8).max(SHORTEST_LOOK);
        self.wheel.add(dues, now + after, now).await
    }

    /// Ends a session that nobody has used for long; tells whether it has ended.
    pub(crate) async fn end_if_expired(&self, id: &str) -> Result<bool, CoordinationError> {
        self.shared.bury(id).await
    }

    /// Keeps what is known of an upstream session that is still needed; tells whether anything is.
    pub(crate) async fn keep_upstream(&self, due: &Due) -> Result<bool, CoordinationError> {
        self.shared.touch_upstream(due).await
    }

    /// Takes the right to close an upstream session; another replica may have come first.
    pub(crate) async fn claim_upstream(&self, due: &Due) -> Result<Claim, CoordinationError> {
        if !self.shared.claim(due).await? {
            return Ok(Claim::Busy);
        }
        Ok(self.recorded(due).await?.map_or(Claim::Gone, Claim::Taken))
    }

    /// What the shared map has of an upstream session.
    pub(crate) async fn recorded(&self, due: &Due) -> Result<Option<UpstreamSession>, CoordinationError> {
        self.shared.upstream(&due.session, due.server, due.generation).await
    }

    /// Where the record of a session is.
    #[cfg(test)]
    pub(crate) fn key_of(id: &str) -> String {
        sealed_map::key_of(id)
    }

    /// Forgets an upstream session that was closed.
    pub(crate) async fn forget_upstream(&self, due: &Due) -> Result<(), CoordinationError> {
        self.shared.remove_upstream(due).await
    }
}

pub(crate) fn unknown() -> Refusal {
    Refusal::new(
        Reason::UnknownSession,
        "this session is not known or has ended; send initialize to open a new one",
    )
}

fn changed_meanwhile() -> Refusal {
    Refusal::new(Reason::CoordinationUnavailable, "the session changed meanwhile; try again")
        .with_retry_after(Duration::from_secs(1))
}

fn unavailable(error: &CoordinationError) -> Refusal {
    tracing::error!(error = %error, "sessions cannot be read or written");
    Refusal::new(
        Reason::CoordinationUnavailable,
        "sessions cannot be read or written just now; try again after Retry-After",
    )
    .with_retry_after(RETRY_AFTER)
}

#[cfg(test)]
mod tests;
