//! What this service keeps sealed: signing keys, the successors of refresh tokens, answers to creates.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use portico_db::sealed::{
    KeyColumn, KeyPart, KeyUse, Position, Rewrapped, RingWatch, SealedColumn, key_use, rewrap,
};
use portico_db::{Conn, Db, StoreError};
use portico_sealing::Sealer;

use super::change::AuditEntry;

/// Every sealed column, in the order in which a rewrap visits them: what tokens depend on comes first.
pub(crate) const COLUMNS: [SealedColumn; 3] = [
    SealedColumn {
        table: "signing_keys",
        column: "private_sealed",
        key: &[KeyColumn::Text("kid")],
        version: None,
        row: words,
    },
    SealedColumn {
        table: "refresh_tokens",
        column: "successor_sealed",
        key: &[KeyColumn::Bytes("token_hash")],
        version: None,
        row: words,
    },
    SealedColumn {
        table: "idempotency",
        column: "answer",
        key: &[KeyColumn::Text("scope"), KeyColumn::Text("request_id")],
        version: None,
        row: words,
    },
];

/// Names a row as those who seal it do: text as it is, a hash in hexadecimal, a space between two parts.
fn words(key: &[KeyPart]) -> String {
    let word = |part: &KeyPart| match part {
        KeyPart::Text(text) => text.clone(),
        KeyPart::Bytes(bytes) => bytes.iter().fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        }),
    };
    key.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[derive(Debug, Clone)]
pub(crate) struct SealedStore {
    db: Db,
}

impl SealedStore {
    pub(crate) const fn new(db: Db) -> Self {
        Self { db }
    }

    /// Counts the rows that each key holds.
    pub(crate) async fn key_use(&self, key_ids: &[String]) -> Result<KeyUse, StoreError> {
        let mut tx = self.db.begin_read().await?;
        key_use(Conn::from(&mut tx), &COLUMNS, key_ids).await
    }

    pub(crate) fn ring_watch(&self, sealer: &Sealer) -> RingWatch {
        RingWatch::new(&self.db, sealer.ring())
    }

    /// Closes the retired keys and wraps a batch of rows anew; what that did, if anything, is recorded with it.
    pub(crate) async fn rewrap(
        &self,
        sealer: &Sealer,
        batch: (Position, u32, DateTime<Utc>),
        audit: impl FnOnce(&Rewrapped) -> Vec<AuditEntry>,
    ) -> Result<Rewrapped, StoreError> {
        let mut tx = self.db.begin_write().await?;
        let done = rewrap(Conn::from(&mut tx), sealer, &COLUMNS, batch).await?;
        for entry in audit(&done) {
            entry.write(Conn::from(&mut tx)).await?;
        }
        tx.commit().await?;
        Ok(done)
    }
}
