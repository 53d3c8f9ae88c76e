use portico_db::Db;
use portico_launch::schema_text;
use portico_launch::testing::{TestDeployment, any_port, launch, stop};
use portico_launch_database::testing::{database as database_of, migrated, refused_peers};
use portico_proto_registry::WatchCatalogueRequest;
use portico_proto_registry::audit_sink_service_client::AuditSinkServiceClient;
use portico_proto_registry::catalogue_service_client::CatalogueServiceClient;
use portico_transport::{Link, TlsFiles, reason_of};
use tonic::Code;

use super::*;

#[test]
fn the_published_schema_is_the_one_of_this_program() {
    let published = include_str!("../../../../docs/settings/registry.schema.json");
    assert!(
        schema_text::<Settings>() == published.trim_end(),
        "write it anew: registry config schema > docs/settings/registry.schema.json"
    );
}

#[test]
fn s3_43_everything_that_is_missing_is_told_at_once() {
    let told = RegistryProgram::plan(Settings::default()).unwrap_err();
    let keys: Vec<_> = told.list().iter().map(|problem| problem.key.as_str()).collect();
    let needed = [
        "public_origin",
        "data_dir",
        "keys.file",
        "coordination.redis_url",
        "database.url",
        "tls",
        "peers.auth_server",
    ];
    assert_eq!(keys, needed);
}

#[test]
fn limits_under_which_nobody_could_call_are_told_before_the_start() {
    let mut settings = Settings::default();
    settings.registry.limits.principal_burst = 0;
    let told = RegistryProgram::plan(settings).unwrap_err();
    assert!(told.list().iter().any(|problem| problem.key == "registry"), "{told:?}");
}

fn settings(deployment: &TestDeployment) -> Settings {
    Settings {
        public_origin: Some("https://portico.example".parse().unwrap()),
        listen: any_port(),
        internal_listen: any_port(),
        data_dir: Some(deployment.path("data")),
        keys: deployment.keys(),
        coordination: deployment.no_redis(),
        database: database_of(deployment),
        tls: Some(deployment.tls("registry")),
        peers: PeerSettings { auth_server: Some("127.0.0.1:1".to_owned()) },
        ..Settings::default()
    }
}

/// A registry on its own: no auth-server, no Redis.
struct Alone {
    deployment: TestDeployment,
    db: Db,
    ground: Ground,
    started: Started,
}

impl Alone {
    async fn start() -> Self {
        let deployment = TestDeployment::new();
        let db = migrated(&deployment, schema()).await;
        let (ground, started) = launch::<RegistryProgram>(settings(&deployment)).await.unwrap();
        Self { deployment, db, ground, started }
    }

    fn link(&self, files: TlsFiles) -> Link {
        self.deployment.link(self.started.internal.unwrap(), "registry", files)
    }

    async fn stop(self) {
        stop(&self.ground).await;
    }
}

#[tokio::test]
async fn s0_28_s3_60_a_service_calls_what_is_listed_for_it_and_another_ones_method_is_audited() {
    let alone = Alone::start().await;
    let link = alone.link(alone.deployment.tls("gateway"));
    let mut catalogue = CatalogueServiceClient::new(link.clone());
    let watch = WatchCatalogueRequest { since_revision: 0 };
    let mut frames = catalogue.watch_catalogue(watch).await.unwrap().into_inner();
    assert!(frames.message().await.unwrap().is_some());
    drop(frames);

    let worker = alone.link(alone.deployment.tls("worker"));
    let refused = CatalogueServiceClient::new(worker).watch_catalogue(watch).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason_of(&refused).as_deref()),
        (Code::PermissionDenied, Some("peer_not_allowed"))
    );
    let refused = AuditSinkServiceClient::new(alone.link(alone.deployment.tls("demo-server")))
        .append_audit(portico_proto_registry::AppendAuditRequest::default())
        .await
        .unwrap_err();
    assert_eq!(reason_of(&refused).as_deref(), Some("peer_not_allowed"));

    let watch = "/portico.registry.v1.CatalogueService/WatchCatalogue";
    let append = "/portico.registry.v1.AuditSinkService/AppendAudit";
    let row =
        |who: &str, what: &str| (format!("service:{who}"), what.to_owned(), "peer_not_allowed".to_owned());
    assert_eq!(refused_peers(&alone.db, 2).await, [row("worker", watch), row("demo-server", append)]);
    let page = alone.ground.metrics.render();
    assert!(page.contains("portico_registry_refused_peers_total{reason=\"peer_not_allowed\"} 2"), "{page}");
    alone.stop().await;
}

#[tokio::test]
async fn s0_28_s3_60_a_foreign_an_expired_and_a_nameless_certificate_are_refused_and_audited() {
    let alone = Alone::start().await;
    let deployment = &alone.deployment;
    let directory = deployment.path("");
    let ours = deployment.tls("gateway").ca;
    let foreign = TestDeployment::new();
    for (files, reason) in [
        (TlsFiles { ca: ours, ..foreign.tls("gateway") }, "certificate_untrusted"),
        (deployment.ca.issue_expired(&directory, "gateway"), "certificate_expired"),
        (deployment.ca.issue_with(&directory, "elsewhere", &["spiffe://other/gateway"]), "identity_invalid"),
        (deployment.ca.issue_with(&directory, "nameless", &[]), "identity_invalid"),
    ] {
        let before = refused_peers(&alone.db, 0).await.len();
        let mut catalogue = CatalogueServiceClient::new(alone.link(files));
        assert!(
            catalogue.watch_catalogue(WatchCatalogueRequest { since_revision: 0 }).await.is_err(),
            "{reason}"
        );
        let rows = refused_peers(&alone.db, before + 1).await;
        assert_eq!(rows.last().unwrap(), &(String::new(), "connection".to_owned(), reason.to_owned()));
    }
    alone.stop().await;
}

#[tokio::test]
async fn s3_53_readiness_lists_what_is_missing_and_nobody_is_let_in_before() {
    let alone = Alone::start().await;
    let checks = alone.ground.readiness.snapshot();
    let names: Vec<_> = checks.iter().map(|check| check.name).collect();
    for needed in ["database", "redis", "trust"] {
        assert!(names.contains(&needed), "{names:?}");
    }
    assert!(!alone.ground.readiness.is_ready());
    assert!(tokio::net::TcpStream::connect(alone.started.public.unwrap()).await.is_err());
    alone.stop().await;
}

#[tokio::test]
async fn s0_12_s0_24_without_the_migrator_nothing_starts() {
    let deployment = TestDeployment::new();
    let error = launch::<RegistryProgram>(settings(&deployment)).await.unwrap_err().to_string();
    assert!(error.contains("run the migrator"), "{error}");
}

#[tokio::test]
async fn s0_20_a_database_that_does_not_come_ends_the_start_with_the_reason() {
    let deployment = TestDeployment::new();
    let mut settings = settings(&deployment);
    let nobody = "postgres://nobody:secret@127.0.0.1:1/none".to_owned();
    settings.database.url = Some(portico_settings::Secret::inline(nobody.into()));
    settings.process.start_wait_seconds = 1;
    let error = launch::<RegistryProgram>(settings).await.unwrap_err();
    let cause = std::error::Error::source(&*error).unwrap().to_string();
    assert!(cause.contains("did not answer within 1s"), "{cause}");
}

#[tokio::test]
async fn one_process_uses_a_data_directory() {
    let alone = Alone::start().await;
    let error = launch::<RegistryProgram>(settings(&alone.deployment)).await.unwrap_err().to_string();
    assert!(error.contains("already uses the data directory"), "{error}");
    alone.stop().await;
}
