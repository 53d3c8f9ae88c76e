//! Authorization codes: kept as hashes, redeemed once.

use chrono::{DateTime, Utc};
use portico_db::{Db, StoreError, on_db, read};
use portico_ids::{SessionId, UserId};
use portico_oauth_types::ScopeSet;
use uuid::Uuid;

use super::row::{record, scopes_column};

record! {
    #[expect(clippy::struct_field_names, reason = "code_hash is the column")]
    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Code {
        code_hash: Vec<u8>,
        family_id: Uuid,
        client_id: String,
        user_id: UserId = id,
        user_epoch: i64,
        session_id: SessionId = id,
        redirect_uri: String,
        code_challenge: String,
        issuer: String,
        resource: String,
        scopes: ScopeSet = scopes,
        nonce: Option<String>,
        authenticated_at: DateTime<Utc>,
        expires_at: DateTime<Utc>,
        redeemed_at: Option<DateTime<Utc>>,
    }
}

/// What redeeming a code finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Redeemed {
    /// The first and only time.
    Fresh(Box<Code>),
    /// It was redeemed before: whatever came of it must be revoked.
    Again(Box<Code>),
    /// Never made, expired or long gone.
    Unknown,
}

#[derive(Debug, Clone)]
pub(crate) struct CodeStore {
    db: Db,
}

impl CodeStore {
    pub(crate) const fn new(db: Db) -> Self {
        Self { db }
    }

    pub(crate) async fn insert(&self, code: &Code) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO authorization_codes (code_hash, family_id, client_id, user_id, user_epoch, \
             session_id, redirect_uri, code_challenge, issuer, resource, scopes, nonce, authenticated_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
        on_db!(&self.db, pool => sqlx::query(SQL)
            .bind(&code.code_hash)
            .bind(code.family_id)
            .bind(&code.client_id)
            .bind(code.user_id.as_uuid())
            .bind(code.user_epoch)
            .bind(code.session_id.as_uuid())
            .bind(&code.redirect_uri)
            .bind(&code.code_challenge)
            .bind(&code.issuer)
            .bind(&code.resource)
            .bind(scopes_column(code.scopes))
            .bind(code.nonce.as_deref())
            .bind(code.authenticated_at)
            .bind(code.expires_at)
            .execute(pool)
            .await
            .map(drop)?);
        Ok(())
    }

    /// Redeems a code at most once: one compare-and-set.
    pub(crate) async fn redeem(&self, code_hash: &[u8], now: DateTime<Utc>) -> Result<Redeemed, StoreError> {
        const REDEEM: &str = "UPDATE authorization_codes SET redeemed_at = $2 \
             WHERE code_hash = $1 AND redeemed_at IS NULL AND expires_at > $2 RETURNING *";
        const AGAIN: &str =
            "SELECT * FROM authorization_codes WHERE code_hash = $1 AND redeemed_at IS NOT NULL";
        let fresh: Option<Code> = on_db!(&self.db, pool => {
            sqlx::query(REDEEM).bind(code_hash).bind(now).try_map(read).fetch_optional(pool).await?
        });
        if let Some(code) = fresh {
            return Ok(Redeemed::Fresh(Box::new(code)));
        }
        let again: Option<Code> = on_db!(&self.db, pool => {
            sqlx::query(AGAIN).bind(code_hash).try_map(read).fetch_optional(pool).await?
        });
        Ok(again.map_or(Redeemed::Unknown, |code| Redeemed::Again(Box::new(code))))
    }
}
