//! The comparison with the registry at the start and every few minutes: it repairs whatever events missed (S4-05).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use portico_process::ReadinessCheck;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::health::{doubled, jittered};
use crate::registry::RegistryFault;
use crate::shares::Held;
use crate::spec::{InvalidSpec, Spec};
use crate::watcher::Context;

/// After a failure: the registry may just be starting.
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// How long the first list waits for a share to compare it with.
const FIRST_SHARE: Duration = Duration::from_secs(2);

/// Every instance that the registry knew at some moment after `started`.
#[derive(Debug)]
pub(crate) struct Resynced {
    pub(crate) started: Instant,
    pub(crate) specs: Vec<Spec>,
}

/// Reads the whole list, again and again, until shutdown: now and then, and whenever this worker has got a share.
pub(crate) async fn run(
    context: Arc<Context>,
    check: ReadinessCheck,
    mut held: watch::Receiver<Held>,
    resynced: mpsc::Sender<Resynced>,
    shutdown: CancellationToken,
) -> Result<(), Infallible> {
    let work = async {
        let (mut failures, mut taken) = (0, 0);
        // At the start there is nothing to compare with; but the registry is asked whether it is there.
        let first = held.wait_for(|held| held.taken > 0);
        if let Ok(Ok(held)) = timeout(FIRST_SHARE, first).await {
            taken = held.taken;
        }
        loop {
            let wait = match read(&context).await {
                Ok(list) => {
                    failures = 0;
                    check.ready();
                    context.metrics.resync("ok");
                    if resynced.send(list).await.is_err() {
                        return;
                    }
                    context.settings.resync_interval()
                }
                Err(error) => {
                    context.metrics.resync("failed");
                    tracing::warn!(error = &error as &dyn std::error::Error, "instances cannot be listed");
                    failures += 1;
                    doubled(FIRST_RETRY, failures - 1, LONGEST_RETRY)
                }
            };
            let pause = sleep(jittered(wait, &*context.rng));
            if failures > 0 {
                pause.await;
                continue;
            }
            tokio::select! {
                () = pause => {}
                Ok(held) = held.wait_for(|held| held.taken > taken) => taken = held.taken,
            }
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = work => {}
    }
    Ok(())
}

async fn read(context: &Context) -> Result<Resynced, RegistryFault> {
    let started = Instant::now();
    let rows = context.registry.specs(&context.settings).await?;
    let mut specs = Vec::with_capacity(rows.len());
    for row in rows {
        match row {
            Ok(spec) => specs.push(spec),
            Err(InvalidSpec::Provider) => {}
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "an instance cannot be watched");
            }
        }
    }
    Ok(Resynced { started, specs })
}
