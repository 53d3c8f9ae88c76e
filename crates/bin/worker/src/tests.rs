use portico_launch::schema_text;
use portico_launch::testing::{TestDeployment, launch, stop};

use super::*;

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
    assert_eq!(keys, ["keys.file", "coordination.redis_url", "tls", "peers.registry"]);
}

#[tokio::test]
async fn a_worker_waits_for_its_registry_and_drains_clean() {
    let deployment = TestDeployment::new();
    let settings = Settings {
        keys: deployment.keys(),
        coordination: deployment.no_redis(),
        tls: Some(deployment.tls("worker")),
        peers: PeerSettings { registry: Some("127.0.0.1:1".to_owned()) },
        ..Settings::default()
    };
    let (ground, _started) = launch::<WorkerProgram>(settings).await.unwrap();
    assert!(!ground.readiness.is_ready());
    stop(&ground).await;
}
