//! Removing what has expired. Every statement is safe to run on several replicas at once.

use chrono::{DateTime, Duration, Utc};
use portico_db::{Db, StoreError, idempotency, on_db, on_tx};

/// How long a redeemed code is remembered, so that its reuse is still seen.
const CODE_MEMORY: Duration = Duration::hours(24);
/// How long dead families are kept, so that reuse of their tokens is still answered the same way.
const FAMILY_MEMORY: Duration = Duration::days(7);
/// How long tombstones of the feed are kept, which is how old a follower may be and still get deltas.
const DELTA_WINDOW: Duration = Duration::hours(24);
/// How long a client that nobody vouches for lives without being used (AS-30).
const UNUSED_CLIENT: Duration = Duration::days(30);

/// How many clients that nobody vouches for are kept before one of them ever got a token; the oldest go first.
/// Whoever registers clients to fill the disk fills no more of it than this (AS-30).
const UNTRIED_CLIENTS: i64 = 10_000;

#[derive(Debug, Clone)]
pub(crate) struct Sweeper {
    db: Db,
}

impl Sweeper {
    pub(crate) const fn new(db: Db) -> Self {
        Self { db }
    }

    pub(crate) async fn run(&self, now: DateTime<Utc>) -> Result<(), StoreError> {
        const BY_TIME: [(&str, Duration); 6] = [
            (
                "UPDATE refresh_tokens SET successor_sealed = NULL WHERE successor_sealed IS NOT NULL AND grace_until <= $1",
                Duration::zero(),
            ),
            ("DELETE FROM authorization_codes WHERE expires_at <= $1", CODE_MEMORY),
            ("DELETE FROM login_sessions WHERE expires_at <= $1", Duration::zero()),
            ("DELETE FROM token_families WHERE expires_at <= $1", FAMILY_MEMORY),
            ("DELETE FROM token_families WHERE revoked_at <= $1", FAMILY_MEMORY),
            (
                "DELETE FROM clients WHERE registration IN ('dynamic', 'document') AND COALESCE(last_used_at, created_at) <= $1 \
                 AND client_id NOT IN (SELECT client_id FROM token_families WHERE revoked_at IS NULL)",
                UNUSED_CLIENT,
            ),
        ];
        for (sql, age) in BY_TIME {
            on_db!(&self.db, pool => sqlx::query(sql).bind(now - age).execute(pool).await.map(drop)?);
        }
        self.sweep_untried(UNTRIED_CLIENTS).await?;
        idempotency::prune(&self.db, now).await?;
        self.sweep_tombstones(now - DELTA_WINDOW).await
    }

    pub(super) async fn sweep_untried(&self, kept: i64) -> Result<(), StoreError> {
        const SQL: &str = "DELETE FROM clients WHERE client_id IN (SELECT client_id FROM clients \
             WHERE registration IN ('dynamic', 'document') AND last_used_at IS NULL \
             ORDER BY created_at DESC, client_id DESC LIMIT 1000000 OFFSET $1)";
        on_db!(&self.db, pool => sqlx::query(SQL).bind(kept).execute(pool).await.map(drop)?);
        Ok(())
    }

    async fn sweep_tombstones(&self, before: DateTime<Utc>) -> Result<(), StoreError> {
        const NEWEST: &str =
            "SELECT MAX(revision) FROM trust_items WHERE removed = TRUE AND changed_at <= $1";
        const FLOOR: &str = "UPDATE trust_floor SET value = $1 WHERE id = 1 AND value < $1";
        const DELETE: &str = "DELETE FROM trust_items WHERE removed = TRUE AND changed_at <= $1";
        let mut tx = self.db.begin_write().await?;
        let newest: Option<i64> =
            on_tx!(&mut tx, conn => sqlx::query_scalar(NEWEST).bind(before).fetch_one(conn).await?);
        let Some(newest) = newest else { return Ok(()) };
        on_tx!(&mut tx, conn => sqlx::query(FLOOR).bind(newest).execute(conn).await?.rows_affected());
        on_tx!(&mut tx, conn => sqlx::query(DELETE).bind(before).execute(conn).await?.rows_affected());
        tx.commit().await
    }
}
