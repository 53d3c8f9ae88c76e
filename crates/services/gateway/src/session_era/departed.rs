//! Sessions at instances that the catalogue no longer has: they are told while what to tell them with is still known.
//!
//! What the shared map says of such a session stays as it is until the agent's own session is over: it leads every gateway to
//! the session that was opened in its place, and if the instance comes back it answers that it does not know the old one.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use portico_ids::{InstanceId, ServerId};
use portico_process::Tasks;

use super::close::tell;
use crate::catalogue::Instance;
use crate::engine::Engine;
use crate::session::{Claim, Due, UpstreamSession};

/// How long to wait for the other gateways to learn that an instance is gone, and for their short calls to end.
const SETTLE: Duration = Duration::from_secs(2);
/// How long longer calls of this gateway have to end.
const GRACE: Duration = Duration::from_mins(1);
/// How often it is looked whether they have.
const EVERY: Duration = Duration::from_millis(250);
/// How many of the sessions before the one at hand are looked at too.
const EARLIER: u32 = 4;
/// Sessions that are closed at the same time.
const AT_ONCE: usize = 64;
/// Longest that closing all of them may take; servers end what is left by themselves.
const DEADLINE: Duration = Duration::from_mins(2);

/// The instances that are gone, by their ids.
type Departed = HashMap<InstanceId, Arc<Instance>>;

/// Follows the catalogue until shutdown.
pub(crate) fn spawn(engine: &Arc<Engine>, tasks: &Tasks) {
    let (token, engine) = (tasks.shutdown_token(), Arc::clone(engine));
    tasks.spawn::<_, Infallible>("close-departed", async move {
        token.run_until_cancelled(follow(&engine)).await;
        Ok(())
    });
}

async fn follow(engine: &Arc<Engine>) {
    let mut changes = engine.catalogue.changes();
    loop {
        changes.mark_unchanged();
        let departed = take(engine);
        if !departed.is_empty() {
            let (token, task_engine) = (engine.tasks.shutdown_token(), Arc::clone(engine));
            engine.tasks.spawn_short("gateway.close-departed", async move {
                let work = async {
                    let_calls_end(&departed).await;
                    let closed = tokio::time::timeout(DEADLINE, close(&task_engine, &departed)).await;
                    if closed.is_err() {
                        tracing::warn!(
                            "sessions stay open at instances that are gone: they answer too slowly"
                        );
                    }
                };
                token.run_until_cancelled(work).await;
            });
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// The instances that are gone since this was last asked.
pub(crate) fn take(engine: &Engine) -> Departed {
    engine.catalogue.take_departed().into_iter().map(|instance| (instance.id, instance)).collect()
}

async fn let_calls_end(departed: &Departed) {
    tokio::time::sleep(SETTLE).await;
    let idle = async {
        while departed.values().any(|instance| instance.traffic.in_flight() > 0) {
            tokio::time::sleep(EVERY).await;
        }
    };
    // Whoever is not done by then is cut off by the server.
    let _ = tokio::time::timeout(GRACE, idle).await;
}

/// Tells instances that are gone of every session that this gateway has at hand there.
pub(crate) async fn close(engine: &Arc<Engine>, departed: &Departed) {
    let servers: HashSet<ServerId> = departed.values().map(|instance| instance.server).collect();
    let mut closes = Vec::new();
    for session in engine.sessions.all_at_hand() {
        for (server, open) in session.upstreams() {
            if !servers.contains(&server) {
                continue;
            }
            // A call may have opened another one in its place by now.
            for generation in open.generation.saturating_sub(EARLIER)..=open.generation {
                let due = Due { session: session.id.clone(), server, generation, failed: 0 };
                let known = (generation == open.generation).then(|| Arc::clone(&open));
                closes.push(close_one(engine, departed, due, known));
            }
        }
    }
    let mut closes = stream::iter(closes).buffer_unordered(AT_ONCE);
    while closes.next().await.is_some() {}
}

/// One gateway does it for all: who claims it leaves the claim to expire. Without the shared map each does it, and twice does
/// no harm.
async fn close_one(engine: &Engine, departed: &Departed, due: Due, known: Option<Arc<UpstreamSession>>) {
    let open = match known {
        Some(open) => open,
        None => match engine.sessions.recorded(&due).await {
            Ok(Some(open)) => Arc::new(open),
            Ok(None) | Err(_) => return,
        },
    };
    let Some(instance) = departed.get(&open.instance).filter(|_| open.id.is_some()) else { return };
    if let Ok(Claim::Busy) = engine.sessions.claim_upstream(&due).await {
        return;
    }
    if let Err(refusal) = tell(engine, instance, &open).await {
        tracing::debug!(server.id = %due.server, reason = refusal.reason.as_str(), "a session stays open at an instance that is gone");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::testing::{instance, instance_id, server, server_id, snapshot};

    fn one() -> (Departed, Arc<Instance>) {
        let snapshot = snapshot(vec![server(1, "one"), instance(1, 1, "http://127.0.0.1:9/mcp")]);
        let instance = Arc::clone(snapshot.instance(server_id(1), instance_id(1)).unwrap());
        (HashMap::from([(instance.id, Arc::clone(&instance))]), instance)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_under_way_may_end_and_what_does_not_end_is_not_waited_for() {
        let (departed, instance) = one();
        let begun = tokio::time::Instant::now();
        let_calls_end(&departed).await;
        assert_eq!(begun.elapsed(), SETTLE, "nothing was under way");
        instance.traffic.begin();
        assert!(tokio::time::timeout(GRACE, let_calls_end(&departed)).await.is_err());
        instance.traffic.end();
        instance.traffic.begin();
        let begun = tokio::time::Instant::now();
        let_calls_end(&departed).await;
        assert_eq!(begun.elapsed(), SETTLE + GRACE);
    }
}
