//! What the registry does without being asked.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use portico_db::{idempotency, revision};
use portico_process::ReadinessCheck;
use tokio_util::sync::CancellationToken;

use crate::errors::RegistryError;
use crate::service::Service;
use crate::store::tombstones;

/// How long followers can catch up without a snapshot.
const TOMBSTONES_KEPT: TimeDelta = TimeDelta::hours(24);
/// How often old rows are removed.
const FORGET_EVERY: Duration = Duration::from_mins(10);

/// Wakes the catalogue's followers when another replica changed something, and tells whether the database answers.
pub(crate) async fn follow_revision(
    service: Arc<Service>,
    poll: Duration,
    check: ReadinessCheck,
    shutdown: CancellationToken,
) -> Result<(), Infallible> {
    let work = async {
        loop {
            match revision::current(&service.db).await {
                Ok(current) => {
                    check.ready();
                    service
                        .wake
                        .send_if_modified(|newest| std::mem::replace(newest, current.max(*newest)) < current);
                }
                Err(error) => {
                    check.not_ready("the database does not answer");
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "registry cannot read its database"
                    );
                }
            }
            tokio::time::sleep(poll).await;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        never = work => never,
    }
}

/// Removes tombstones and remembered answers that are too old.
pub(crate) async fn forget(service: Arc<Service>, shutdown: CancellationToken) -> Result<(), Infallible> {
    let work = async {
        loop {
            if let Err(error) = sweep(&service).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "old rows cannot be removed");
            }
            tokio::time::sleep(FORGET_EVERY).await;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        never = work => never,
    }
}

async fn sweep(service: &Service) -> Result<(), RegistryError> {
    let now = service.clock.now();
    let mut tx = service.db.begin_write().await?;
    let buried = tombstones::prune((&mut tx).into(), now - TOMBSTONES_KEPT).await?;
    tx.commit().await?;
    let answers = idempotency::prune(&service.db, now).await?;
    tracing::debug!(registry.tombstones = buried, registry.answers = answers, "old rows removed");
    Ok(())
}
