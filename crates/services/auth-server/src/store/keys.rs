//! Signing keys; the private half is sealed.

use chrono::{DateTime, Utc};
use portico_db::{Db, StoreError, on_db, on_tx, read, revision};

use super::change::Change;
use super::row::record;

record! {
    #[derive(Clone, PartialEq, Eq)]
    struct KeyRow {
        kid: String,
        alg: String,
        public_jwk: String,
        private_sealed: Vec<u8>,
        created_at: DateTime<Utc>,
        activates_at: DateTime<Utc>,
        retires_at: Option<DateTime<Utc>>,
    }
}

impl std::fmt::Debug for KeyRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRow").field("kid", &self.kid).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone)]
pub(crate) struct KeyStore {
    db: Db,
}

impl KeyStore {
    pub(crate) const fn new(db: Db) -> Self {
        Self { db }
    }

    /// Lists every key that is still kept, oldest first.
    pub(crate) async fn list(&self) -> Result<Vec<KeyRow>, StoreError> {
        const SQL: &str = "SELECT * FROM signing_keys ORDER BY created_at, kid";
        Ok(on_db!(&self.db, pool => sqlx::query(SQL).try_map(read).fetch_all(pool).await?))
    }

    /// Adds a key in place of the newest one, if that is still `previous`; it retires at the given time.
    pub(crate) async fn succeed(
        &self,
        previous: Option<(&str, DateTime<Utc>)>,
        key: &KeyRow,
        change: &Change,
    ) -> Result<bool, StoreError> {
        const NEWEST: &str = "SELECT kid FROM signing_keys WHERE retires_at IS NULL";
        const RETIRE: &str = "UPDATE signing_keys SET retires_at = $2 WHERE kid = $1";
        const INSERT: &str = "INSERT INTO signing_keys (kid, alg, public_jwk, private_sealed, created_at, activates_at) \
             VALUES ($1, $2, $3, $4, $5, $6)";
        let mut tx = self.db.begin_write().await?;
        // The revision's row lock makes this the only rotation under way.
        let revision = revision::take(&mut tx).await?;
        let newest: Option<String> =
            on_tx!(&mut tx, conn => sqlx::query_scalar(NEWEST).fetch_optional(conn).await?);
        if newest.as_deref() != previous.map(|(kid, _)| kid) {
            return Ok(false);
        }
        if let Some((kid, at)) = previous {
            on_tx!(&mut tx, conn => sqlx::query(RETIRE).bind(kid).bind(at).execute(conn).await?.rows_affected());
        }
        on_tx!(&mut tx, conn => sqlx::query(INSERT)
            .bind(&key.kid)
            .bind(&key.alg)
            .bind(&key.public_jwk)
            .bind(&key.private_sealed)
            .bind(key.created_at)
            .bind(key.activates_at)
            .execute(conn)
            .await?
            .rows_affected());
        change.commit(tx, revision).await?;
        Ok(true)
    }
}
