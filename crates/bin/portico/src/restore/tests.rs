use std::path::Path;

use portico_db::testing::{empty_databases, raw};
use portico_db::{on_db, revision, scalar};
use portico_ids::SeededRng;
use portico_sealing::{Aad, KeyRing};

use super::*;
use crate::backup::tables;

const QUIET: Output = Output::new(true);

/// A data directory with two migrated databases, a secret, a signing key and a user.
struct Lived {
    dir: tempfile::TempDir,
    sealer: Sealer,
}

impl Lived {
    async fn new() -> Self {
        Self::at(i64::MAX).await
    }

    /// As a release left it whose schemas had no newer version than this.
    async fn at(version: i64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rng = Arc::new(SeededRng::new(1));
        let keys = KeyRing::generate_file(&dir.path().join("keys.json"), &*rng).unwrap();
        let lived = Self { dir, sealer: Sealer::new(&keys, rng) };
        for service in Service::ALL {
            let db = lived.open(service).await;
            migrate(&db, &up_to(service.schema(), version)).await.unwrap();
            raw(&db, "UPDATE revision SET value = 41").await.unwrap();
            db.close().await;
        }
        lived.fill(version).await;
        std::fs::write(lived.path("dev.json"), "{\"admin_password\":\"canary\"}").unwrap();
        lived
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn open(&self, service: Service) -> Db {
        Db::sqlite_file(&self.path(&format!("{}.db", service.schema().name))).await.unwrap()
    }

    async fn fill(&self, version: i64) {
        let at = "2026-11-20T10:00:00.000123+00:00";
        let registry = self.open(Service::Registry).await;
        // The registry's own tables came with its second version.
        for number in (1..=250).filter(|_| version > 1) {
            let reference = format!("token-{number}");
            let aad = Aad { table: "secrets", row: &reference, field: "sealed", version: 3 };
            let sealed = self.sealer.seal(&aad, b"value");
            let sql = "INSERT INTO secrets (ref, version, sealed, owner, created_at, updated_at) VALUES ($1, 3, $2, 'user:x', $3, $3)";
            on_db!(&registry, pool => sqlx::query(sql).bind(&reference).bind(&sealed).bind(at).execute(pool).await.map(drop)).unwrap();
        }
        raw(&registry, "INSERT INTO outbox (topic, key, payload, created_at) VALUES ('t', 'k', x'00ff', '2026-11-20T10:00:00+00:00')")
            .await
            .unwrap();
        registry.close().await;
        let auth = self.open(Service::AuthServer).await;
        let aad = Aad { table: "signing_keys", row: "k1", field: "private_sealed", version: 1 };
        let sealed = self.sealer.seal(&aad, b"key");
        let sql = "INSERT INTO signing_keys (kid, alg, public_jwk, private_sealed, created_at, activates_at) VALUES ('k1', 'ES256', '{}', $1, $2, $2)";
        on_db!(&auth, pool => sqlx::query(sql).bind(&sealed).bind(at).execute(pool).await.map(drop)).unwrap();
        raw(&auth, "INSERT INTO users VALUES (x'00112233445566778899aabbccddeeff', 'alice', 'Zoë', '', 0, 1, 40, '2026-11-20T10:00:00.500+00:00', '2026-11-20T10:00:00+00:00')")
            .await
            .unwrap();
        raw(&auth, "INSERT INTO roles VALUES (x'10112233445566778899aabbccddeeff', 'reader', '', '', '[\"use\", 1.50]', 0, 41)")
            .await
            .unwrap();
        auth.close().await;
    }

    fn places(&self) -> PlaceArguments {
        data_dir(self.dir.path(), None)
    }

    async fn back_up(&self) -> PathBuf {
        let out = self.path("one.backup");
        let arguments = crate::backup::Arguments { places: self.places(), out: out.clone() };
        crate::backup::run(arguments, QUIET).await.unwrap();
        out
    }
}

/// Writes a backup as the release of these schema versions did.
async fn back_up_at(lived: &Lived, version: impl Fn(i64) -> i64) -> PathBuf {
    let (out, mut parts) = (lived.path("old.backup"), Vec::new());
    for service in Service::ALL {
        let db = lived.open(service).await;
        let header = SchemaHeader {
            service: service.name().to_owned(),
            version: version(newest(service)),
            tables: tables::of(&db).await.unwrap(),
        };
        parts.push(crate::backup::Part { service, db, header });
    }
    let now = chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    crate::backup::write(&out, (parts, Vec::new()), (&lived.sealer, now), QUIET).await.unwrap();
    out
}

fn newest(service: Service) -> i64 {
    service.schema().sqlite.iter().map(|migration| migration.version).max().unwrap()
}

fn data_dir(dir: &Path, keys: Option<PathBuf>) -> PlaceArguments {
    PlaceArguments { data_dir: Some(dir.to_owned()), databases: Vec::new(), keys }
}

async fn restore(from: &Path, places: PlaceArguments, force: bool) -> Result<()> {
    run(Arguments { from: from.to_owned(), places, force, check: false }, QUIET).await
}

/// Every row of a database, in an order of its own, without what a restore changes.
async fn content(db: &Db) -> Vec<String> {
    let changed = ["revision", "secrets", "tombstone_horizon", "trust_floor", "audit", "audit_sequence"];
    let mut rows = Vec::new();
    let mut tx = db.begin_read().await.unwrap();
    for table in tables::of(db).await.unwrap() {
        if changed.contains(&table.name.as_str()) {
            continue;
        }
        let name = table.name.clone();
        tables::read_rows(&mut tx, &table, |row| {
            rows.push(format!("{name} {}", serde_json::to_string(&row).unwrap()));
            Ok(())
        })
        .await
        .unwrap();
    }
    rows.sort();
    rows
}

async fn count(db: &Db, sql: &'static str) -> i64 {
    on_db!(db, pool => sqlx::query(sql).try_map(scalar).fetch_one(pool).await).unwrap()
}

#[tokio::test]
async fn a_lost_data_directory_is_restored_from_its_backup_and_its_key_ring() {
    let lived = Lived::new().await;
    let backup = lived.back_up().await;
    let text = std::fs::read_to_string(&backup).unwrap();
    assert!(!text.contains("canary"), "what the data directory keeps in the clear is sealed in the backup");

    let lost = tempfile::tempdir().unwrap();
    let target = lost.path().join("data");
    restore(&backup, data_dir(&target, Some(lived.path("keys.json"))), false).await.unwrap();
    for service in Service::ALL {
        let name = format!("{}.db", service.schema().name);
        let (before, after) = (lived.open(service).await, Db::sqlite_file(&target.join(name)).await.unwrap());
        assert_eq!(content(&before).await, content(&after).await);
        assert!(revision::current(&after).await.unwrap() > 1 << 32);
        assert_eq!(count(&after, "SELECT COUNT(*) FROM audit WHERE action = 'backup.restore'").await, 1);
        before.close().await;
        after.close().await;
    }
    let registry = Db::sqlite_file(&target.join("registry.db")).await.unwrap();
    assert_eq!(count(&registry, "SELECT COUNT(*) FROM secrets WHERE version = 10000003").await, 250);
    registry.close().await;
    assert_eq!(
        std::fs::read(target.join("dev.json")).unwrap(),
        std::fs::read(lived.path("dev.json")).unwrap()
    );
    KeyRing::load(&target.join("keys.json")).unwrap();
    let mut left: Vec<_> =
        std::fs::read_dir(&target).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    left.retain(|name| name.contains("restoring"));
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_target_that_holds_something_is_replaced_only_by_force_and_kept_aside() {
    let lived = Lived::new().await;
    let backup = lived.back_up().await;
    let other = Lived::new().await;
    let refused = restore(&backup, other.places(), false).await.unwrap_err().to_string();
    assert!(refused.contains("ring does not fit") || refused.contains("holds something"), "{refused}");
    let refused = restore(&backup, lived.places(), false).await.unwrap_err().to_string();
    assert!(refused.contains("holds something already"), "{refused}");
    let registry = lived.open(Service::Registry).await;
    raw(&registry, "DELETE FROM secrets").await.unwrap();
    registry.close().await;
    restore(&backup, lived.places(), true).await.unwrap();
    let registry = lived.open(Service::Registry).await;
    assert_eq!(count(&registry, "SELECT COUNT(*) FROM secrets").await, 250);
    registry.close().await;
    let kept = std::fs::read_dir(lived.dir.path()).unwrap().filter_map(Result::ok);
    assert_eq!(kept.filter(|e| e.file_name().to_string_lossy().contains(".db.before-")).count(), 2);
}

#[tokio::test]
async fn a_data_directory_that_is_in_use_is_left_alone() {
    let lived = Lived::new().await;
    let backup = lived.back_up().await;
    let _running = DataDirLock::acquire(lived.dir.path()).unwrap();
    let refused = restore(&backup, lived.places(), true).await.unwrap_err().to_string();
    assert!(refused.contains("in use") || refused.contains("process"), "{refused}");
}

#[tokio::test]
async fn a_ring_that_does_not_fit_is_refused_before_anything_is_written() {
    let lived = Lived::new().await;
    let backup = lived.back_up().await;
    let lost = tempfile::tempdir().unwrap();
    let target = lost.path().join("data");
    let other = lost.path().join("other.json");
    KeyRing::generate_file(&other, &SeededRng::new(9)).unwrap();
    let refused = restore(&backup, data_dir(&target, Some(other)), false).await.unwrap_err().to_string();
    assert!(refused.contains("the backup is of deployment"), "{refused}");

    // The same deployment, but the key that sealed was rotated out and is gone.
    let keys = lost.path().join("keys.json");
    std::fs::copy(lived.path("keys.json"), &keys).unwrap();
    let old = KeyRing::load(&keys).unwrap().sealing_key();
    let new = KeyRing::stage_file(&keys, &SeededRng::new(3)).unwrap();
    KeyRing::promote_file(&keys, &new, chrono::DateTime::UNIX_EPOCH).unwrap();
    KeyRing::prune_file(&keys, &old).unwrap();
    let refused = restore(&backup, data_dir(&target, Some(keys)), false).await.unwrap_err().to_string();
    assert!(refused.contains(&format!("251 values of the backup are sealed with {old}")), "{refused}");
    assert!(!target.exists());
}

#[tokio::test]
async fn a_changed_cut_or_newer_backup_is_refused() {
    let lived = Lived::new().await;
    let backup = lived.back_up().await;
    let text = std::fs::read_to_string(&backup).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let newer = lines[0].replacen("\"portico_backup\":1", "\"portico_backup\":2", 1);
    let schema = lines[0].replace("\"version\":", "\"version\":9");
    let cases = [
        (text.replacen("alice", "mallo", 1), "is damaged"),
        (lines[..lines.len() - 1].join("\n") + "\n", "is cut short"),
        (lines[..lines.len() / 2].join("\n"), "is cut short"),
        (format!("{newer}\n{}\n", lines[1..].join("\n")), "newer than this program's"),
        (format!("{schema}\n{}\n", lines[1..].join("\n")), "is damaged"),
        ("{}\n".to_owned(), "is no backup of Portico"),
        (String::new(), "is damaged"),
    ];
    for (changed, expected) in cases {
        let path = lived.path("changed.backup");
        std::fs::write(&path, changed).unwrap();
        let target = tempfile::tempdir().unwrap();
        let places = data_dir(&target.path().join("data"), Some(lived.path("keys.json")));
        let refused = format!("{:#}", restore(&path, places, false).await.unwrap_err());
        assert!(refused.contains(expected), "{expected}: {refused}");
        assert!(!target.path().join("data").exists());
    }
}

#[tokio::test]
async fn a_backup_of_any_older_schema_is_restored_as_it_was_and_then_migrated() {
    let last = Service::ALL.map(newest).into_iter().max().unwrap();
    for version in 1..last {
        let lived = Lived::at(version).await;
        let backup = back_up_at(&lived, |newest| newest.min(version)).await;
        let (data, keys) = (lived.path("restored"), lived.path("keys.json"));
        restore(&backup, data_dir(&data, Some(keys.clone())), false).await.unwrap();
        for service in Service::ALL {
            let db = Db::sqlite_file(&data.join(format!("{}.db", service.schema().name))).await.unwrap();
            assert_migrated(service, &db, version).await;
        }
        let Some((server, name, url)) = postgres().await else { continue };
        restore(&backup, in_postgres(&url, keys), false).await.unwrap();
        let settings = portico_db::DbSettings::default();
        for service in Service::ALL {
            let url = secrecy::SecretString::from(url.clone());
            let db = Db::connect(&url, &settings, service.schema()).await.unwrap();
            assert_migrated(service, &db, version).await;
        }
        let drop = format!("DROP DATABASE {name} WITH (FORCE)");
        sqlx::raw_sql(sqlx::AssertSqlSafe(drop)).execute(&server).await.unwrap();
    }
}

/// Asserts that a restored database is of this program, and has the rows of the version that it was.
async fn assert_migrated(service: Service, db: &Db, version: i64) {
    let label = format!("{} of version {version}", service.name());
    portico_db::check_schema(db, service.schema()).await.unwrap();
    let (sql, expected) = match service {
        Service::Registry => {
            let sql = "SELECT COUNT(*) FROM secrets WHERE ref = 'token-250' AND version = 10000003";
            (sql, i64::from(version > 1))
        }
        Service::AuthServer => ("SELECT COUNT(*) FROM users WHERE username = 'alice'", 1),
    };
    assert_eq!(count(db, sql).await, expected, "{label}");
    let recorded = "SELECT COUNT(*) FROM audit WHERE action = 'backup.restore'";
    assert_eq!(count(db, recorded).await, 1, "{label}");
    assert!(revision::current(db).await.unwrap() > 1 << 32, "{label}");
    db.close().await;
}

#[tokio::test]
async fn a_backup_of_a_newer_schema_is_refused_before_anything_is_written() {
    let lived = Lived::new().await;
    let backup = back_up_at(&lived, |newest| newest + 1).await;
    let target = tempfile::tempdir().unwrap();
    let places = data_dir(&target.path().join("data"), Some(lived.path("keys.json")));
    let refused = restore(&backup, places, false).await.unwrap_err().to_string();
    assert!(
        refused.contains("newer than this program's") && refused.contains("restore with portico "),
        "{refused}"
    );
    assert!(!target.path().join("data").exists());
}

#[tokio::test]
async fn a_forged_backup_with_a_right_checksum_is_refused() {
    let lived = Lived::new().await;
    let backup = lived.back_up().await;
    let text = std::fs::read_to_string(&backup).unwrap().replacen("alice", "mallo", 1);
    let (content, trailer) = text.trim_end().rsplit_once('\n').unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, format!("{content}\n").as_bytes());
    let mut trailer: serde_json::Value = serde_json::from_str(trailer).unwrap();
    trailer["sha256"] = crate::backup::archive::hex(digest.as_ref()).into();
    std::fs::write(&backup, format!("{content}\n{trailer}\n")).unwrap();
    let target = tempfile::tempdir().unwrap();
    let places = data_dir(&target.path().join("data"), Some(lived.path("keys.json")));
    let refused = restore(&backup, places, false).await.unwrap_err().to_string();
    assert!(refused.contains("seal does not open"), "{refused}");
}

#[tokio::test]
async fn a_backup_is_never_overwritten_and_check_writes_nothing() {
    let lived = Lived::new().await;
    let backup = lived.back_up().await;
    let again = crate::backup::Arguments { places: lived.places(), out: backup.clone() };
    let refused = crate::backup::run(again, QUIET).await.unwrap_err().to_string();
    assert!(refused.contains("no backup is overwritten"), "{refused}");
    let into_directory =
        crate::backup::Arguments { places: lived.places(), out: lived.dir.path().to_owned() };
    crate::backup::run(into_directory, QUIET).await.unwrap();
    let target = tempfile::tempdir().unwrap();
    let places = data_dir(&target.path().join("data"), Some(lived.path("keys.json")));
    run(Arguments { from: backup, places, force: false, check: true }, QUIET).await.unwrap();
    assert!(!target.path().join("data").exists());
}

/// Loads a backup of SQLite into Postgres and copies it back: nothing of it changes on the way.
#[tokio::test]
async fn rows_survive_the_way_from_one_database_to_the_other_and_back() {
    const NEXT: &str = "INSERT INTO outbox (topic, key, payload, created_at) VALUES ('t', 'next', $1, $2)";
    let lived = Lived::new().await;
    let backup = Backup::open(&lived.back_up().await).unwrap();
    for index in 0..empty_databases(Service::Registry.schema()).await.len() {
        let mut built = Vec::new();
        let mut guards = Vec::new();
        for service in Service::ALL {
            let (label, db, schema, guard) = empty_databases(service.schema()).await.swap_remove(index);
            migrate(&db, &schema).await.unwrap();
            built.push((service, db, label));
            guards.push(guard);
        }
        let dbs: Vec<_> = built.iter().map(|(service, db, _)| (*service, db.clone())).collect();
        load::rows(&backup, &dbs, QUIET).await.unwrap();
        for (service, db, label) in &built {
            let before = lived.open(*service).await;
            let same_json =
                |rows: Vec<String>| rows.into_iter().map(|row| row.replace(", ", ",")).collect::<Vec<_>>();
            assert_eq!(same_json(content(&before).await), same_json(content(db).await), "{label}");
            make_servable(*service, db, &lived.sealer).await.unwrap();
            before.close().await;
        }
        let at = chrono::DateTime::UNIX_EPOCH;
        let numbered = on_db!(&built[1].1, pool => sqlx::query(NEXT).bind(vec![1_u8]).bind(at).execute(pool).await.map(drop));
        numbered.expect("the database goes on numbering behind the restored rows");
        drop((built, dbs, guards));
    }
}

/// A Postgres database of this test's own, with what names both services' schemas in it.
async fn postgres() -> Option<(sqlx::PgPool, String, String)> {
    #[expect(clippy::disallowed_methods, reason = "a test suite has no settings; this is its one variable")]
    let url = std::env::var("PORTICO_TEST_POSTGRES_URL").ok().filter(|url| !url.is_empty())?;
    let server = sqlx::PgPool::connect(&url).await.unwrap();
    let name = format!("portico_restore_{}", std::process::id());
    for sql in [format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"), format!("CREATE DATABASE {name}")] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&server).await.unwrap();
    }
    let base = url.rsplit_once('/').unwrap().0;
    Some((server, name.clone(), format!("{base}/{name}")))
}

fn in_postgres(url: &str, keys: PathBuf) -> PlaceArguments {
    let named = |service: Service| format!("{}={url}", service.name()).parse().unwrap();
    PlaceArguments { data_dir: None, databases: Service::ALL.map(named).into(), keys: Some(keys) }
}

#[tokio::test]
async fn a_backup_of_sqlite_becomes_a_postgres_deployment_whose_backup_restores_too() {
    const LEFT: &str = "SELECT COUNT(*) FROM pg_namespace WHERE nspname LIKE '%_restoring'";
    let Some((server, name, url)) = postgres().await else { return };
    let lived = Lived::new().await;
    let (backup, keys) = (lived.back_up().await, lived.path("keys.json"));
    restore(&backup, in_postgres(&url, keys.clone()), false).await.unwrap();
    let refused = restore(&backup, in_postgres(&url, keys.clone()), false).await.unwrap_err().to_string();
    assert!(refused.contains("holds something already"), "{refused}");

    let settings = portico_db::DbSettings::default();
    let secret = secrecy::SecretString::from(url.clone());
    let running = Db::connect(&secret, &settings, Service::Registry.schema()).await.unwrap();
    assert_eq!(count(&running, "SELECT COUNT(*) FROM secrets").await, 250);
    let refused = restore(&backup, in_postgres(&url, keys.clone()), true).await.unwrap_err().to_string();
    assert!(refused.contains("connections of the registry are open"), "{refused}");
    raw(&running, "DELETE FROM secrets").await.unwrap();
    let second = lived.path("second.backup");
    let arguments = crate::backup::Arguments { places: in_postgres(&url, keys.clone()), out: second.clone() };
    crate::backup::run(arguments, QUIET).await.unwrap();
    running.close().await;

    restore(&backup, in_postgres(&url, keys.clone()), true).await.unwrap();
    let restored = Db::connect(&secret, &settings, Service::Registry.schema()).await.unwrap();
    assert_eq!(count(&restored, "SELECT COUNT(*) FROM secrets").await, 250);
    assert_eq!(count(&restored, LEFT).await, 0);
    restored.close().await;

    // And back into a data directory.
    let target = tempfile::tempdir().unwrap();
    let data = target.path().join("data");
    restore(&second, data_dir(&data, Some(keys)), false).await.unwrap();
    let registry = Db::sqlite_file(&data.join("registry.db")).await.unwrap();
    assert_eq!(count(&registry, "SELECT COUNT(*) FROM secrets").await, 0);
    assert!(revision::current(&registry).await.unwrap() > 2 << 32, "each restore moves on");
    registry.close().await;
    let drop = format!("DROP DATABASE {name} WITH (FORCE)");
    sqlx::raw_sql(sqlx::AssertSqlSafe(drop)).execute(&server).await.unwrap();
}

#[tokio::test]
async fn a_trailer_that_says_less_than_it_said_is_refused() {
    let lived = Lived::new().await;
    let backup = lived.back_up().await;
    let text = std::fs::read_to_string(&backup).unwrap();
    let (content, trailer) = text.trim_end().rsplit_once('\n').unwrap();
    let mut trailer: serde_json::Value = serde_json::from_str(trailer).unwrap();
    trailer["keys"] = json!({});
    std::fs::write(&backup, format!("{content}\n{trailer}\n")).unwrap();
    let target = tempfile::tempdir().unwrap();
    let places = data_dir(&target.path().join("data"), Some(lived.path("keys.json")));
    let refused = restore(&backup, places, false).await.unwrap_err().to_string();
    assert!(refused.contains("seal does not open"), "{refused}");
}
