//! What a restored database needs before it is served again.

use portico_clock::Clock;
use portico_db::{Conn, StoreError, on_tx};
use portico_ids::Rng;
use portico_sealing::{OpenError, Sealer};

use crate::actor::{Actor, Deed};
use crate::signing_keys::aad;

/// How far a restored revision is ahead of the backup's: further than any that was given out and lost.
const AHEAD: i64 = 1 << 32;

/// Why a restored database cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum RestoredError {
    #[error("the restored database cannot be changed")]
    Store(#[from] StoreError),
    #[error("the signing key {kid} does not open: restore with the key ring that sealed it")]
    Sealed {
        kid: String,
        #[source]
        source: OpenError,
    },
}

/// Checks that the signing keys open, and moves the revision past every one that a follower may have seen, so that
/// whoever followed the lost database gets a snapshot instead of changes that do not fit.
pub async fn after_restore(
    mut conn: Conn<'_>,
    sealer: &Sealer,
    (clock, rng): (&dyn Clock, &dyn Rng),
) -> Result<(), RestoredError> {
    open_signing_keys(conn.reborrow(), sealer).await?;
    move_ahead(conn.reborrow()).await?;
    let deed = Deed::done("backup.restore", "auth-server", "");
    Actor::service().entry(clock, rng, deed).write(conn).await?;
    Ok(())
}

async fn open_signing_keys(conn: Conn<'_>, sealer: &Sealer) -> Result<(), RestoredError> {
    const SQL: &str = "SELECT kid, private_sealed FROM signing_keys";
    let keys: Vec<(String, Vec<u8>)> =
        on_tx!(conn, c => sqlx::query_as(SQL).fetch_all(c).await.map_err(StoreError::from)?);
    for (kid, sealed) in keys {
        if let Err(source) = sealer.open(&aad(&kid), &sealed) {
            return Err(RestoredError::Sealed { kid, source });
        }
    }
    Ok(())
}

async fn move_ahead(mut conn: Conn<'_>) -> Result<(), StoreError> {
    const MOVE: &str = "UPDATE revision SET value = value + $1 WHERE id = 1";
    const FLOOR: &str =
        "UPDATE trust_floor SET value = (SELECT value FROM revision WHERE id = 1) WHERE id = 1";
    on_tx!(conn.reborrow(), c => sqlx::query(MOVE).bind(AHEAD).execute(c).await.map(drop)?);
    on_tx!(conn, c => sqlx::query(FLOOR).execute(c).await.map(drop)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use portico_clock::MockClock;
    use portico_db::testing::databases;
    use portico_db::{Db, revision};
    use portico_ids::SeededRng;
    use portico_sealing::KeyRing;
    use sqlx::query;

    use super::*;
    use crate::store::Stores;

    async fn restored(db: &Db, sealer: &Sealer) -> Result<(), RestoredError> {
        let clock = MockClock::at(chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap());
        let mut tx = db.begin_write().await.unwrap();
        after_restore((&mut tx).into(), sealer, (&clock, &SeededRng::new(3))).await?;
        tx.commit().await.unwrap();
        Ok(())
    }

    fn sealer(seed: u64) -> Sealer {
        let dir = tempfile::tempdir().unwrap();
        let rng = Arc::new(SeededRng::new(seed));
        Sealer::new(&KeyRing::generate_file(&dir.path().join("keys.json"), &*rng).unwrap(), rng)
    }

    #[tokio::test]
    async fn a_follower_of_the_lost_database_gets_a_snapshot() {
        for (label, db, _guard) in databases(crate::schema()).await {
            restored(&db, &sealer(1)).await.unwrap();
            let trust = Stores::new(&db).trust;
            let now = revision::current(&db).await.unwrap();
            for lost in [1, 1_000_000] {
                let changes = trust.changes(Some(lost)).await.unwrap();
                assert!(changes.snapshot && changes.revision == now, "{label}");
            }
            assert!(!trust.changes(Some(now)).await.unwrap().snapshot, "{label}");
        }
    }

    #[tokio::test]
    async fn a_ring_that_does_not_open_the_signing_keys_is_refused() {
        const SQL: &str = "INSERT INTO signing_keys (kid, alg, public_jwk, private_sealed, created_at, activates_at) \
             VALUES ('k1', 'ES256', '{}', $1, $2, $2)";
        for (label, db, _guard) in databases(crate::schema()).await {
            let (ours, theirs) = (sealer(1), sealer(2));
            let at = chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap();
            let sealed = ours.seal(&aad("k1"), b"key");
            portico_db::on_db!(&db, pool => query(SQL).bind(sealed.as_slice()).bind(at).execute(pool).await.map(drop)).unwrap();
            let refused = restored(&db, &theirs).await.unwrap_err();
            assert!(matches!(refused, RestoredError::Sealed { .. }), "{label}: {refused}");
            assert_eq!(revision::current(&db).await.unwrap(), 0, "{label}: nothing half done");
            restored(&db, &ours).await.unwrap();
        }
    }
}
