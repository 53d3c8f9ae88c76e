use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use moka::notification::RemovalCause;
use moka::sync::Cache;
use portico_coordination::{CoordinationError, TtlMap};
use portico_ids::{ServerId, SharedRng, secret_token};
use portico_sealing::HandleSealer;
use secrecy::ExposeSecret;
use tokio::sync::mpsc;

use super::owned::Owned;
use super::record::{Binding, MAX_SUBSCRIPTIONS, Record, Subscription};
use super::{Session, UpstreamSession};
use crate::refusal::{Reason, Refusal};

/// Most sessions that one replica keeps at hand; others are read from the shared map again.
const AT_HAND: u64 = 200_000;
/// How long a replica trusts what it has at hand before it asks the shared map whether the session still exists.
const TRUSTED: Duration = Duration::from_secs(5);
/// Most ended sessions that wait for their DELETE upstream.
const MAX_ENDED: usize = 4096;
/// What upstream sessions are sealed as.
const SEAL: &str = "upstream_session";

/// The sessions of all agents: in the shared map, and at hand where they are used.
#[derive(Debug)]
pub(crate) struct Sessions {
    map: TtlMap,
    at_hand: Cache<String, Arc<Session>>,
    /// Sessions that the shared map confirmed lately.
    confirmed: Cache<String, ()>,
    owned: Arc<Owned>,
    /// Ended sessions whose upstream sessions are to be closed.
    ended: mpsc::Sender<Arc<Session>>,
    handles: HandleSealer,
    rng: SharedRng,
    idle: Duration,
}

impl Sessions {
    /// Also gives the sessions that ended without their agents asking, whose upstream sessions are to be closed.
    pub(crate) fn new(
        map: TtlMap,
        handles: HandleSealer,
        rng: SharedRng,
        idle: Duration,
    ) -> (Self, mpsc::Receiver<Arc<Session>>) {
        let (ended, receiver) = mpsc::channel(MAX_ENDED);
        let owned = Arc::new(Owned::default());
        let (expired, forgotten) = (ended.clone(), Arc::clone(&owned));
        let at_hand = Cache::builder()
            .max_capacity(AT_HAND)
            .time_to_idle(idle)
            .eviction_listener(move |_, session: Arc<Session>, cause| {
                forgotten.remove(&session.record().binding.subject, &session.id);
                if cause == RemovalCause::Expired {
                    session.ended.cancel();
                    close_later(&expired, session);
                }
            })
            .build();
        let confirmed = Cache::builder().max_capacity(AT_HAND).time_to_live(TRUSTED).build();
        (Self { map, at_hand, confirmed, owned, ended, handles, rng, idle }, receiver)
    }

    /// Lets expired sessions be noticed although nobody asks for them.
    pub(crate) fn sweep(&self) {
        self.at_hand.run_pending_tasks();
    }

    pub(crate) async fn create(&self, record: Record) -> Result<Arc<Session>, Refusal> {
        let id = secret_token(&*self.rng).expose_secret().to_owned();
        let bytes = to_bytes(&record);
        self.count(&record.binding.subject, &id, bytes.len()).await?;
        self.map.put(&key(&id), bytes, self.idle).await.map_err(|e| unavailable(&e))?;
        let session = Arc::new(Session::new(id.clone(), record));
        self.at_hand.insert(id.clone(), Arc::clone(&session));
        self.confirmed.insert(id, ());
        Ok(session)
    }

    /// Finds the session of this caller; a foreign one looks like an unknown one (RS-30).
    pub(crate) async fn find(
        &self,
        id: &str,
        is_bound_to: impl Fn(&Binding) -> bool,
    ) -> Result<Arc<Session>, Refusal> {
        let at_hand = self.at_hand.get(id);
        if let Some(session) = &at_hand
            && self.confirmed.contains_key(id)
        {
            return if is_bound_to(&session.record().binding) {
                Ok(Arc::clone(session))
            } else {
                Err(unknown())
            };
        }
        let Some(bytes) = self.map.get(&key(id)).await.map_err(|e| unavailable(&e))? else {
            self.at_hand.invalidate(id);
            return Err(unknown());
        };
        let record: Record = serde_json::from_slice(&bytes).map_err(|_| unknown())?;
        if !is_bound_to(&record.binding) {
            return Err(unknown());
        }
        self.map.touch(&key(id), self.idle).await.map_err(|e| unavailable(&e))?;
        if at_hand.is_none() {
            self.count(&record.binding.subject, id, bytes.len()).await?;
        }
        let session =
            self.at_hand.get_with(id.to_owned(), || Arc::new(Session::new(id.to_owned(), record.clone())));
        session.set_record(record);
        for (server, open) in session.upstreams() {
            let key = upstream_key(&session, server, open.generation);
            self.map.touch(&key, self.idle).await.map_err(|e| unavailable(&e))?;
        }
        self.confirmed.insert(id.to_owned(), ());
        Ok(session)
    }

    /// Forgets a session everywhere.
    pub(crate) async fn end(&self, session: &Session) -> Result<(), Refusal> {
        session.ended.cancel();
        self.at_hand.invalidate(&session.id);
        self.confirmed.invalidate(&session.id);
        self.map.remove(&key(&session.id)).await.map_err(|e| unavailable(&e))?;
        for (server, open) in session.upstreams() {
            for generation in 0..=open.generation {
                let key = upstream_key(session, server, generation);
                self.map.remove(&key).await.map_err(|e| unavailable(&e))?;
            }
        }
        Ok(())
    }

    /// Counts what a session takes; older ones of the same principal end where it takes too much.
    async fn count(&self, subject: &str, id: &str, bytes: usize) -> Result<(), Refusal> {
        for oldest in self.owned.add(subject, id, bytes) {
            match self.at_hand.get(&oldest) {
                Some(session) => {
                    self.end(&session).await?;
                    close_later(&self.ended, session);
                }
                None => drop(self.map.remove(&key(&oldest)).await.map_err(|e| unavailable(&e))?),
            }
        }
        Ok(())
    }

    /// Remembers the log level that the agent set.
    pub(crate) async fn remember_log_level(&self, session: &Session, params: &str) -> Result<(), Refusal> {
        let mut record = Record::clone(&session.record());
        record.log_level = Some(params.to_owned());
        self.rewrite(session, record).await
    }

    /// Remembers that the agent subscribed to a resource, or no longer does.
    pub(crate) async fn remember_subscription(
        &self,
        session: &Session,
        server: ServerId,
        uri: &str,
        on: bool,
    ) -> Result<(), Refusal> {
        let mut record = Record::clone(&session.record());
        record.subscriptions.retain(|known| known.server != server || known.uri != uri);
        if on && record.subscriptions.len() < MAX_SUBSCRIPTIONS {
            record.subscriptions.push(Subscription { server, uri: uri.to_owned() });
        }
        self.rewrite(session, record).await
    }

    async fn rewrite(&self, session: &Session, record: Record) -> Result<(), Refusal> {
        let (bytes, before) = (to_bytes(&record), to_bytes(&session.record()).len());
        self.count(&record.binding.subject, &session.id, bytes.len().saturating_sub(before)).await?;
        self.map.put(&key(&session.id), bytes, self.idle).await.map_err(|e| unavailable(&e))?;
        session.set_record(record);
        Ok(())
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
            self.map.get(&upstream_key(session, server, generation)).await.map_err(|e| unavailable(&e))?;
        let Some(open) = found.and_then(|bytes| self.unseal(session, &bytes)) else { return Ok(None) };
        let open = Arc::new(open);
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
        let key = upstream_key(session, server, open.generation);
        let sealed = Bytes::from(self.handles.seal(SEAL, session.id.as_bytes(), &open.to_bytes()));
        self.count(&session.record().binding.subject, &session.id, sealed.len()).await?;
        if self.map.put_if_absent(&key, sealed, self.idle).await.map_err(|e| unavailable(&e))? {
            let open = Arc::new(open);
            session.set_upstream(server, Arc::clone(&open));
            return Ok(Published::First(open));
        }
        match self.upstream(session, server, open.generation).await? {
            Some(first) => Ok(Published::Lost { first, own: open }),
            None => {
                Err(Refusal::new(Reason::SessionsUnavailable, "the session changed meanwhile; try again"))
            }
        }
    }

    fn unseal(&self, session: &Session, bytes: &[u8]) -> Option<UpstreamSession> {
        let sealed = std::str::from_utf8(bytes).ok()?;
        UpstreamSession::from_bytes(&self.handles.open(SEAL, session.id.as_bytes(), sealed)?)
    }
}

fn close_later(ended: &mpsc::Sender<Arc<Session>>, session: Arc<Session>) {
    if ended.try_send(session).is_err() {
        tracing::warn!("too many sessions end at once; servers are not told of all of them");
    }
}

/// Who opened an upstream session first.
#[derive(Debug)]
pub(crate) enum Published {
    First(Arc<UpstreamSession>),
    Lost { first: Arc<UpstreamSession>, own: UpstreamSession },
}

fn key(id: &str) -> String {
    format!("s/{id}")
}

fn upstream_key(session: &Session, server: ServerId, generation: u32) -> String {
    format!("u/{}/{server}/{generation}", session.id)
}

fn to_bytes(record: &Record) -> Bytes {
    Bytes::from(serde_json::to_vec(record).unwrap_or_default())
}

pub(crate) fn unknown() -> Refusal {
    Refusal::new(
        Reason::UnknownSession,
        "this session is not known or has ended; send initialize to open a new one",
    )
}

fn unavailable(error: &CoordinationError) -> Refusal {
    tracing::error!(error = %error, "sessions cannot be read or written");
    Refusal::new(Reason::SessionsUnavailable, "sessions cannot be read or written just now; try again later")
}
