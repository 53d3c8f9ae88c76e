use portico_launch::schema_text;
use portico_launch::testing::{TestDeployment, any_port, launch, stop};

use super::*;

#[test]
fn the_published_schema_is_the_one_of_this_program() {
    let published = include_str!("../../../../docs/settings/gateway.schema.json");
    assert!(
        schema_text::<Settings>() == published.trim_end(),
        "write it anew: gateway config schema > docs/settings/gateway.schema.json"
    );
}

#[test]
fn s3_43_everything_that_is_missing_is_told_at_once() {
    let told = GatewayProgram::plan(Settings::default()).unwrap_err();
    let keys: Vec<_> = told.list().iter().map(|problem| problem.key.as_str()).collect();
    let needed = [
        "public_origin",
        "data_dir",
        "keys.file",
        "coordination.redis_url",
        "tls",
        "peers.registry",
        "peers.auth_server",
    ];
    assert_eq!(keys, needed);
}

fn settings(deployment: &TestDeployment) -> Settings {
    Settings {
        public_origin: Some("https://portico.example".parse().unwrap()),
        listen: any_port(),
        data_dir: Some(deployment.path("data")),
        keys: deployment.keys(),
        coordination: deployment.no_redis(),
        tls: Some(deployment.tls("gateway")),
        peers: PeerSettings {
            registry: Some("127.0.0.1:1".to_owned()),
            auth_server: Some("127.0.0.1:1".to_owned()),
        },
        ..Settings::default()
    }
}

#[tokio::test]
async fn s0_01_s3_53_a_gateway_that_never_heard_of_its_peers_says_so_and_lets_nobody_in() {
    let deployment = TestDeployment::new();
    let (ground, started) = launch::<GatewayProgram>(settings(&deployment)).await.unwrap();
    let checks = ground.readiness.snapshot();
    let missing: Vec<_> = checks.iter().filter(|check| !check.ready).map(|check| check.name).collect();
    for needed in ["trust", "catalogue"] {
        assert!(missing.contains(&needed), "{checks:?}");
    }
    assert!(tokio::net::TcpStream::connect(started.public.unwrap()).await.is_err());
    stop(&ground).await;
}

#[test]
fn s0_28_a_gateway_does_not_start_with_the_certificate_of_another_service() {
    let deployment = TestDeployment::new();
    let settings = Settings { tls: Some(deployment.tls("worker")), ..settings(&deployment) };
    let told = GatewayProgram::plan(settings).unwrap_err().to_string();
    assert!(told.contains("is for spiffe://portico/worker"), "{told}");
}
