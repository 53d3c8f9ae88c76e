//! What must hold before a process takes requests.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Collects the named checks of a process; clones share them.
///
/// A process without any check is not ready: boot has not got that far.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    checks: Arc<Mutex<Vec<CheckReport>>>,
    changed: watch::Sender<()>,
    draining: Option<CancellationToken>,
}

/// What one check says at this moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// Name of the check, e.g. `database`.
    pub name: &'static str,
    /// Whether it holds.
    pub ready: bool,
    /// Why it does not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Readiness {
    /// Makes a collection without checks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the process unready for good once `token` is cancelled, so that a load balancer stops sending.
    #[must_use]
    pub fn draining_with(self, token: CancellationToken) -> Self {
        Self { draining: Some(token), ..self }
    }

    /// Adds a check, which is not ready until its owner says so.
    #[must_use]
    pub fn check(&self, name: &'static str) -> ReadinessCheck {
        let mut checks = self.lock();
        let index = checks.len();
        checks.push(CheckReport { name, ready: false, reason: Some("has not reported yet".to_owned()) });
        drop(checks);
        ReadinessCheck { checks: Arc::clone(&self.checks), changed: self.changed.clone(), index }
    }

    /// Returns what every check says, in the order in which they were added.
    #[must_use]
    pub fn snapshot(&self) -> Vec<CheckReport> {
        let mut reports = self.lock().clone();
        if self.draining.as_ref().is_some_and(CancellationToken::is_cancelled) {
            let reason = Some("the process is shutting down".to_owned());
            reports.push(CheckReport { name: "drain", ready: false, reason });
        }
        reports
    }

    /// Tells whether every check holds and the process is not shutting down.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let reports = self.snapshot();
        !reports.is_empty() && reports.iter().all(|report| report.ready)
    }

    /// Waits until the process is ready. One that shuts down never will be: give up with its token.
    pub async fn ready(&self) {
        self.until(Self::is_ready).await;
    }

    /// Waits until every check holds but one, whose owner waits for the others.
    pub async fn all_but(&self, last: &ReadinessCheck) {
        let hold = |(index, report): (usize, &CheckReport)| index == last.index || report.ready;
        self.until(|readiness| readiness.snapshot().iter().enumerate().all(hold)).await;
    }

    async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let mut changed = self.changed.subscribe();
        // The sender is this very value: it cannot be gone.
        while !holds(self) && changed.changed().await.is_ok() {}
    }

    fn lock(&self) -> MutexGuard<'_, Vec<CheckReport>> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The owner's side of one check. Dropping it leaves the check as it last was.
#[derive(Debug)]
pub struct ReadinessCheck {
    checks: Arc<Mutex<Vec<CheckReport>>>,
    changed: watch::Sender<()>,
    index: usize,
}

impl ReadinessCheck {
    /// Says that the check holds.
    pub fn ready(&self) {
        self.set(None);
    }

    /// Says that the check does not hold, and why; the reason is shown to operators, so it carries no secret.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.set(Some(reason.into()));
    }

    fn set(&self, reason: Option<String>) {
        let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(report) = checks.get_mut(self.index) {
            report.ready = reason.is_none();
            report.reason = reason;
        }
        drop(checks);
        self.changed.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s3_42_a_process_without_checks_is_not_ready() {
        assert!(!Readiness::new().is_ready());
    }

    #[test]
    fn s3_42_a_process_is_ready_when_every_check_is() {
        let readiness = Readiness::new();
        let (database, feed) = (readiness.check("database"), readiness.check("trust_feed"));
        database.ready();
        assert!(!readiness.is_ready());
        feed.ready();
        assert!(readiness.is_ready());
        database.not_ready("connection refused");
        assert!(!readiness.is_ready());
        let reason = Some("connection refused".to_owned());
        assert_eq!(readiness.snapshot()[0], CheckReport { name: "database", ready: false, reason });
    }

    #[tokio::test]
    async fn the_owner_of_the_last_check_wakes_when_all_the_others_hold() {
        let readiness = Readiness::new();
        let (database, listener) = (readiness.check("database"), readiness.check("public"));
        let waited = tokio::time::timeout(std::time::Duration::from_secs(5), readiness.all_but(&listener));
        let (waited, ()) = tokio::join!(waited, async {
            database.ready();
        });
        waited.unwrap();
        assert!(!readiness.is_ready());
    }

    #[test]
    fn dropping_a_check_does_not_make_it_ready() {
        let readiness = Readiness::new();
        drop(readiness.check("database"));
        assert!(!readiness.is_ready());
    }

    #[test]
    fn s3_42_a_draining_process_is_not_ready() {
        let token = CancellationToken::new();
        let readiness = Readiness::new().draining_with(token.clone());
        readiness.check("database").ready();
        assert!(readiness.is_ready());
        token.cancel();
        assert!(!readiness.is_ready());
        assert_eq!(readiness.snapshot()[1].name, "drain");
    }
}
