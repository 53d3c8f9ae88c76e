use super::*;
use crate::{
    on_db, scalar,
    testing::{empty_databases, raw, schema_with},
};

const NOTE: Schema = Schema { name: "note", postgres: &[CREATE, FILL], sqlite: &[CREATE, FILL] };
const CREATE: Migration =
    Migration { version: 1, name: "note", sql: "CREATE TABLE note (body text NOT NULL)", breaking: true };
const FILL: Migration = Migration {
    version: 2,
    name: "first notes",
    sql: "INSERT INTO note VALUES ('a'); INSERT INTO note VALUES ('b')",
    breaking: true,
};
const BROKEN: Migration =
    Migration { version: 3, name: "broken", sql: "DELETE FROM note; DROP TABLE missing", breaking: false };

fn steps(schema: &Schema, steps: &'static [Migration]) -> Schema {
    Schema { name: schema.name, postgres: steps, sqlite: steps }
}

async fn notes(db: &Db) -> i64 {
    const SQL: &str = "SELECT count(*) FROM note";
    on_db!(db, pool => sqlx::query(SQL).try_map(scalar).fetch_one(pool).await.unwrap())
}

#[tokio::test]
async fn s0_21_migrating_twice_does_it_once() {
    for (label, db, schema, _guard) in empty_databases(&NOTE).await {
        let first = migrate(&db, &schema).await.unwrap();
        assert_eq!(first, Migrated { version: 2, applied: vec![1, 2] }, "{label}");
        let second = migrate(&db, &schema).await.unwrap();
        assert_eq!(second, Migrated { version: 2, applied: vec![] }, "{label}");
        assert_eq!(notes(&db).await, 2, "{label}");
        check_schema(&db, &schema).await.unwrap();
    }
}

#[tokio::test]
async fn s0_21_migrators_at_the_same_time_do_it_once() {
    for (label, db, schema, _guard) in empty_databases(&NOTE).await {
        let mut racers = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let db = db.clone();
            racers.spawn(async move { migrate(&db, &schema).await.unwrap().applied.len() });
        }
        let mut applied = racers.join_all().await;
        applied.sort_unstable();
        assert_eq!(applied, [0, 0, 0, 2], "{label}");
        assert_eq!(notes(&db).await, 2, "{label}");
    }
}

#[tokio::test]
async fn a_database_newer_than_the_program_is_refused_and_left_alone() {
    for (label, db, schema, _guard) in empty_databases(&NOTE).await {
        migrate(&db, &schema).await.unwrap();
        let older = steps(&schema, &[CREATE]);
        let error = migrate(&db, &older).await.unwrap_err();
        assert_eq!(error.reason(), "schema_newer", "{label}");
        let mismatch = check_schema(&db, &older).await.unwrap_err();
        for text in [error.to_string(), mismatch.to_string()] {
            assert!(text.contains("has version 2, newer than this program knows (1)"), "{label}: {text}");
        }
        assert!(mismatch.to_string().contains("this binary is too old"), "{label}");
        assert_eq!(notes(&db).await, 2, "{label}");
    }
}

#[tokio::test]
async fn s0_24_a_program_works_on_newer_tables_until_a_step_is_breaking() {
    const MORE: Migration =
        Migration { version: 3, name: "more", sql: "CREATE TABLE more (body text)", breaking: false };
    const GONE: Migration = Migration { version: 4, name: "gone", sql: "DROP TABLE note", breaking: true };
    for (label, db, schema, _guard) in empty_databases(&NOTE).await {
        migrate(&db, &steps(&schema, &[CREATE, FILL, MORE])).await.unwrap();
        assert_eq!(check_compatible(&db, &schema).await.unwrap(), Fit::Newer { found: 3 }, "{label}");
        check_schema(&db, &schema).await.expect_err("these are not exactly its tables");
        let nothing = migrate(&db, &schema).await.unwrap();
        assert_eq!(nothing, Migrated { version: 3, applied: vec![] }, "{label}");
        let ancient = check_compatible(&db, &steps(&schema, &[CREATE])).await.unwrap_err();
        assert!(matches!(ancient, SchemaMismatch::Newer { found: 3, known: 1, .. }), "{label}: {ancient}");

        migrate(&db, &steps(&schema, &[CREATE, FILL, MORE, GONE])).await.unwrap();
        let before = steps(&schema, &[CREATE, FILL, MORE]);
        let refused = check_compatible(&db, &before).await.unwrap_err();
        assert!(matches!(refused, SchemaMismatch::Newer { found: 4, known: 3, .. }), "{label}: {refused}");
        assert_eq!(migrate(&db, &before).await.unwrap_err().reason(), "schema_newer", "{label}");
    }
}

#[tokio::test]
async fn newer_tables_with_an_altered_past_are_refused() {
    const OTHER: Migration = Migration { sql: "CREATE TABLE note (body text, title text)", ..CREATE };
    const MORE: Migration = Migration { version: 2, name: "more", sql: "SELECT 1", breaking: false };
    for (label, db, schema, _guard) in empty_databases(&NOTE).await {
        migrate(&db, &steps(&schema, &[OTHER, MORE])).await.unwrap();
        let altered = check_compatible(&db, &steps(&schema, &[CREATE])).await.unwrap_err();
        assert!(matches!(altered, SchemaMismatch::Altered { version: 1, .. }), "{label}: {altered}");
    }
}

#[tokio::test]
async fn a_changed_migration_is_refused() {
    const CHANGED: Migration = Migration { sql: "INSERT INTO note VALUES ('c')", ..FILL };
    for (label, db, schema, _guard) in empty_databases(&NOTE).await {
        migrate(&db, &schema).await.unwrap();
        let changed = steps(&schema, &[CREATE, CHANGED]);
        let error = migrate(&db, &changed).await.unwrap_err();
        assert!(matches!(error, MigrateError::ChecksumMismatch { version: 2, .. }), "{label}: {error}");
        let mismatch = check_schema(&db, &changed).await.unwrap_err();
        assert!(matches!(mismatch, SchemaMismatch::Altered { version: 2, .. }), "{label}: {mismatch}");
    }
}

#[tokio::test]
async fn a_failing_migration_undoes_the_whole_run() {
    for (label, db, schema, _guard) in empty_databases(&NOTE).await {
        migrate(&db, &steps(&schema, &[CREATE])).await.unwrap();
        let error = migrate(&db, &steps(&schema, &[CREATE, FILL, BROKEN])).await.unwrap_err();
        assert!(matches!(error, MigrateError::Failed { version: 3, .. }), "{label}: {error}");
        assert_eq!(notes(&db).await, 0, "{label}: migration 2 is undone with migration 3");
        assert_eq!(migrate(&db, &schema).await.unwrap().applied, [2], "{label}");
    }
}

#[tokio::test]
async fn s0_24_a_service_refuses_to_start_before_the_migrator_ran() {
    for (label, db, schema, _guard) in empty_databases(&NOTE).await {
        for found in [0, 1] {
            if found > 0 {
                migrate(&db, &steps(&schema, &[CREATE])).await.unwrap();
            }
            let error = check_schema(&db, &schema).await.unwrap_err();
            let text = error.to_string();
            assert!(text.contains(&format!("has version {found}, this program needs 2")), "{label}: {text}");
            assert!(text.contains("run the migrator"), "{label}: {text}");
        }
    }
}

#[tokio::test]
async fn a_migration_that_this_program_does_not_have_is_refused() {
    for (label, db, schema, _guard) in empty_databases(&NOTE).await {
        migrate(&db, &schema).await.unwrap();
        let error = migrate(&db, &steps(&schema, &[FILL])).await.unwrap_err();
        assert!(matches!(error, MigrateError::Unknown { version: 1, .. }), "{label}: {error}");
    }
}

#[tokio::test]
async fn the_platform_tables_migrate_on_every_database() {
    for (label, db, schema, _guard) in empty_databases(&schema_with("", "")).await {
        assert_eq!(migrate(&db, &schema).await.unwrap().applied, [1, 2], "{label}");
        raw(&db, "INSERT INTO revision (id, value) VALUES (2, 0)").await.unwrap_err();
    }
}
