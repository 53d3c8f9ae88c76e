use portico_launch::schema_text;
use portico_launch::testing::{TestDeployment, launch, stop};
use portico_outbound::RefusalReason;

use super::*;

fn settings(deployment: &TestDeployment) -> Settings {
    Settings {
        public_origin: Some("https://portico.test".parse().unwrap()),
        keys: deployment.keys(),
        coordination: deployment.no_redis(),
        tls: Some(deployment.tls("worker")),
        peers: PeerSettings { registry: Some("127.0.0.1:1".to_owned()) },
        ..Settings::default()
    }
}

#[test]
fn the_published_schema_is_the_one_of_this_program() {
    let published = include_str!("../../../../docs/settings/worker.schema.json");
    assert!(
        schema_text::<Settings>() == published.trim_end(),
        "write it anew: worker config schema > docs/settings/worker.schema.json"
    );
}

#[test]
fn s3_43_everything_that_is_missing_is_told_at_once() {
    let told = WorkerProgram::plan(Settings::default()).unwrap_err();
    let keys: Vec<_> = told.list().iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["keys.file", "coordination.redis_url", "tls", "public_origin", "peers.registry"]);
}

#[tokio::test]
async fn a8_a_worker_never_calls_the_deployments_own_origin() {
    let deployment = TestDeployment::new();
    let plan = WorkerProgram::plan(settings(&deployment)).unwrap();
    let client = outbound(&plan.outbound, own_places(&plan)).await.unwrap();
    for own in ["https://portico.test/notes/mcp", "https://PORTICO.test:443/mcp", "https://portico.test./mcp"]
    {
        let refused = client.policy().parse_url(own).unwrap_err();
        assert_eq!(refused.reason, RefusalReason::AddressOwn, "{own}");
    }
    assert!(client.policy().parse_url("https://notes.portico.test/mcp").is_ok());
}

#[tokio::test]
async fn a_worker_waits_for_its_registry_and_drains_clean() {
    let deployment = TestDeployment::new();
    let (ground, _started) = launch::<WorkerProgram>(settings(&deployment)).await.unwrap();
    assert!(!ground.readiness.is_ready());
    stop(&ground).await;
}
