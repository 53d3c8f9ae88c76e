//! What holds where every service is a process of its own: where data lies, how databases are used, who listens where.
//! In one process there is nothing to see of it, so most of these run on a platform only.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use acceptance::deployment::{Deployment, Platform};
use acceptance::mcp::{Session, Stateless};
use acceptance::upstream::{Era, Upstream};
use acceptance::{DEADLINE, eventually};
use portico_proto_auth as auth;
use portico_proto_registry as registry;
use portico_transport::ReservedAddress;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool};
use tokio::process::Command;

/// Every service, as its replicas are named.
const SERVICES: [&str; 4] = ["gateway", "auth-server", "registry", "worker"];

async fn database(platform: &Platform) -> PgPool {
    PgPool::connect(&platform.database_url()).await.expect("the database, by TLS")
}

async fn count(pool: &PgPool, query: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(pool).await.expect("a count")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs separate services: tests/scripts/platform.sh runs it"]
async fn s0_13_primary_data_is_in_postgres_and_services_keep_copies_only() {
    let deployment = Deployment::start().await;
    let platform = deployment.platform().expect("a platform: PORTICO_TEST_DEPLOYMENT=platform");
    let upstream = Upstream::start(Era::Session).await;
    let session = Session::open(&deployment.publish("notes", &upstream).await).await;
    let answer = session.ask("tools/call", &json!({ "name": "echo", "arguments": {} })).await;
    deployment.record(&answer.correlation()).await;
    let created = deployment.cli(&["user", "create", "ada"]).await;
    assert_eq!(created.code, Some(0), "{}", created.output);
    let pool = database(platform).await;
    let recorded =
        format!("SELECT count(*) FROM registry.audit WHERE correlation_id = '{}'", answer.correlation());
    for query in [
        "SELECT count(*) FROM registry.servers WHERE name = 'notes'",
        "SELECT count(*) FROM registry.endpoints WHERE name = 'notes'",
        "SELECT count(*) FROM auth_server.users WHERE username = 'ada'",
        &recorded,
    ] {
        assert_eq!(count(&pool, query).await, 1, "{query}");
    }
    // What lies on the disks of the services can be lost: copies of feeds, sealed credentials, records under way.
    let copies = ["trust.feed", "catalogue.feed", "credentials.sealed", "lock", "audit"];
    for replica in std::fs::read_dir(platform.directory().join("data")).unwrap() {
        for file in std::fs::read_dir(replica.unwrap().path()).unwrap() {
            let name = file.unwrap().file_name().to_string_lossy().into_owned();
            assert!(copies.iter().any(|copy| name.contains(copy)), "{name} is no copy");
        }
    }
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs separate services: tests/scripts/platform.sh runs it"]
async fn s2_31_connections_to_the_database_are_pooled_within_their_limit() {
    let deployment = Deployment::start().await;
    let platform = deployment.platform().expect("a platform: PORTICO_TEST_DEPLOYMENT=platform");
    let api = deployment.api().await;
    let pool = database(platform).await;
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let api = api.clone();
        asking.spawn(async move {
            let list = registry::ListServersRequest { page_size: 10, ..Default::default() };
            api.servers().list_servers(list).await.expect("a list");
            let list = auth::ListUsersRequest { page_size: 10, ..Default::default() };
            api.users().list_users(list).await.expect("a list");
        });
    }
    asking.join_all().await;
    for service in ["registry", "auth_server"] {
        // Ten for each process unless it is set otherwise, and kept for the next request.
        let query =
            format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'portico-{service}'");
        let connections = count(&pool, &query).await;
        assert!((1..=20).contains(&connections), "{connections} connections of {service}");
    }
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs separate services: tests/scripts/platform.sh runs it"]
async fn s1_22_s2_25_a_database_that_somebody_else_runs_is_enough() {
    let deployment = Deployment::start().await;
    let platform = deployment.platform().expect("a platform: PORTICO_TEST_DEPLOYMENT=platform");
    let pool = database(platform).await;
    // As a provider hands it out: no superuser, one database, TLS, a password.
    for statement in [
        "DROP DATABASE IF EXISTS hosted WITH (FORCE)",
        "DROP ROLE IF EXISTS tenant",
        "CREATE ROLE tenant LOGIN PASSWORD 'a-hosted-password' NOSUPERUSER NOCREATEDB NOCREATEROLE",
        "CREATE DATABASE hosted OWNER tenant",
    ] {
        sqlx::query(statement).execute(&pool).await.expect(statement);
    }
    let url = platform.database_url();
    let (_, rest) = url.split_once('@').unwrap();
    let url = format!("postgres://tenant:a-hosted-password@{}", rest.replace("/portico?", "/hosted?"));
    let migrate = async || {
        let output = Command::new(platform.program("migrator"))
            .env("PORTICO_AUTH_SERVER__URL", &url)
            .env("PORTICO_REGISTRY__URL", &url)
            .env("PORTICO_ADMINISTRATOR__PASSWORD", "correct horse battery staple")
            .output();
        acceptance::within(DEADLINE, "the migrator", output).await.unwrap()
    };
    // Twice: the second time changes nothing.
    for _ in 0..2 {
        let done = migrate().await;
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    let hosted = PgPool::connect(&url).await.unwrap();
    assert_eq!(count(&hosted, "SELECT count(*) FROM auth_server.users WHERE username = 'admin'").await, 1);
    assert_eq!(count(&hosted, "SELECT count(*) FROM registry.servers").await, 0);
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs separate services: tests/scripts/platform.sh runs it"]
async fn s0_31_every_service_logs_measures_and_records_under_one_correlation_id() {
    let deployment = Deployment::start().await;
    let platform = deployment.platform().expect("a platform: PORTICO_TEST_DEPLOYMENT=platform");
    let upstream = Upstream::start(Era::Stateless).await;
    let mut agent = Stateless::new(&deployment.publish("notes", &upstream).await);
    let id = format!("one-id-{}", std::process::id());
    agent.caller = agent.caller.with("x-correlation-id", &id);
    agent.call("echo", &json!({})).await;
    // The same id at the server, in the record, and in the log of the gateway that it went through.
    assert_eq!(upstream.got("tools/call").await.headers["x-correlation-id"], id.as_str());
    assert_eq!(deployment.record(&id).await.correlation_id, id);
    let logged = async || (1..=2).any(|number| log(platform, "gateway", number).contains(&id)).then_some(());
    eventually(DEADLINE, "the call in a gateway's log", logged).await;
    // A token's id is in the record of the authorization server.
    let mut headers = http::HeaderMap::new();
    headers.insert("x-correlation-id", id.parse().unwrap());
    headers.insert("content-type", "application/x-www-form-urlencoded".parse().unwrap());
    let fields = [
        ("grant_type", "client_credentials"),
        ("client_id", &deployment.ready.client_id),
        ("client_secret", &deployment.ready.client_secret),
        ("resource", &deployment.resource("notes")),
    ];
    let url = deployment.url("/oauth2/token");
    let form = acceptance::http::form(&fields);
    assert_eq!(deployment.http.send(http::Method::POST, &url, &headers, form).await.status, 200);
    let request = auth::ListAuditRequest { page_size: 10, correlation_id: id.clone(), ..Default::default() };
    let records = deployment.api().await.auth_audit().list_audit(request).await.unwrap().into_inner().records;
    assert!(records.iter().any(|record| record.action == "token.issue"), "{records:?}");
    for service in SERVICES {
        for (number, admin) in platform.replicas(service, "admin").iter().enumerate() {
            let metrics = deployment.http.get(&format!("{admin}/metrics")).await.text();
            assert!(metrics.contains("portico_") && metrics.ends_with("# EOF\n"), "{service}: {metrics}");
            assert!(log(platform, service, number + 1).contains(service), "{service} logs nothing");
        }
    }
    deployment.stop().await;
}

fn log(platform: &Platform, service: &str, number: usize) -> String {
    let path = platform.directory().join(format!("logs/{service}-{number}.log"));
    std::fs::read_to_string(path).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs separate services: tests/scripts/platform.sh runs it"]
async fn s4_31_s3_53_every_process_listens_where_its_settings_say() {
    let deployment = Deployment::start().await;
    let platform = deployment.platform().expect("a platform: PORTICO_TEST_DEPLOYMENT=platform");
    for service in SERVICES {
        for admin in platform.replicas(service, "admin") {
            let ready = deployment.http.get(&format!("{admin}/ready")).await;
            assert_eq!(ready.status, 200, "{service}: {}", ready.text());
            assert!(!ready.json()["checks"].as_array().unwrap().is_empty(), "{service} lists its checks");
            let live = deployment.http.get(&format!("{admin}/health")).await.json();
            assert!(live["timestamp"].is_string(), "{live}");
        }
    }
    for port in ["origin", "grpc", "postgres", "redis", "registry-1.internal", "auth-server-2.internal"] {
        let address = ("127.0.0.1", platform.port(port));
        assert!(tokio::net::TcpStream::connect(address).await.is_ok(), "nobody listens on {port}");
    }
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs separate services: tests/scripts/platform.sh runs it"]
async fn s3_01_s1_02_a_gateway_ends_tls_by_itself_where_it_is_told_to() {
    let deployment = Deployment::start().await;
    let platform = deployment.platform().expect("a platform: PORTICO_TEST_DEPLOYMENT=platform");
    let directory = tempfile::tempdir().unwrap();
    // Nobody else is given it before the gateway has it.
    let reserved = ReservedAddress::reserve("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = reserved.local_addr().port();
    let certs = platform.directory().join("certs");
    let mut gateway = Command::new(platform.program("gateway"))
        .arg("--config")
        .arg(platform.directory().join("settings/gateway-1.toml"))
        .env("PORTICO_LISTEN", format!("127.0.0.1:{port}"))
        .env("PORTICO_ADMIN_LISTEN", "127.0.0.1:0")
        .env("PORTICO_DATA_DIR", directory.path())
        .env("PORTICO_PUBLIC_TLS__CERT", certs.join("gateway.pem"))
        .env("PORTICO_PUBLIC_TLS__KEY", certs.join("gateway-key.pem"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let listens = async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok().map(drop);
    eventually(DEADLINE, "the gateway listens", listens).await;
    let host = deployment.ready.origin.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let ca = certs.join("ca.pem");
    let answer = tokio::task::spawn_blocking(move || get_by_tls(port, &ca, &host)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("demo/mcp"), "{answer}");
    gateway.kill().await.unwrap();
    deployment.stop().await;
}

/// Asks for the metadata of the demo endpoint; answers all that comes.
fn get_by_tls(port: u16, ca: &Path, host: &str) -> String {
    use std::io::{Read as _, Write as _};

    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connection =
        rustls::ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let socket = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, socket);
    let path = "/.well-known/oauth-protected-resource/demo/mcp";
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    // A server that closes without a farewell has said all the same.
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn s2_11_two_instances_of_a_stateless_server_share_the_calls() {
    let deployment = Deployment::start().await;
    let (first, second) = (Upstream::start(Era::Stateless).await, Upstream::start(Era::Stateless).await);
    let agent = Stateless::new(&deployment.publish("notes", &first).await);
    let api = deployment.api().await;
    let list = registry::ListServersRequest { page_size: 100, ..Default::default() };
    let servers = api.servers().list_servers(list).await.unwrap().into_inner().servers;
    let server_id = servers.into_iter().find(|server| server.name == "notes").unwrap().id;
    let instance = registry::Instance {
        name: "second".to_owned(),
        server_id,
        json_spec: Some(acceptance::deployment::url_spec(&second.url())),
        ..Default::default()
    };
    let request = registry::CreateInstanceRequest { instance: Some(instance), ..Default::default() };
    api.instances().create_instance(request).await.expect("a second instance");
    let shared = async || {
        agent.call("echo", &json!({})).await;
        (first.calls() > 5 && second.calls() > 5).then_some(())
    };
    eventually(DEADLINE, "both instances are called", shared).await;
    deployment.stop().await;
}
