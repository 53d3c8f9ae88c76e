//! What cannot work says so at the start, and what to do about it.

use std::net::TcpListener;
use std::path::Path;

use acceptance::deployment::{Child, Exit, Own, Plan, command};

/// Starts it expecting a refusal.
async fn refused(plan: &Plan, arguments: &[&str]) -> Exit {
    let exit = Child::spawn(plan, arguments).exit().await;
    assert_eq!(exit.code, Some(1), "{}", exit.output);
    assert!(!exit.output.contains("panicked"), "{}", exit.output);
    exit
}

fn assert_says(exit: &Exit, parts: &[&str]) {
    for part in parts {
        assert!(exit.output.contains(part), "{part:?} is not in:\n{}", exit.output);
    }
}

/// A deployment that ran once and is down.
async fn used() -> Plan {
    Plan::new().own(Own::Restart).start().await.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data = tempfile::tempdir().unwrap();
    let data = data.path().display().to_string();
    for option in ["--listen", "--admin-listen"] {
        let other = if option == "--listen" { "--admin-listen" } else { "--listen" };
        let exit = command(&["dev", option, &address, other, "127.0.0.1:0", "--data-dir", &data], "").await;
        assert_eq!(exit.code, Some(1));
        assert_says(&exit, &[option, &address, "in use"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_that_cannot_be_written_is_named() {
    // Not even root creates a directory here.
    for directory in ["/proc/portico", "/dev/null/portico"] {
        let arguments =
            ["dev", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir", directory];
        let exit = command(&arguments, "").await;
        assert_eq!(exit.code, Some(1));
        assert_says(&exit, &[directory]);
        assert!(!exit.output.contains("panicked"), "{}", exit.output);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_instance_on_the_same_data_directory_is_refused() {
    let deployment = Plan::new().child().start().await;
    let data = deployment.data_dir().display().to_string();
    let ready = deployment.plan().ready_file().display().to_string();
    let mut arguments =
        vec!["dev", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir", &data];
    arguments.extend(["--ready-file", &ready]);
    let exit = command(&arguments, "").await;
    assert_eq!(exit.code, Some(1));
    assert_says(&exit, &[&data]);
    assert!(std::path::Path::new(&ready).exists(), "the ready file of the first one is gone");
    assert!(exit.output.contains("another") || exit.output.contains("already"), "{}", exit.output);
    // The first one has not noticed.
    assert_eq!(deployment.http.get(&deployment.admin_url("/readyz")).await.status, 200);
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_settings_are_refused_with_their_place_and_the_nearest_key() {
    let plan = Plan::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[gateway.limits]\nprincipal_per_minutes = 5\n").unwrap();
    let path = file.path().display().to_string();
    let exit = refused(&plan, &["--config", &path]).await;
    assert_says(&exit, &["principal_per_minutes", "principal_per_minute", &path]);
    let exit = refused(&plan.clone().set("gateway.bogus", "1"), &[]).await;
    assert_says(&exit, &["PORTICO_GATEWAY__BOGUS"]);
    std::fs::write(file.path(), "[gateway.limits]\nprincipal_per_minute = \"many\"\n").unwrap();
    let exit = refused(&plan, &["--config", &path]).await;
    assert_says(&exit, &["principal_per_minute", &path]);
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_short_and_open_keys_stop_the_start() {
    let plan = used().await;
    let keys = plan.data_dir().join("keys.json");
    let genuine = std::fs::read_to_string(&keys).unwrap();
    write_private(&keys, r#"{"deployment_id":"x","keys":[{"id":"a","key":"c2hvcnQ="}]}"#);
    assert_says(&refused(&plan, &[]).await, &["keys.json"]);
    write_private(&keys, "");
    assert_says(&refused(&plan, &[]).await, &["keys.json"]);
    write_private(&keys, &genuine);
    set_mode(&keys, 0o644);
    assert_says(&refused(&plan, &[]).await, &["chmod 600"]);
    std::fs::remove_file(&keys).unwrap();
    let exit = refused(&plan, &[]).await;
    assert!(exit.output.contains("key ring"), "{}", exit.output);
    // With its own keys it starts as if nothing had happened.
    write_private(&keys, &genuine);
    plan.child().start().await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s0_21_a_schema_from_the_future_is_refused_if_it_is_breaking() {
    let plan = used().await;
    for service in ["registry", "auth_server"] {
        let file = plan.data_dir().join(format!("{service}.db"));
        let url = format!("sqlite://{}", file.display());
        let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
        let future = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                      VALUES (999999, 'from the future', TRUE, x'00', 0)";
        sqlx::query(future).execute(&pool).await.unwrap();
        let breaking = "UPDATE compatible_from SET version = version + 999000";
        sqlx::query(breaking).execute(&pool).await.unwrap();
        let exit = refused(&plan, &[]).await;
        assert_says(&exit, &["999999", "newer"]);
        // Tables that only have more than this program knows are no reason to stay away.
        sqlx::query("UPDATE compatible_from SET version = version - 999000").execute(&pool).await.unwrap();
        plan.clone().start().await.stop().await;
        sqlx::query("DELETE FROM _sqlx_migrations WHERE version = 999999").execute(&pool).await.unwrap();
        pool.close().await;
    }
    plan.start().await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn private_files_are_private_and_the_password_is_printed_once() {
    let deployment = Plan::new().child().start().await;
    for name in ["keys.json", "dev.json", "ready.json"] {
        assert_eq!(mode(&deployment.data_dir().join(name)) & 0o077, 0, "{name} is open to others");
    }
    assert_eq!(mode(&deployment.plan().ready_file()) & 0o077, 0);
    let password = deployment.ready.admin_password.clone();
    assert!(deployment.child().output().contains(&password));
    let deployment = deployment.stop().await.start().await;
    let second = deployment.child().output();
    assert!(second.contains("call demo") && !second.contains(&password), "{second}");
    deployment.stop().await;
}

fn write_private(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    set_mode(path, 0o600);
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).unwrap().permissions().mode()
}
