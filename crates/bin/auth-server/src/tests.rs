use portico_launch::schema_text;
use portico_launch::testing::{TestDeployment, any_port, launch, stop};
use portico_launch_database::testing::{database as database_of, migrated, refused_peers};
use portico_proto_auth::WatchTrustRequest;
use portico_proto_auth::trust_service_client::TrustServiceClient;
use portico_proto_auth::user_service_client::UserServiceClient;
use portico_transport::{Link, reason_of};

use super::*;

#[test]
fn the_published_schema_is_the_one_of_this_program() {
    let published = include_str!("../../../../docs/settings/auth-server.schema.json");
    assert!(
        schema_text::<Settings>() == published.trim_end(),
        "write it anew: auth-server config schema > docs/settings/auth-server.schema.json"
    );
}

#[test]
fn s3_43_everything_that_is_missing_is_told_at_once() {
    let told = AuthServerProgram::plan(Settings::default()).unwrap_err();
    let keys: Vec<_> = told.list().iter().map(|problem| problem.key.as_str()).collect();
    let needed = [
        "public_origin",
        "data_dir",
        "keys.file",
        "coordination.redis_url",
        "database.url",
        "tls",
        "peers.registry",
    ];
    assert_eq!(keys, needed);
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
        tls: Some(deployment.tls("auth-server")),
        peers: PeerSettings { registry: Some("127.0.0.1:1".to_owned()) },
        ..Settings::default()
    }
}

#[test]
fn s3_43_the_section_of_the_service_is_checked_as_well() {
    let deployment = TestDeployment::new();
    let mut settings = settings(&deployment);
    settings.auth_server.access_token_seconds = 3600;
    let told = AuthServerProgram::plan(settings).unwrap_err().to_string();
    assert_eq!(told, "setting `auth_server`: access_token_seconds is 3600: set 30 to 600");
}

#[tokio::test]
async fn s0_02_s0_28_trust_is_told_to_its_followers_and_the_others_are_audited() {
    let deployment = TestDeployment::new();
    let db = migrated(&deployment, schema()).await;
    let (ground, started) = launch::<AuthServerProgram>(settings(&deployment)).await.unwrap();
    let link = |service: &str| -> Link {
        deployment.link(started.internal.unwrap(), "auth-server", deployment.tls(service))
    };
    let watch = WatchTrustRequest { since_revision: 0 };
    for follower in ["gateway", "registry"] {
        let mut trust = TrustServiceClient::new(link(follower));
        assert!(trust.watch_trust(watch).await.unwrap().into_inner().message().await.unwrap().is_some());
    }
    let refused = TrustServiceClient::new(link("worker")).watch_trust(watch).await.unwrap_err();
    assert_eq!(reason_of(&refused).as_deref(), Some("peer_not_allowed"));
    // A service is nobody's administrator, whatever its certificate.
    let list = portico_proto_auth::ListUsersRequest::default();
    let refused = UserServiceClient::new(link("gateway")).list_users(list).await.unwrap_err();
    assert_eq!(reason_of(&refused).as_deref(), Some("peer_not_allowed"));
    let row = |who: &str, what: &str| {
        (format!("service:{who}"), format!("/portico.auth.v1.{what}"), "peer_not_allowed".to_owned())
    };
    let expected = [row("worker", "TrustService/WatchTrust"), row("gateway", "UserService/ListUsers")];
    assert_eq!(refused_peers(&db, 2).await, expected);

    stop(&ground).await;
}

#[tokio::test]
async fn s0_12_s0_24_without_the_migrator_nothing_starts() {
    let deployment = TestDeployment::new();
    let error = launch::<AuthServerProgram>(settings(&deployment)).await.unwrap_err().to_string();
    assert!(error.contains("run the migrator"), "{error}");
}
