//! Sessions that nobody has used for long: ended by one replica for all.

use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use portico_coordination::{CoordinationError, Lease};
use portico_process::Tasks;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use super::close::{Closing, close_upstream, close_upstreams};
use crate::engine::Engine;
use crate::session::{Due, Session};

/// Who looks for expired sessions holds this lease.
const LEASE: &str = "gateway/expiry";
const LEASE_TTL: Duration = Duration::from_mins(1);
/// How often it is tried to get the lease, and looked for what is due.
const EVERY: Duration = Duration::from_secs(2);
/// How often a replica looks through the sessions that it has at hand.
const LOOK: Duration = Duration::from_secs(15);
/// How often readers are looked at that may have stopped reading.
const READERS: Duration = Duration::from_secs(2);
/// Sessions that are looked at and closed at the same time, and before the lease is renewed: no more than servers that do
/// not answer leave time for.
const AT_ONCE: usize = 64;
const PER_LEASE: usize = 4 * AT_ONCE;
/// How often closing a session may fail before its server is given up.
const MAX_FAILED: u8 = 8;

/// Ends expired sessions, and those that had to make room, until shutdown.
///
/// At shutdown nothing is ended: the sessions go on at other replicas.
pub(crate) fn spawn(engine: &Arc<Engine>, tasks: &Tasks, mut ended: mpsc::Receiver<Arc<Session>>) {
    let (token, sweeper) = (tasks.shutdown_token(), Arc::clone(engine));
    tasks.spawn::<_, Infallible>("expire-sessions", async move {
        let mut lease = None;
        token.run_until_cancelled(expire(&sweeper, &mut lease)).await;
        // Another replica goes on at once.
        if let Some(lease) = lease {
            drop(sweeper.leases.release(&lease).await);
        }
        Ok(())
    });
    let (token, engine) = (tasks.shutdown_token(), Arc::clone(engine));
    tasks.spawn::<_, Infallible>("end-sessions", async move {
        let mut look = tokio::time::interval(LOOK);
        let mut readers = tokio::time::interval(READERS);
        let work = async {
            loop {
                tokio::select! {
                    Some(session) = ended.recv() => {
                        engine.replicas.tell_ended(&session.id);
                        close_upstreams(&engine, &session);
                    }
                    _ = look.tick() => {
                        engine.upstream.hop.renew();
                        let sessions = engine.sessions.look_at_idle().await;
                        engine.recorder.metrics.sessions.set(i64::try_from(sessions).unwrap_or(i64::MAX));
                    }
                    _ = readers.tick() => {
                        engine.readers.let_go_of_slow(Instant::now());
                        let ejected = engine.catalogue.snapshot().ejected();
                        let gauge = &engine.recorder.metrics.instances_ejected;
                        gauge.set(i64::try_from(ejected).unwrap_or(i64::MAX));
                    }
                }
            }
        };
        token.run_until_cancelled(work).await;
        Ok(())
    });
}

async fn expire(engine: &Arc<Engine>, lease: &mut Option<Lease>) {
    // Before the catalogue is known every server would look gone.
    engine.catalogue.known().await;
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if let Err(error) = sweep(engine, lease).await {
            tracing::debug!(error = %error, "expired sessions are looked for later");
            *lease = None;
        }
    }
}

/// Looks at every bucket whose time is over, if this replica is the one to do so.
pub(crate) async fn sweep(engine: &Arc<Engine>, lease: &mut Option<Lease>) -> Result<(), CoordinationError> {
    while hold(engine, lease).await? {
        let wheel = &engine.sessions.wheel;
        let Some(number) = wheel.next_over(engine.recorder.clock.now()).await? else { return Ok(()) };
        let bucket = wheel.read(number).await?;
        let mut sessions: BTreeMap<&str, HashSet<&Due>> = BTreeMap::new();
        for due in &bucket.dues {
            sessions.entry(&due.session).or_default().insert(due);
        }
        let sessions: Vec<_> = sessions.into_iter().collect();
        for part in sessions.chunks(PER_LEASE) {
            if !hold(engine, lease).await? {
                // Whoever holds it now begins with this bucket.
                return Ok(());
            }
            look_at(engine, part).await?;
        }
        wheel.clear(&bucket).await?;
        wheel.done(number).await?;
    }
    Ok(())
}

/// Whether this replica is the one to look for expired sessions.
async fn hold(engine: &Engine, lease: &mut Option<Lease>) -> Result<bool, CoordinationError> {
    *lease = match lease.take() {
        Some(held) => engine.leases.renew(&held, LEASE_TTL).await?,
        None => None,
    };
    if lease.is_none() {
        *lease = engine.leases.acquire(LEASE, &engine.replicas.id, LEASE_TTL).await?;
    }
    Ok(lease.is_some())
}

/// Ends the sessions that have expired; what is still needed is written down for later.
async fn look_at(engine: &Arc<Engine>, sessions: &[(&str, HashSet<&Due>)]) -> Result<(), CoordinationError> {
    let mut looks = Vec::with_capacity(sessions.len());
    for (session, dues) in sessions {
        looks.push(look_at_session(engine, session, dues));
    }
    let mut looks = stream::iter(looks).buffer_unordered(AT_ONCE);
    let mut later = Vec::new();
    while let Some(look) = looks.next().await {
        later.extend(look?);
    }
    if later.is_empty() { Ok(()) } else { engine.sessions.look_again(&later).await }
}

/// Gives what has to be looked at again.
async fn look_at_session(
    engine: &Arc<Engine>,
    session: &str,
    dues: &HashSet<&Due>,
) -> Result<Vec<Due>, CoordinationError> {
    let has_ended = engine.sessions.end_if_expired(session).await?;
    if has_ended {
        engine.replicas.tell_ended(session);
        if let Some(session) = engine.sessions.at_hand(session) {
            engine.sessions.end_here(&session);
        }
    }
    let mut later = Vec::new();
    for due in dues.iter().copied() {
        if !has_ended {
            if engine.sessions.keep_upstream(due).await? {
                later.push(due.clone());
            }
            continue;
        }
        match close_upstream(engine, due).await? {
            Closing::Closed => {}
            // It may die on the way.
            Closing::Busy => later.push(due.clone()),
            Closing::Failed if due.failed < MAX_FAILED => {
                later.push(Due { failed: due.failed + 1, ..due.clone() });
            }
            Closing::Failed => {
                tracing::warn!(server.id = %due.server, "a session is left open: its server refuses to close it");
                engine.sessions.forget_upstream(due).await?;
            }
        }
    }
    Ok(later)
}
