//! What every change carries inside its transaction: a revision, an audit row, trust items, the answer to repeat.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Duration, Utc};
use portico_db::sealed::admit;
use portico_db::{Conn, StoreError, Tx, idempotency, on_tx};
use uuid::Uuid;

use crate::domain::revocation;
use crate::trust::postponed;

/// One audit row.
#[derive(Debug, Clone, Default)]
pub(crate) struct AuditEntry {
    pub(crate) id: Uuid,
    pub(crate) occurred_at: DateTime<Utc>,
    pub(crate) principal: String,
    pub(crate) client_id: String,
    pub(crate) action: String,
    pub(crate) target: String,
    pub(crate) name: String,
    pub(crate) outcome: String,
    pub(crate) reason: String,
    pub(crate) correlation_id: String,
    pub(crate) trace_id: String,
    pub(crate) peer: String,
}

impl AuditEntry {
    pub(crate) async fn write(&self, mut conn: Conn<'_>) -> Result<(), StoreError> {
        // Held until the commit: readers who go on after the last number that they saw miss nothing.
        const TAKE: &str = "UPDATE audit_sequence SET value = value + 1 WHERE id = 1 RETURNING value";
        const SQL: &str = "INSERT INTO audit (id, occurred_at, principal, client_id, action, target, name, outcome, \
             reason, correlation_id, trace_id, peer, seq) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
        let seq: i64 = on_tx!(conn.reborrow(), conn => sqlx::query_scalar(TAKE).fetch_one(conn).await?);
        on_tx!(conn, conn => sqlx::query(SQL)
            .bind(self.id)
            .bind(self.occurred_at)
            .bind(&self.principal)
            .bind(&self.client_id)
            .bind(&self.action)
            .bind(&self.target)
            .bind(&self.name)
            .bind(&self.outcome)
            .bind(&self.reason)
            .bind(&self.correlation_id)
            .bind(&self.trace_id)
            .bind(&self.peer)
            .bind(seq)
            .execute(conn)
            .await?
            .rows_affected());
        Ok(())
    }
}

/// A trust item to publish with a change, or to withdraw.
#[derive(Debug, Clone)]
pub(crate) enum TrustWrite {
    Put(TrustEntry),
    Remove(String),
}

#[derive(Debug, Clone)]
pub(crate) struct TrustEntry {
    pub(crate) key: String,
    pub(crate) value: Vec<u8>,
    pub(crate) not_before: Option<DateTime<Utc>>,
    pub(crate) expires_at: Option<DateTime<Utc>>,
}

/// The sealed answer to a create, kept so that the same `request_id` gets it again.
#[derive(Clone)]
pub(crate) struct Repeatable {
    /// Caller and method.
    pub(crate) scope: String,
    pub(crate) request_id: String,
    pub(crate) digest: Vec<u8>,
    /// Makes the answer once the revision is known.
    pub(crate) answer: Arc<dyn Fn(i64) -> Vec<u8> + Send + Sync>,
}

impl fmt::Debug for Repeatable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scope, request_id, .. } = self;
        f.debug_struct("Repeatable")
            .field("scope", scope)
            .field("request_id", request_id)
            .finish_non_exhaustive()
    }
}

/// What goes into the transaction of a change, beside the change.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) audit: AuditEntry,
    /// Tells how long its transaction had to wait for others.
    pub(super) begun: Instant,
    pub(crate) trust: Vec<TrustWrite>,
    pub(crate) repeatable: Option<Repeatable>,
}

impl Change {
    pub(crate) fn new(audit: AuditEntry) -> Self {
        Self { audit, begun: Instant::now(), trust: Vec::new(), repeatable: None }
    }

    pub(crate) fn publish(mut self, writes: impl IntoIterator<Item = TrustWrite>) -> Self {
        self.trust.extend(writes);
        self
    }

    pub(crate) fn repeatable(mut self, answer: Option<Repeatable>) -> Self {
        self.repeatable = answer;
        self
    }

    /// Writes everything that the change carries and commits.
    pub(super) async fn commit(&self, mut tx: Tx, revision: i64) -> Result<(), StoreError> {
        // Tokens made while this waited for its turn are older than it.
        let waited = Duration::from_std(self.begun.elapsed()).unwrap_or_default();
        for write in &self.trust {
            write.apply(Conn::from(&mut tx), revision, self.audit.occurred_at + waited).await?;
        }
        if let Some(answer) = &self.repeatable {
            answer.write(&mut tx, revision, self.audit.occurred_at).await?;
        }
        self.audit.write(Conn::from(&mut tx)).await?;
        tx.commit().await
    }
}

impl TrustEntry {
    /// A revocation of a principal takes effect now, and after every earlier one.
    async fn after_earlier_ones(
        &self,
        conn: Conn<'_>,
        now: DateTime<Utc>,
    ) -> Result<Cow<'_, Self>, StoreError> {
        const SQL: &str = "SELECT not_before FROM trust_items WHERE key = $1";
        let Some(made) = self.not_before else { return Ok(Cow::Borrowed(self)) };
        let wanted = made.max(revocation::not_before(now));
        let earlier: Option<Option<DateTime<Utc>>> =
            on_tx!(conn, conn => sqlx::query_scalar(SQL).bind(&self.key).fetch_optional(conn).await?);
        let not_before = revocation::not_before_again(wanted, earlier.flatten(), now);
        if not_before == made {
            return Ok(Cow::Borrowed(self));
        }
        Ok(Cow::Owned(postponed(self, not_before)))
    }
}

impl TrustWrite {
    async fn apply(&self, mut conn: Conn<'_>, revision: i64, now: DateTime<Utc>) -> Result<(), StoreError> {
        const PUT: &str = "INSERT INTO trust_items (key, value, removed, revision, not_before, changed_at, expires_at) \
             VALUES ($1, $2, FALSE, $3, $4, $5, $6) \
             ON CONFLICT (key) DO UPDATE SET value = excluded.value, removed = FALSE, revision = excluded.revision, \
             not_before = excluded.not_before, changed_at = excluded.changed_at, expires_at = excluded.expires_at";
        const REMOVE: &str = "UPDATE trust_items SET removed = TRUE, revision = $2, changed_at = $3 \
             WHERE key = $1 AND removed = FALSE";
        match self {
            Self::Put(entry) => {
                let entry = entry.after_earlier_ones(conn.reborrow(), now).await?;
                on_tx!(conn, conn => sqlx::query(PUT)
                    .bind(&entry.key)
                    .bind(&entry.value)
                    .bind(revision)
                    .bind(entry.not_before)
                    .bind(now)
                    .bind(entry.expires_at)
                    .execute(conn)
                    .await
                    .map(drop)?);
            }
            Self::Remove(key) => on_tx!(conn, conn => sqlx::query(REMOVE)
                .bind(key)
                .bind(revision)
                .bind(now)
                .execute(conn)
                .await
                .map(drop)?),
        }
        Ok(())
    }
}

impl Repeatable {
    /// Fails like a name that is taken if another request with this id was first.
    async fn write(&self, tx: &mut Tx, revision: i64, now: DateTime<Utc>) -> Result<(), StoreError> {
        let answer = (self.answer)(revision);
        admit(&mut *tx, &answer).await?;
        let request =
            idempotency::Request { scope: &self.scope, request_id: &self.request_id, digest: &self.digest };
        if idempotency::begin(&mut *tx, &request, now).await?.is_some() {
            return Err(StoreError::AlreadyExists);
        }
        idempotency::finish(tx, &request, &answer).await
    }
}
