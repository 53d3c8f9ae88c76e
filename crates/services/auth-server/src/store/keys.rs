//! Signing keys; the private half is sealed.

use chrono::{DateTime, Utc};
use portico_db::sealed::admit;
use portico_db::{Db, StoreError, Tx, on_db, on_tx, read, revision};

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
        let mut tx = self.db.begin_write().await?;
        admit(&mut tx, &key.private_sealed).await?;
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
        key.insert(&mut tx).await?;
        change.commit(tx, revision).await?;
        Ok(true)
    }

    /// Puts a key in the place of all that there are, also of those that another rotation has just made; returns the
    /// names of those that went. The change is told these names.
    pub(crate) async fn replace_all(
        &self,
        key: &KeyRow,
        change: impl FnOnce(&[String]) -> Change + Send,
    ) -> Result<Vec<String>, StoreError> {
        const KIDS: &str = "SELECT kid FROM signing_keys ORDER BY created_at, kid";
        const REMOVE: &str = "DELETE FROM signing_keys";
        let mut tx = self.db.begin_write().await?;
        admit(&mut tx, &key.private_sealed).await?;
        // The revision's row lock makes this the only rotation under way.
        let revision = revision::take(&mut tx).await?;
        let gone: Vec<String> = on_tx!(&mut tx, conn => sqlx::query_scalar(KIDS).fetch_all(conn).await?);
        on_tx!(&mut tx, conn => sqlx::query(REMOVE).execute(conn).await?.rows_affected());
        key.insert(&mut tx).await?;
        change(&gone).commit(tx, revision).await?;
        Ok(gone)
    }
}

impl KeyRow {
    async fn insert(&self, tx: &mut Tx) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO signing_keys (kid, alg, public_jwk, private_sealed, created_at, activates_at) \
             VALUES ($1, $2, $3, $4, $5, $6)";
        on_tx!(tx, conn => sqlx::query(SQL)
            .bind(&self.kid)
            .bind(&self.alg)
            .bind(&self.public_jwk)
            .bind(&self.private_sealed)
            .bind(self.created_at)
            .bind(self.activates_at)
            .execute(conn)
            .await?
            .rows_affected());
        Ok(())
    }
}
