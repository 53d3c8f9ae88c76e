//! What the registry does without being asked.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use chrono::{NaiveTime, TimeDelta};
use portico_db::sealed::RingWatch;
use portico_db::{Duty, idempotency, removable_before, revision};
use portico_process::ReadinessCheck;
use tokio_util::sync::CancellationToken;

use crate::errors::RegistryError;
use crate::service::Service;
use crate::service::access::Actor;
use crate::store::{audit, tombstones};

/// How long followers can catch up without a snapshot.
const TOMBSTONES_KEPT: TimeDelta = TimeDelta::hours(24);
/// How long the database may take to tell its revision before this replica counts as not ready.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// How often old rows are removed.
const FORGET_EVERY: Duration = Duration::from_mins(10);
/// For how long a replica that removes them is the only one: it renews this in time.
pub(crate) const TURN: Duration = Duration::from_mins(15);
/// Audit records that one transaction removes: others who append wait no longer than that takes.
const AUDIT_LOT: i64 = 1000;
/// Lots of one run; the next run removes more.
const AUDIT_LOTS: usize = 1000;

/// Wakes the catalogue's followers when another replica changed something, and tells whether the database answers.
pub(crate) async fn follow_revision(
    service: Arc<Service>,
    poll: Duration,
    check: ReadinessCheck,
    shutdown: CancellationToken,
) -> Result<(), Infallible> {
    let work = async {
        let mut ring = RingWatch::new(&service.db, service.sealer.ring());
        loop {
            let asked = tokio::time::timeout(ANSWER_WITHIN, revision::current(&service.db)).await;
            let Ok(answer) = asked else {
                check.not_ready("the database does not answer in time");
                tracing::warn!("the database does not answer in time");
                continue;
            };
            match answer {
                Ok(current) => {
                    if ring.is_behind().await {
                        check.not_ready("the key ring is behind: see that this replica reads the newest one");
                    } else {
                        check.ready();
                    }
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

/// Removing what is too old.
pub(crate) struct Upkeep {
    pub(crate) service: Arc<Service>,
    /// Every replica could do it; one is enough.
    pub(crate) duty: Duty,
    /// How long audit records are kept; `None`: for ever.
    pub(crate) audit_kept: Option<TimeDelta>,
}

impl Upkeep {
    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> Result<(), Infallible> {
        let work = async {
            loop {
                // Doing it twice harms nothing, so it does not wait for a backend that is away.
                if self.duty.hold().await.unwrap_or(true)
                    && let Err(error) = self.sweep().await
                {
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

    pub(crate) async fn sweep(&self) -> Result<(), RegistryError> {
        let Self { service, .. } = self;
        let now = service.clock.now();
        let mut tx = service.db.begin_write().await?;
        let buried = tombstones::prune((&mut tx).into(), now - TOMBSTONES_KEPT).await?;
        tx.commit().await?;
        let answers = idempotency::prune(&service.db, now).await?;
        let records = match self.audit_kept {
            Some(kept) => self.forget_audit(kept).await?,
            None => 0,
        };
        tracing::debug!(
            registry.tombstones = buried,
            registry.answers = answers,
            registry.audit_records = records,
            "old rows removed"
        );
        Ok(())
    }

    /// Removes the audit records of whole days, a lot at a time, and records that it does.
    async fn forget_audit(&self, kept: TimeDelta) -> Result<u64, RegistryError> {
        let Self { service, .. } = self;
        let Some(before) = removable_before(&service.db, service.clock.now(), kept).await? else {
            return Ok(0);
        };
        let before = before.date_naive().and_time(NaiveTime::MIN).and_utc();
        let mut tx = service.db.begin_write().await?;
        if !audit::begins_before((&mut tx).into(), before).await? {
            return Ok(0);
        }
        audit::allow_removal((&mut tx).into(), before).await?;
        let mut record = service.record(&Actor::registry(), "audit.prune", "audit");
        record.name = format!("before {}", before.date_naive());
        audit::append((&mut tx).into(), &[record]).await?;
        tx.commit().await?;
        let mut removed = 0;
        for _ in 0..AUDIT_LOTS {
            let lot = audit::remove(&service.db, before, AUDIT_LOT).await?;
            removed += lot;
            if lot < AUDIT_LOT.unsigned_abs() {
                break;
            }
        }
        Ok(removed)
    }
}
