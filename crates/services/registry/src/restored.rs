//! What a restored database needs before it is served again.

use portico_clock::Clock;
use portico_db::{Conn, FromRow, Row, StoreError, on_tx, read};
use portico_ids::{AuditId, Rng};
use portico_sealing::{OpenError, Sealer};
use secrecy::ExposeSecret as _;

use crate::domain::audit::{AuditRecord, Outcome};
use crate::domain::secret::SecretRef;
use crate::service::secrets::aad;
use crate::store::audit;

/// How far the restored revision is ahead of the backup's: further than any that was given out and lost.
const AHEAD: i64 = 1 << 32;
/// The same for the versions of secrets, which people see and set by hand.
const VERSIONS_AHEAD: i64 = 10_000_000;
/// How many secrets are in memory at once.
const BATCH: i64 = 100;

/// Why a restored database cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum RestoredError {
    #[error("the restored database cannot be changed")]
    Store(#[from] StoreError),
    #[error("the secret {reference} does not open: restore with the key ring that sealed it")]
    Sealed {
        reference: String,
        #[source]
        source: OpenError,
    },
}

/// Moves the revision past every one that a follower may have seen, and every secret's version past every one that a
/// gateway may have kept: both would otherwise take what was lost for the newest. Opening each secret on the way
/// proves that the key ring fits.
pub async fn after_restore(
    mut conn: Conn<'_>,
    sealer: &Sealer,
    (clock, rng): (&dyn Clock, &dyn Rng),
) -> Result<(), RestoredError> {
    renew_secrets(conn.reborrow(), sealer).await?;
    move_ahead(conn.reborrow()).await?;
    let record = AuditRecord {
        id: AuditId::generate(clock, rng),
        occurred_at: clock.now(),
        service: "registry".to_owned(),
        principal: "service:registry".to_owned(),
        client_id: String::new(),
        action: "backup.restore".to_owned(),
        target: "registry".to_owned(),
        name: String::new(),
        outcome: Outcome::Allowed,
        reason: "ok".to_owned(),
        correlation_id: String::new(),
        trace_id: String::new(),
        duration_ms: 0,
        request_bytes: 0,
        response_bytes: 0,
        peer: String::new(),
    };
    audit::append(conn, &[record]).await?;
    Ok(())
}

struct Stored {
    reference: SecretRef,
    version: i64,
    sealed: Option<Vec<u8>>,
}

impl FromRow for Stored {
    fn from_row(row: &Row<'_>) -> sqlx::Result<Self> {
        let reference: String = row.get("ref")?;
        let reference = SecretRef::stored(reference);
        Ok(Self { reference, version: row.get("version")?, sealed: row.get("sealed")? })
    }
}

async fn renew_secrets(mut conn: Conn<'_>, sealer: &Sealer) -> Result<(), RestoredError> {
    const PAGE: &str = "SELECT ref, version, sealed FROM secrets WHERE ref > $1 ORDER BY ref LIMIT $2";
    const RENEW: &str = "UPDATE secrets SET version = $2, sealed = $3 WHERE ref = $1";
    let mut after = String::new();
    loop {
        let page: Vec<Stored> = on_tx!(conn.reborrow(), c => sqlx::query(PAGE)
            .bind(&after)
            .bind(BATCH)
            .try_map(read)
            .fetch_all(c)
            .await
            .map_err(StoreError::from)?);
        let Some(last) = page.last() else { return Ok(()) };
        last.reference.as_str().clone_into(&mut after);
        for secret in page {
            let version = secret.version + VERSIONS_AHEAD;
            let value = renewed(sealer, &secret, version)?;
            on_tx!(conn.reborrow(), c => sqlx::query(RENEW)
                .bind(secret.reference.as_str())
                .bind(version)
                .bind(value)
                .execute(c)
                .await
                .map(drop)
                .map_err(StoreError::from)?);
        }
    }
}

/// Seals a value for its new version; a deleted secret has none.
fn renewed(sealer: &Sealer, secret: &Stored, version: i64) -> Result<Option<Vec<u8>>, RestoredError> {
    let Some(kept) = &secret.sealed else { return Ok(None) };
    let value = sealer
        .open(&aad(&secret.reference, secret.version), kept)
        .map_err(|source| RestoredError::Sealed { reference: secret.reference.to_string(), source })?;
    Ok(Some(sealer.seal(&aad(&secret.reference, version), value.expose_secret())))
}

async fn move_ahead(mut conn: Conn<'_>) -> Result<(), StoreError> {
    const MOVE: &str = "UPDATE revision SET value = value + $1 WHERE id = 1";
    const HORIZON: &str =
        "UPDATE tombstone_horizon SET revision = (SELECT value FROM revision WHERE id = 1) WHERE id = 1";
    on_tx!(conn.reborrow(), c => sqlx::query(MOVE).bind(AHEAD).execute(c).await.map(drop)?);
    on_tx!(conn, c => sqlx::query(HORIZON).execute(c).await.map(drop)?);
    Ok(())
}
