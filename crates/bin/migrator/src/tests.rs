//! A run from nothing, again, twice at once, and without what it needs.

use std::path::Path;
use std::sync::Arc;

use portico_clock::SystemClock;
use portico_db::revision;
use portico_ids::SystemRng;
use portico_settings::Secret;
use secrecy::SecretString;

use super::*;

fn tools() -> Tools {
    Tools { clock: Arc::new(SystemClock), rng: Arc::new(SystemRng) }
}

fn secret(text: String) -> Secret {
    Secret::inline(SecretString::from(text))
}

fn settings(dir: &Path) -> MigratorSettings {
    let mut settings = MigratorSettings::default();
    settings.auth_server.url = Some(secret(format!("sqlite://{}", dir.join("auth-server.db").display())));
    settings.registry.url = Some(secret(format!("sqlite://{}", dir.join("registry.db").display())));
    settings.administrator.password = Some(secret("correct horse battery staple".to_owned()));
    settings
}

/// The revisions of auth-server and registry: whatever is written takes a new one.
async fn revisions(settings: &MigratorSettings) -> [i64; 2] {
    let auth = Db::open(&settings.auth_server, portico_auth_server::schema()).await.unwrap();
    let registry = Db::open(&settings.registry, portico_registry::schema()).await.unwrap();
    let revisions = [revision::current(&auth).await.unwrap(), revision::current(&registry).await.unwrap()];
    auth.close().await;
    registry.close().await;
    revisions
}

#[tokio::test]
async fn s0_12_s0_21_s0_22_a_second_run_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    run(&settings, &tools()).await.unwrap();
    let seeded = revisions(&settings).await;
    assert!(seeded[0] > 0, "the administrator is there");
    run(&settings, &tools()).await.unwrap();
    assert_eq!(revisions(&settings).await, seeded);
}

#[test]
fn the_published_schema_is_the_one_of_this_program() {
    let published = include_str!("../../../../docs/settings/migrator.schema.json");
    assert!(
        portico_launch::schema_text::<MigratorSettings>() == published.trim_end(),
        "write it anew: migrator config schema > docs/settings/migrator.schema.json"
    );
}

#[test]
fn s3_43_everything_that_is_missing_is_told_at_once() {
    let mut settings = MigratorSettings::default();
    settings.service_account.client_id = Some("0199d2a4-8f3e-7c51-b2aa-0123456789ab".to_owned());
    let told = Plan::new(&settings).unwrap_err();
    let keys: Vec<_> = told.list().iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(
        keys,
        ["administrator.password", "registry.url", "auth_server.url", "service_account.client_secret"]
    );
}

#[tokio::test]
async fn s0_22_a_service_account_of_known_credentials_is_seeded_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(dir.path());
    run(&settings, &tools()).await.unwrap();
    let before = revisions(&settings).await;
    settings.service_account.client_id = Some("0199d2a4-8f3e-7c51-b2aa-0123456789ab".to_owned());
    settings.service_account.client_secret = Some(secret("a".repeat(43)));
    run(&settings, &tools()).await.unwrap();
    let seeded = revisions(&settings).await;
    assert!(seeded[0] > before[0], "the account is there");
    run(&settings, &tools()).await.unwrap();
    assert_eq!(revisions(&settings).await, seeded);
}

#[tokio::test]
async fn s0_21_two_runs_at_the_same_time_both_succeed() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let (tools_a, tools_b) = (tools(), tools());
    let (a, b) = tokio::join!(run(&settings, &tools_a), run(&settings, &tools_b));
    a.unwrap();
    b.unwrap();
    let seeded = revisions(&settings).await;
    run(&settings, &tools()).await.unwrap();
    assert_eq!(revisions(&settings).await, seeded);
}

#[tokio::test]
async fn s0_23_a_missing_password_stops_the_run_before_anything_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(dir.path());
    settings.administrator.password = None;
    let error = run(&settings, &tools()).await.unwrap_err();
    assert!(error.to_string().contains("administrator.password"), "{error:#}");
    assert!(!dir.path().join("registry.db").exists());
}

#[tokio::test(start_paused = true)]
async fn s0_20_s0_23_a_database_that_never_answers_ends_the_run_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(dir.path());
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    drop(socket);
    settings.registry.url = Some(secret(format!("postgres://nobody:secret@{address}/none")));
    settings.wait.limit_seconds = 3;
    let error = format!("{:#}", run(&settings, &tools()).await.unwrap_err());
    assert!(error.contains("did not answer within 3s"), "{error}");
    assert!(!error.contains("secret"), "{error}");
}
