//! Closing sessions at servers: by one replica, also when the one that opened it is dead.

use std::sync::Arc;

use portico_coordination::CoordinationError;
use portico_ids::ServerId;

use super::no_instance;
use crate::catalogue::Instance;
use crate::engine::Engine;
use crate::refusal::Refusal;
use crate::session::{Claim, Due, Session, UpstreamSession};
use crate::upstream::Outgoing;

/// What became of an upstream session that was to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closing {
    /// It is closed, or its server is gone.
    Closed,
    /// Another replica does it, just now.
    Busy,
    /// The server does not answer.
    Failed,
}

/// Closes what this replica knows to be open behind a session that is over; the others close what they know.
pub(crate) fn close_upstreams(engine: &Arc<Engine>, session: &Session) {
    for (server, open) in session.upstreams() {
        let due = Due { session: session.id.clone(), server, generation: open.generation, failed: 0 };
        let task_engine = Arc::clone(engine);
        engine.tasks.spawn_short("gateway.close-session", async move {
            // Whatever is left to do, the wheel comes back to it.
            match close_upstream(&task_engine, &due).await {
                Ok(Closing::Closed | Closing::Busy) => {}
                Ok(Closing::Failed) => {
                    tracing::debug!(server.id = %due.server, "a server was not told that a session is over");
                }
                Err(error) => tracing::debug!(error = %error, "a session is closed later"),
            }
        });
    }
}

/// Closes one upstream session. It is forgotten only when it is closed: a replica that dies on the way leaves it to others.
pub(super) async fn close_upstream(engine: &Arc<Engine>, due: &Due) -> Result<Closing, CoordinationError> {
    let open = match engine.sessions.claim_upstream(due).await? {
        Claim::Taken(open) => open,
        Claim::Busy => return Ok(Closing::Busy),
        Claim::Gone => return Ok(Closing::Closed),
    };
    let snapshot = engine.catalogue.snapshot();
    let server = snapshot.server(due.server);
    let told = match snapshot.instance(due.server, open.instance) {
        Some(instance) => tell(engine, instance, &open).await,
        // Its credential has not come yet.
        None if server.is_some_and(|server| server.enabled) && engine.catalogue.lists(open.instance) => {
            Err(no_instance(server))
        }
        // It was told when it was gone, by whoever knew of the session then.
        None => Ok(()),
    };
    if let Err(refusal) = told {
        tracing::debug!(server.id = %due.server, reason = refusal.reason.as_str(), "a session stays open at its server");
        return Ok(Closing::Failed);
    }
    engine.sessions.forget_upstream(due).await?;
    Ok(Closing::Closed)
}

/// Tells a server that a session is over; 404 and 405 are answers too.
pub(super) async fn tell(
    engine: &Engine,
    instance: &Instance,
    open: &UpstreamSession,
) -> Result<(), Refusal> {
    if open.id.is_none() {
        return Ok(());
    }
    let outgoing = Outgoing::delete().in_session(open.id.as_ref(), open.revision);
    engine.upstream.housekeeping(instance, outgoing).await?;
    engine.recorder.metrics.upstream_sessions_closed.inc();
    Ok(())
}

/// Closes a session that was opened and is not used, without waiting for its server.
pub(super) fn discard(engine: &Arc<Engine>, server: ServerId, open: UpstreamSession) {
    let task_engine = Arc::clone(engine);
    engine.tasks.spawn_short("gateway.close-session", async move {
        let snapshot = task_engine.catalogue.snapshot();
        let Some(instance) = snapshot.instance(server, open.instance) else { return };
        if let Err(refusal) = tell(&task_engine, instance, &open).await {
            tracing::warn!(server.id = %server, reason = refusal.reason.as_str(), "a session stays open at its server");
        }
    });
}
