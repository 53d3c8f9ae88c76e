use std::path::Path;
use std::sync::Arc;

use portico_ids::SeededRng;
use portico_sealing::KeyRing;
use secrecy::ExposeSecret;

use super::*;
use crate::testing::{databases, schema_with};
use crate::{Db, on_db};

pub(super) const POSTGRES: &str = "CREATE TABLE note (a text NOT NULL, b bytea NOT NULL, version bigint NOT NULL, body bytea, PRIMARY KEY (a, b)); \
     CREATE TABLE sealing_keys (key_id text PRIMARY KEY, closed_at timestamptz)";
pub(super) const SQLITE: &str = "CREATE TABLE note (a text NOT NULL, b blob NOT NULL, version integer NOT NULL, body blob, PRIMARY KEY (a, b)) STRICT; \
     CREATE TABLE sealing_keys (key_id text PRIMARY KEY NOT NULL, closed_at text) STRICT";
pub(super) const NOTES: SealedColumn = SealedColumn {
    table: "note",
    column: "body",
    key: &[KeyColumn::Text("a"), KeyColumn::Bytes("b")],
    version: Some("version"),
    row: name,
};

fn name(key: &[KeyPart]) -> String {
    format!("{key:?}")
}

fn aad(row: &str, version: i64) -> Aad<'_> {
    Aad { table: "note", row, field: "body", version }
}

async fn write(db: &Db, sealer: &Sealer, number: u8) {
    let key = [KeyPart::Text(format!("n{number}")), KeyPart::Bytes(vec![number])];
    let body = sealer.seal(&aad(&name(&key), number.into()), &[number; 5]);
    insert(db, number, Some(body)).await;
}

async fn insert(db: &Db, number: u8, body: Option<Vec<u8>>) {
    const SQL: &str = "INSERT INTO note (a, b, version, body) VALUES ($1, $2, $3, $4)";
    on_db!(db, pool => sqlx::query(SQL)
        .bind(format!("n{number}"))
        .bind(vec![number])
        .bind(i64::from(number))
        .bind(body)
        .execute(pool)
        .await
        .map(drop))
    .unwrap();
}

async fn opens(db: &Db, sealer: &Sealer, number: u8) -> bool {
    const SQL: &str = "SELECT body FROM note WHERE a = $1";
    let body: Vec<u8> =
        on_db!(db, pool => sqlx::query(SQL).bind(format!("n{number}")).try_map(scalar).fetch_one(pool).await)
            .unwrap();
    let key = [KeyPart::Text(format!("n{number}")), KeyPart::Bytes(vec![number])];
    sealer
        .open(&aad(&name(&key), number.into()), &body)
        .is_ok_and(|value| value.expose_secret() == [number; 5])
}

async fn step(db: &Db, sealer: &Sealer, position: Position, limit: u32) -> Rewrapped {
    let mut tx = db.begin_write().await.unwrap();
    let done =
        rewrap((&mut tx).into(), sealer, &[NOTES], (position, limit, DateTime::UNIX_EPOCH)).await.unwrap();
    tx.commit().await.unwrap();
    done
}

async fn used(db: &Db, keys: &KeyRing) -> KeyUse {
    let mut tx = db.begin_read().await.unwrap();
    key_use((&mut tx).into(), &[NOTES], &keys.key_ids()).await.unwrap()
}

fn rotate(path: &Path, keys: &KeyRing, rng: &SeededRng) {
    let staged = KeyRing::stage_file(path, rng).unwrap();
    KeyRing::promote_file(path, &staged, chrono::DateTime::UNIX_EPOCH).unwrap();
    assert!(keys.reload().unwrap());
}

#[tokio::test]
async fn s0_29_a_rewrap_stops_anywhere_goes_on_and_leaves_nothing_behind() {
    for (label, db, _guard) in databases(&schema_with(POSTGRES, SQLITE)).await {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.json");
        let rng = Arc::new(SeededRng::new(1));
        let keys = KeyRing::generate_file(&path, &*rng).unwrap();
        let sealer = Sealer::new(&keys, rng.clone());
        for number in 1..=7 {
            write(&db, &sealer, number).await;
        }
        insert(&db, 8, None).await;
        let old = keys.sealing_key();
        rotate(&path, &keys, &rng);

        let first = step(&db, &sealer, Position::default(), 3).await;
        assert_eq!((first.rewrapped, first.unreadable), (3, 0), "{label}");
        assert_eq!(used(&db, &keys).await.by_key[&old], 4, "{label}");
        // Interrupted: the next run begins at the start.
        let mut rewrapped = 0;
        let mut position = Some(Position::default());
        while let Some(at) = position {
            let done = step(&db, &sealer, at, 3).await;
            rewrapped += done.rewrapped;
            position = done.next;
        }
        assert_eq!(rewrapped, 4, "{label}");
        let found = used(&db, &keys).await;
        assert_eq!(
            (found.by_key[&old], found.by_key[&keys.sealing_key()], found.unknown),
            (0, 7, 0),
            "{label}"
        );
        KeyRing::prune_file(&path, &old).unwrap();
        assert!(keys.reload().unwrap());
        for number in 1..=7 {
            assert!(opens(&db, &sealer, number).await, "{label} {number}");
        }
    }
}

#[tokio::test]
async fn values_that_do_not_open_are_counted_and_passed_by() {
    for (label, db, _guard) in databases(&schema_with(POSTGRES, SQLITE)).await {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.json");
        let rng = Arc::new(SeededRng::new(1));
        let keys = KeyRing::generate_file(&path, &*rng).unwrap();
        let sealer = Sealer::new(&keys, rng.clone());
        let foreign = KeyRing::generate_file(&dir.path().join("other.json"), &SeededRng::new(9)).unwrap();
        write(&db, &Sealer::new(&foreign, rng.clone()), 1).await;
        for number in 2..=3 {
            write(&db, &sealer, number).await;
        }
        insert(&db, 4, Some(b"never sealed".to_vec())).await;
        rotate(&path, &keys, &rng);
        let (mut position, mut seen) = (Some(Position::default()), (0, 0));
        while let Some(at) = position {
            let done = step(&db, &sealer, Position::parse(&at.to_text()).unwrap(), 1).await;
            seen = (seen.0 + done.rewrapped, seen.1 + done.unreadable);
            position = done.next;
        }
        assert_eq!(seen, (2, 2), "{label}");
        assert_eq!(used(&db, &keys).await.unknown, 2, "{label}");
    }
}

#[tokio::test]
async fn a_value_that_changed_meanwhile_is_left_alone() {
    for (label, db, _guard) in databases(&schema_with(POSTGRES, SQLITE)).await {
        let dir = tempfile::tempdir().unwrap();
        let rng = Arc::new(SeededRng::new(1));
        let keys = KeyRing::generate_file(&dir.path().join("keys.json"), &*rng).unwrap();
        let sealer = Sealer::new(&keys, rng);
        write(&db, &sealer, 1).await;
        let stale = SealedRow {
            key: vec![KeyPart::Text("n1".to_owned()), KeyPart::Bytes(vec![1])],
            version: 1,
            sealed: b"what it was".to_vec(),
        };
        let mut tx = db.begin_write().await.unwrap();
        assert!(!NOTES.replace((&mut tx).into(), &stale, b"new").await.unwrap(), "{label}");
        tx.commit().await.unwrap();
        assert!(opens(&db, &sealer, 1).await, "{label}");
    }
}
