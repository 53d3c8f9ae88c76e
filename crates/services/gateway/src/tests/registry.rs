use std::os::unix::fs::PermissionsExt as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use portico_proto_registry::audit_sink_service_server::{AuditSinkService, AuditSinkServiceServer};
use portico_proto_registry::catalogue_item::Value;
use portico_proto_registry::catalogue_service_server::{CatalogueService, CatalogueServiceServer};
use portico_proto_registry::secret_resolver_service_server::{
    SecretResolverService, SecretResolverServiceServer,
};
use portico_proto_registry::watch_catalogue_response::Frame;
use portico_proto_registry::{
    AppendAuditRequest, AppendAuditResponse, AuditRecord, CatalogueBegin, CatalogueEnd, CatalogueItem,
    CataloguePut, ResolveSecretsRequest, ResolveSecretsResponse, ResolvedSecret, WatchCatalogueRequest,
    WatchCatalogueResponse,
};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::testing::Bench;

/// A registry with one snapshot, one secret, and a sink that can be shut.
#[derive(Clone, Default)]
struct Registry {
    items: Arc<Mutex<Vec<CatalogueItem>>>,
    appended: Arc<Mutex<Vec<AuditRecord>>>,
    purposes: Arc<Mutex<Vec<String>>>,
    shut: Arc<AtomicBool>,
}

type Frames = Pin<Box<dyn Stream<Item = Result<WatchCatalogueResponse, Status>> + Send>>;

#[tonic::async_trait]
impl CatalogueService for Registry {
    type WatchCatalogueStream = Frames;

    async fn watch_catalogue(&self, _: Request<WatchCatalogueRequest>) -> Result<Response<Frames>, Status> {
        let items = self.items.lock().unwrap().clone();
        let frames = [
            Frame::Begin(CatalogueBegin { snapshot: true }),
            Frame::Put(CataloguePut { items, removed: Vec::new() }),
            Frame::End(CatalogueEnd { revision: 1 }),
        ];
        let frames = frames.map(|frame| Ok(WatchCatalogueResponse { frame: Some(frame) }));
        Ok(Response::new(Box::pin(stream::iter(frames).chain(stream::pending()))))
    }
}

#[tonic::async_trait]
impl SecretResolverService for Registry {
    async fn resolve_secrets(
        &self,
        request: Request<ResolveSecretsRequest>,
    ) -> Result<Response<ResolveSecretsResponse>, Status> {
        let request = request.into_inner();
        self.purposes.lock().unwrap().push(request.purpose);
        let secrets = request
            .refs
            .into_iter()
            .map(|r#ref| ResolvedSecret { r#ref, value: b"s3cret\n".to_vec(), version: 3 })
            .collect();
        Ok(Response::new(ResolveSecretsResponse { secrets, missing: Vec::new() }))
    }
}

#[tonic::async_trait]
impl AuditSinkService for Registry {
    async fn append_audit(
        &self,
        request: Request<AppendAuditRequest>,
    ) -> Result<Response<AppendAuditResponse>, Status> {
        if self.shut.load(Ordering::SeqCst) {
            return Err(Status::unavailable("shut"));
        }
        let records = request.into_inner().records;
        let appended = i32::try_from(records.len()).unwrap_or_default();
        self.appended.lock().unwrap().extend(records);
        Ok(Response::new(AppendAuditResponse { appended, ..Default::default() }))
    }
}

impl Registry {
    fn routes(&self) -> Routes {
        Routes::new(CatalogueServiceServer::new(self.clone()))
            .add_service(SecretResolverServiceServer::new(self.clone()))
            .add_service(AuditSinkServiceServer::new(self.clone()))
    }
}

/// Polls until something holds, at most ten seconds.
async fn eventually(holds: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(10), async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "it never came to hold");
}

/// A bench whose catalogue comes from a registry, with a secret for the only instance.
async fn followed(registry: &Registry) -> Bench {
    follow(registry, Bench::new().await)
}

fn follow(registry: &Registry, bench: Bench) -> Bench {
    let mut items = bench.demo();
    if let Some(Value::Instance(instance)) = &mut items[1].1.value {
        instance.bearer_secret_ref = "team/key".to_owned();
        instance.secret_version = 3;
    }
    *registry.items.lock().unwrap() = items.into_iter().map(|(_, item)| item).collect();
    bench.catalogue(Vec::new());
    bench.exchange.serve("registry", registry.routes());
    bench.gateway.spawn_tasks(&bench.tasks);
    bench
}

#[tokio::test]
async fn the_catalogue_is_followed_and_credentials_are_resolved_before_an_instance_is_called() {
    let registry = Registry::default();
    let bench = followed(&registry).await;
    eventually(|| !registry.purposes.lock().unwrap().is_empty()).await;
    assert!(registry.purposes.lock().unwrap()[0].starts_with("instance/"));
    let engine = Arc::clone(bench.engine());
    eventually(|| {
        let snapshot = engine.catalogue.snapshot();
        let member = snapshot.endpoint("demo").and_then(|endpoint| endpoint.single().cloned());
        member
            .and_then(|m| snapshot.server(m.server).cloned())
            .is_some_and(|server| !server.instances.is_empty())
    })
    .await;
    let answer = bench.stateless_call("echo", "").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(bench.server.last().headers["authorization"], "Bearer s3cret");
}

#[tokio::test]
async fn s3_31_records_wait_for_a_registry_that_does_not_take_them() {
    let registry = Registry::default();
    registry.shut.store(true, Ordering::SeqCst);
    let bench = followed(&registry).await;
    let engine = Arc::clone(bench.engine());
    eventually(|| engine.catalogue.snapshot().endpoint("demo").is_some()).await;
    for _ in 0..5 {
        bench.post("{").await;
    }
    assert!(registry.appended.lock().unwrap().is_empty());
    registry.shut.store(false, Ordering::SeqCst);
    eventually(|| registry.appended.lock().unwrap().len() == 5).await;
    let records = registry.appended.lock().unwrap().clone();
    assert!(records.iter().all(|record| record.reason == "malformed_json" && record.outcome == "denied"));
    let mut ids: Vec<&str> = records.iter().map(|record| record.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 5);
}

#[tokio::test]
async fn a_disk_that_takes_no_copies_stops_no_call_and_is_tried_again() {
    let registry = Registry::default();
    let bench = Bench::new().await;
    // Neither copy can be written where a directory stands in its way.
    let blocks = ["catalogue.feed.new", "credentials.new"].map(|name| bench.dir().join(name));
    for block in &blocks {
        std::fs::create_dir_all(block.join("full")).unwrap();
    }
    let bench = follow(&registry, bench);
    let failures = || bench.metrics.render().contains("portico_gateway_disk_write_failures_total 1");
    eventually(failures).await;
    assert_eq!(bench.stateless_call("echo", "").await.status, 200);
    for block in &blocks {
        std::fs::remove_dir_all(block).unwrap();
    }
    let credentials = bench.dir().join("credentials.sealed");
    eventually(|| credentials.exists()).await;
}

#[tokio::test]
async fn s1_17_a_gateway_starts_from_its_copies_while_the_registry_is_away() {
    let registry = Registry::default();
    let first = followed(&registry).await;
    let credentials = first.dir().join("credentials.sealed");
    eventually(|| credentials.exists()).await;
    let second = first.restarted().await;
    for name in ["catalogue.feed", "credentials.sealed"] {
        let path = second.dir().join(name);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name} can be read by others");
        let bytes = std::fs::read(path).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"s3cret"), "a secret lies open on disk");
    }
    second.gateway.spawn_tasks(&second.tasks);
    let engine = Arc::clone(second.engine());
    eventually(|| {
        let snapshot = engine.catalogue.snapshot();
        let member = snapshot.endpoint("demo").and_then(|endpoint| endpoint.single().cloned());
        member
            .and_then(|m| snapshot.server(m.server).cloned())
            .is_some_and(|server| !server.instances.is_empty())
    })
    .await;
    assert_eq!(second.stateless_call("echo", "").await.status, 200);
    assert_eq!(second.server.last().headers["authorization"], "Bearer s3cret");
}
