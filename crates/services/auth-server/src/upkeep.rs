//! What the auth-server does without being asked.

use std::convert::Infallible;
use std::error::Error;
use std::time::Duration;

use chrono::{NaiveTime, TimeDelta};
use portico_db::{Duty, StoreError};
use portico_process::ReadinessCheck;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::actor::{Actor, Deed};
use crate::app::{App, Shared};
use crate::departed;

/// How often this process looks for what other replicas have changed: a revocation that one of them has written is at
/// the followers of all of them after this and a moment.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long the database may take to answer that before this replica counts as not ready.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How often expired rows are removed and keys checked for their age.
const SWEEP_EVERY: Duration = Duration::from_mins(1);
/// For how long a replica that does so is the only one: it renews this in time.
pub(crate) const TURN: Duration = Duration::from_mins(3);
/// Audit records that one transaction removes: others who append wait no longer than that takes.
const AUDIT_LOT: i64 = 1000;
/// Lots of one run; the next run removes more.
const AUDIT_LOTS: usize = 100;

/// Takes in what other replicas have changed, and tells whether the database answers.
pub(crate) async fn look(
    app: Shared,
    check: ReadinessCheck,
    shutdown: CancellationToken,
) -> Result<(), Infallible> {
    // Keys may have changed between the first reading of them and that of the trust.
    let mut keys_at = 0;
    let mut ring = app.stores.sealed.ring_watch(&app.sealer);
    let mut answered_at = Instant::now();
    while shutdown.run_until_cancelled(sleep(LOOK_EVERY)).await.is_some() {
        let asked = timeout(ANSWER_WITHIN, app.trust.refresh()).await;
        if let Ok(Ok(())) = asked {
            answered_at = Instant::now();
        } else {
            check.not_ready("the database does not answer");
            let error = asked.ok().and_then(Result::err);
            tracing::warn!(error = error.as_ref().map(|error| error as &dyn Error), "trust cannot be read");
            if answered_at.elapsed() >= ANSWER_WITHIN {
                // Another replica may write revocations meanwhile: followers of this one must not believe that there
                // are none.
                app.trust.let_go();
            }
            continue;
        }
        let seen = app.trust.seen();
        if keys_at != seen {
            match app.keys.reload().await {
                Ok(()) => keys_at = seen,
                Err(error) => tracing::error!(error = &error as &dyn Error, "signing keys cannot be read"),
            }
        }
        if ring.is_behind().await || app.keys.active().is_none() {
            check.not_ready("the key ring is behind: see that this replica reads the newest one");
        } else {
            check.ready();
        }
    }
    Ok(())
}

/// Removing what has expired, and the next signing key when its time has come.
#[derive(Debug)]
pub(crate) struct Upkeep {
    pub(crate) app: Shared,
    /// Every replica could do it; one is enough.
    pub(crate) duty: Duty,
}

impl Upkeep {
    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> Result<(), Infallible> {
        while shutdown.run_until_cancelled(sleep(SWEEP_EVERY)).await.is_some() {
            // Doing it twice harms nothing, so it does not wait for a backend that is away.
            if self.duty.hold().await.unwrap_or(true) {
                sweep(&self.app).await;
            }
        }
        self.duty.release().await;
        Ok(())
    }
}

pub(crate) async fn sweep(app: &App) {
    let now = app.clock.now();
    if let Err(error) = app.stores.sweep.run(now).await {
        tracing::warn!(error = &error as &dyn Error, "expired rows cannot be removed");
    }
    if let Err(error) = app.stores.trust.withdraw_expired(now).await {
        tracing::warn!(error = &error as &dyn Error, "expired trust items cannot be withdrawn");
    }
    if let Some(kept) = app.settings.audit_kept()
        && let Err(error) = forget_audit(app, kept).await
    {
        tracing::warn!(error = &error as &dyn Error, "old audit records cannot be removed");
    }
    if let Err(error) = departed::look_up(app).await {
        tracing::warn!(error = &error as &dyn Error, "the endpoints of grants cannot be looked up");
    }
    if let Err(error) = app.keys.rotate_if_due().await {
        tracing::error!(error = &error as &dyn Error, "signing keys cannot be rotated");
    }
    app.spread().await;
}

/// Removes the audit records of whole days, a lot at a time, and records that it does.
async fn forget_audit(app: &App, kept: TimeDelta) -> Result<(), StoreError> {
    let Some(before) = app.stores.audit.removable_before(app.clock.now(), kept).await? else {
        return Ok(());
    };
    let before = before.date_naive().and_time(NaiveTime::MIN).and_utc();
    let days = format!("before {}", before.date_naive());
    let entry = app.entry(&Actor::service(), Deed::done("audit.prune", "audit", &days));
    if !app.stores.audit.allow_removal(before, &entry).await? {
        return Ok(());
    }
    for _ in 0..AUDIT_LOTS {
        if app.stores.audit.remove(before, AUDIT_LOT).await? < AUDIT_LOT.unsigned_abs() {
            break;
        }
    }
    Ok(())
}
