//! What every store relies on, on both databases.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::types::Json;
use uuid::Uuid;

use crate::{
    Db, FromRow, Row, Schema, StoreError, on_db, on_tx, read, scalar,
    testing::{databases, schema_with},
};

const POSTGRES: &str = "
    CREATE TABLE sample (id uuid PRIMARY KEY, name text NOT NULL UNIQUE, secret bytea NOT NULL, tags jsonb NOT NULL,
        enabled boolean NOT NULL, count bigint NOT NULL, address text, seen_at timestamptz);
    CREATE TABLE part (id uuid PRIMARY KEY, sample uuid NOT NULL REFERENCES sample (id))";
const SQLITE: &str = "
    CREATE TABLE sample (id blob PRIMARY KEY NOT NULL, name text NOT NULL UNIQUE, secret blob NOT NULL, tags text NOT NULL,
        enabled integer NOT NULL, count integer NOT NULL, address text, seen_at text) STRICT;
    CREATE TABLE part (id blob PRIMARY KEY NOT NULL, sample blob NOT NULL REFERENCES sample (id)) STRICT";

fn schema() -> Schema {
    schema_with(POSTGRES, SQLITE)
}

#[derive(Clone, Debug, PartialEq)]
struct Sample {
    id: Uuid,
    name: String,
    secret: Vec<u8>,
    tags: Vec<String>,
    enabled: bool,
    count: u32,
    address: Option<std::net::IpAddr>,
    seen_at: Option<DateTime<Utc>>,
}

impl FromRow for Sample {
    fn from_row(row: &Row<'_>) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.id("id")?,
            name: row.parse("name")?,
            secret: row.get("secret")?,
            tags: row.json("tags")?,
            enabled: row.get("enabled")?,
            count: row.convert::<i64, _>("count")?,
            address: row.parse_opt("address")?,
            seen_at: row.get("seen_at")?,
        })
    }
}

fn sample(n: u8) -> Sample {
    let seen_at = DateTime::from_timestamp_micros(1_800_000_000_123_456).unwrap();
    Sample {
        id: Uuid::from_u128(n.into()),
        name: format!("sample {n}"),
        secret: vec![n; 40],
        tags: vec!["a".to_owned(), "ü".to_owned()],
        enabled: n.is_multiple_of(2),
        count: u32::MAX,
        address: (n != 3).then(|| "::1".parse().unwrap()),
        seen_at: (n != 3).then_some(seen_at),
    }
}

async fn insert(db: &Db, s: &Sample) -> Result<(), StoreError> {
    const SQL: &str = "INSERT INTO sample (id, name, secret, tags, enabled, count, address, seen_at) \
                       VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    on_db!(db, pool => {
        sqlx::query(SQL)
            .bind(s.id).bind(&s.name).bind(&s.secret).bind(Json(&s.tags)).bind(s.enabled)
            .bind(i64::from(s.count)).bind(s.address.map(|a| a.to_string())).bind(s.seen_at)
            .execute(pool).await?;
    });
    Ok(())
}

async fn all(db: &Db, order: &str) -> Vec<Sample> {
    let sql = format!("SELECT * FROM sample ORDER BY {order}");
    on_db!(db, pool => sqlx::query(sqlx::AssertSqlSafe(sql)).try_map(read).fetch_all(pool).await.unwrap())
}

#[tokio::test]
async fn every_column_type_round_trips() {
    for (label, db, _guard) in databases(&schema()).await {
        for n in 1..=3 {
            insert(&db, &sample(n)).await.unwrap();
        }
        assert_eq!(all(&db, "id").await, [sample(1), sample(2), sample(3)], "{label}");
    }
}

#[tokio::test]
async fn times_sort_and_compare_as_times_whatever_their_fraction() {
    const BEFORE: &str = "SELECT count(*) FROM sample WHERE seen_at < $1";
    let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    let micros = [0, 1, 10, 1000, 123_000, 123_456, 999_999, 1_000_000];
    for (label, db, _guard) in databases(&schema()).await {
        for (n, offset) in (1..=8).zip(micros).rev() {
            let seen_at = Some(start + TimeDelta::microseconds(offset));
            insert(&db, &Sample { seen_at, ..sample(n) }).await.unwrap();
        }
        let sorted: Vec<_> = all(&db, "seen_at").await.iter().map(|s| s.seen_at.unwrap()).collect();
        let expected: Vec<_> = micros.map(|m| start + TimeDelta::microseconds(m)).to_vec();
        assert_eq!(sorted, expected, "{label}");
        for (n, time) in (0_i64..).zip(expected) {
            let before: i64 = on_db!(&db, pool => {
                sqlx::query(BEFORE).bind(time).try_map(scalar).fetch_one(pool).await.unwrap()
            });
            assert_eq!(before, n, "{label}: before {time}");
        }
    }
}

#[tokio::test]
async fn errors_are_told_apart_by_what_a_caller_can_do() {
    const MISSING: &str = "SELECT name FROM sample WHERE id = $1";
    const PART: &str = "INSERT INTO part (id, sample) VALUES ($1, $2)";
    for (label, db, _guard) in databases(&schema()).await {
        insert(&db, &sample(1)).await.unwrap();
        let twice = insert(&db, &Sample { id: Uuid::from_u128(9), ..sample(1) }).await.unwrap_err();
        assert!(matches!(twice, StoreError::AlreadyExists), "{label}: {twice:?}");

        let orphan: Result<(), StoreError> = async {
            on_db!(&db, pool => sqlx::query(PART).bind(Uuid::nil()).bind(Uuid::max()).execute(pool).await.map(drop)?);
            Ok(())
        }
        .await;
        assert!(matches!(orphan, Err(StoreError::Referenced)), "{label}: {orphan:?}");

        let missing: Result<String, sqlx::Error> = on_db!(&db, pool => {
            sqlx::query(MISSING).bind(Uuid::max()).try_map(scalar).fetch_one(pool).await
        });
        assert!(matches!(StoreError::from(missing.unwrap_err()), StoreError::NotFound), "{label}");

        db.ping().await.unwrap();
        db.close().await;
        assert!(matches!(db.ping().await, Err(StoreError::Unavailable(_))), "{label}");
    }
}

#[tokio::test]
async fn a_row_that_breaks_a_rule_is_an_error_that_names_the_column() {
    for (label, db, _guard) in databases(&schema()).await {
        insert(&db, &sample(1)).await.unwrap();
        crate::testing::raw(&db, "UPDATE sample SET count = -1").await.unwrap();
        let row: Result<Sample, _> = on_db!(&db, pool => {
            sqlx::query("SELECT * FROM sample").try_map(read).fetch_one(pool).await
        });
        let error = row.unwrap_err().to_string();
        assert!(error.contains("count"), "{label}: {error}");
    }
}

#[tokio::test]
async fn a_dropped_transaction_leaves_nothing_behind() {
    for (label, db, _guard) in databases(&schema()).await {
        insert(&db, &sample(1)).await.unwrap();
        let mut tx = db.begin_write().await.unwrap();
        on_tx!(&mut tx, conn => sqlx::query("DELETE FROM sample").execute(conn).await.map(drop).unwrap());
        drop(tx);
        assert_eq!(all(&db, "id").await.len(), 1, "{label}");
    }
}

#[tokio::test]
async fn of_sixteen_compare_and_set_racers_one_wins() {
    const SQL: &str = "UPDATE sample SET count = 2 WHERE id = $1 AND count = 1 RETURNING name";
    for (label, db, _guard) in databases(&schema()).await {
        insert(&db, &Sample { count: 1, ..sample(1) }).await.unwrap();
        let mut racers = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let db = db.clone();
            racers.spawn(async move {
                let won: Option<String> = on_db!(&db, pool => {
                    sqlx::query(SQL).bind(sample(1).id).try_map(scalar).fetch_optional(pool).await.unwrap()
                });
                won.is_some()
            });
        }
        assert_eq!(racers.join_all().await.into_iter().filter(|won| *won).count(), 1, "{label}");
    }
}

#[tokio::test]
async fn a_read_transaction_sees_one_state() {
    const SQL: &str = "SELECT count(*) FROM sample";
    for (label, db, _guard) in databases(&schema()).await {
        insert(&db, &sample(1)).await.unwrap();
        let mut tx = db.begin_read().await.unwrap();
        for n in 2..4 {
            let count: i64 =
                on_tx!(&mut tx, conn => sqlx::query(SQL).try_map(scalar).fetch_one(conn).await.unwrap());
            assert_eq!(count, 1, "{label}");
            insert(&db, &sample(n)).await.unwrap();
        }
        drop(tx);
        assert_eq!(all(&db, "id").await.len(), 3, "{label}");
    }
}

#[tokio::test]
async fn a_lost_connection_is_unavailable_and_the_next_statement_gets_another() {
    for (label, db, _guard) in databases(&schema()).await {
        if matches!(db, Db::Sqlite(_)) {
            continue;
        }
        let mut tx = db.begin_write().await.unwrap();
        let kill = "SELECT pg_terminate_backend(pg_backend_pid())";
        let lost = on_tx!(&mut tx, conn => sqlx::query(kill).execute(conn).await.map(drop)).unwrap_err();
        assert!(matches!(StoreError::from(lost), StoreError::Unavailable(_)), "{label}");
        drop(tx);
        insert(&db, &sample(1)).await.unwrap();
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_sqlite_file_and_its_logs_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let db = Db::sqlite_file(&dir.path().join("private.db")).await.unwrap();
    crate::testing::raw(&db, "CREATE TABLE t (a integer) STRICT").await.unwrap();
    let mut files = 0;
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
        files += 1;
    }
    assert_eq!(files, 3, "database, log and index");
}

#[tokio::test]
async fn keyset_pages_visit_every_row_once_in_order() {
    const SQL: &str =
        "SELECT * FROM sample WHERE seen_at > $1 OR (seen_at = $1 AND id > $2) ORDER BY seen_at, id LIMIT 2";
    const ROW_VALUES: &str =
        "SELECT * FROM sample WHERE (seen_at, id) > ($1, $2) ORDER BY seen_at, id LIMIT 2";
    let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    for (label, db, _guard) in databases(&schema()).await {
        for n in 0..7_u8 {
            // Three rows share each time, so that the id has to decide.
            let seen_at = Some(start + TimeDelta::microseconds((n / 3).into()));
            insert(&db, &Sample { seen_at, ..sample(n) }).await.unwrap();
        }
        for sql in [SQL, ROW_VALUES] {
            let (mut visited, mut last) = (Vec::new(), (start - TimeDelta::days(1), Uuid::nil()));
            loop {
                let page: Vec<Sample> = on_db!(&db, pool => {
                    sqlx::query(sql).bind(last.0).bind(last.1).try_map(read).fetch_all(pool).await.unwrap()
                });
                let Some(end) = page.last() else { break };
                last = (end.seen_at.unwrap(), end.id);
                visited.extend(page.into_iter().map(|s| s.id.as_u128()));
            }
            assert_eq!(visited, (0..7).collect::<Vec<_>>(), "{label}");
        }
    }
}
