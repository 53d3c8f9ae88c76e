use std::sync::Arc;
use std::time::Duration;

use portico_ids::SeededRng;
use portico_sealing::{Aad, KeyRing};
use tokio::time::timeout;

use super::*;
use crate::sealed::tests::{NOTES, POSTGRES, SQLITE};
use crate::sealed::{Position, key_use, rewrap};
use crate::testing::{databases, schema_with};

const AAD: Aad<'_> = Aad { table: "note", row: "n1", field: "body", version: 1 };

/// A deployment's ring as its file is now, and as a replica that does not read it any more has it.
struct Rings {
    dir: tempfile::TempDir,
    rng: Arc<SeededRng>,
    prompt: KeyRing,
    late: KeyRing,
}

impl Rings {
    fn new() -> Self {
        let (dir, rng) = (tempfile::tempdir().unwrap(), Arc::new(SeededRng::new(1)));
        let path = dir.path().join("keys.json");
        let prompt = KeyRing::generate_file(&path, &*rng).unwrap();
        Self { late: KeyRing::load(&path).unwrap(), dir, rng, prompt }
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("keys.json")
    }

    fn stage(&self) -> String {
        KeyRing::stage_file(&self.path(), &*self.rng).unwrap()
    }

    fn promote(&self, key: &str) {
        KeyRing::promote_file(&self.path(), key, DateTime::UNIX_EPOCH).unwrap();
        assert!(self.prompt.reload().unwrap());
    }

    fn sealer(&self, ring: &KeyRing) -> Sealer {
        Sealer::new(ring, self.rng.clone())
    }

    /// Whether a replica with this ring may write what it seals.
    async fn may_write(&self, db: &Db, ring: &KeyRing) -> bool {
        let sealed = self.sealer(ring).seal(&AAD, b"value");
        let mut tx = db.begin_write().await.unwrap();
        match admit(&mut tx, &sealed).await {
            Ok(()) => tx.commit().await.map(|()| true).unwrap(),
            Err(StoreError::RingBehind { key }) => {
                assert_eq!(key, ring.sealing_key());
                false
            }
            Err(error) => panic!("{error}"),
        }
    }
}

async fn step(db: &Db, sealer: &Sealer) -> Result<Vec<String>, StoreError> {
    let mut tx = db.begin_write().await?;
    let batch = (Position::default(), 10, DateTime::UNIX_EPOCH);
    let done = rewrap((&mut tx).into(), sealer, &[NOTES], batch).await?;
    tx.commit().await?;
    Ok(done.closed)
}

#[tokio::test]
async fn s0_29_only_a_replica_that_is_behind_is_refused_in_no_state_of_a_rotation_anybody_else() {
    for (label, db, _guard) in databases(&schema_with(POSTGRES, SQLITE)).await {
        let rings = Rings::new();
        let (prompt, late) = (&rings.prompt, &rings.late);
        let old = prompt.sealing_key();
        let both = async || (rings.may_write(&db, prompt).await, rings.may_write(&db, late).await);
        assert_eq!(both().await, (true, true), "{label}: before");
        let second = rings.stage();
        assert!(prompt.reload().unwrap());
        assert_eq!(both().await, (true, true), "{label}: staged");
        rings.promote(&second);
        assert_eq!(both().await, (true, true), "{label}: it seals, and nothing is closed yet");
        // The replica that is behind knows the next key already, but not that it seals.
        assert!(late.reload().unwrap());
        let third = rings.stage();
        assert!(late.reload().unwrap() && prompt.reload().unwrap());
        rings.promote(&third);
        assert_eq!(step(&db, &rings.sealer(prompt)).await.unwrap(), [second.clone(), old.clone()], "{label}");
        assert_eq!(both().await, (true, false), "{label}: closed");
        let behind = step(&db, &rings.sealer(late)).await;
        assert!(matches!(behind, Err(StoreError::RingBehind { .. })), "{label}: nor does it undo the rewrap");
        assert!(RingWatch::new(&db, late).is_behind().await, "{label}");
        assert!(!RingWatch::new(&db, prompt).is_behind().await, "{label}");
        assert!(step(&db, &rings.sealer(prompt)).await.unwrap().is_empty(), "{label}: closed once");
        // One that is ahead: it seals with a key that this database has not seen.
        let fourth = rings.stage();
        rings.promote(&fourth);
        assert!(rings.may_write(&db, prompt).await, "{label}: ahead");
        for key in [&old, &second, &third] {
            KeyRing::prune_file(&rings.path(), key).unwrap();
        }
        assert!(prompt.reload().unwrap());
        assert!(rings.may_write(&db, prompt).await, "{label}: pruned");
        assert!(late.reload().unwrap());
        assert_eq!(both().await, (true, true), "{label}: caught up");
    }
}

#[tokio::test]
async fn s0_29_a_closing_waits_for_writes_under_way_so_that_the_rewrap_sees_them() {
    const WRITE: &str = "INSERT INTO note (a, b, version, body) VALUES ('n1', $1, 1, $2)";
    for (label, db, _guard) in databases(&schema_with(POSTGRES, SQLITE)).await {
        let rings = Rings::new();
        let old = rings.late.sealing_key();
        let second = rings.stage();
        rings.promote(&second);
        let sealed = rings.sealer(&rings.late).seal(&AAD, b"value");
        let mut writing = db.begin_write().await.unwrap();
        admit(&mut writing, &sealed).await.unwrap();
        let prompt = rings.sealer(&rings.prompt);
        let mut closing = Box::pin(step(&db, &prompt));
        assert!(timeout(Duration::from_millis(100), &mut closing).await.is_err(), "{label}: it waits");
        on_tx!(&mut writing, conn => sqlx::query(WRITE)
            .bind(&[1_u8][..])
            .bind(&sealed)
            .execute(conn)
            .await
            .map(drop))
        .unwrap();
        writing.commit().await.unwrap();
        assert_eq!(closing.await.unwrap(), std::slice::from_ref(&old), "{label}");
        let mut tx = db.begin_read().await.unwrap();
        let found = key_use((&mut tx).into(), &[NOTES], &[old, second]).await.unwrap();
        let held: Vec<i64> = found.by_key.into_values().collect();
        // The row does not open under this name, but it was found.
        assert_eq!((held.iter().sum::<i64>(), found.unknown), (1, 0), "{label}");
        assert!(!rings.may_write(&db, &rings.late).await, "{label}");
    }
}

#[tokio::test]
async fn a_key_is_learned_once_by_many_at_once() {
    for (label, db, _guard) in databases(&schema_with(POSTGRES, SQLITE)).await {
        let rings = Rings::new();
        let sealed = rings.sealer(&rings.prompt).seal(&AAD, b"value");
        let mut writers = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (db, sealed) = (db.clone(), sealed.clone());
            writers.spawn(async move {
                let mut tx = db.begin_write().await.unwrap();
                admit(&mut tx, &sealed).await.unwrap();
                tx.commit().await.unwrap();
            });
        }
        assert_eq!(writers.join_all().await.len(), 8, "{label}");
    }
}
