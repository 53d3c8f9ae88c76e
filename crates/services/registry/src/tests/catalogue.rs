use std::time::Duration;

use portico_proto_registry as proto;
use portico_proto_registry::catalogue_item::Value;
use portico_proto_registry::catalogue_service_client::CatalogueServiceClient;
use portico_proto_registry::watch_catalogue_response::Frame;
use tonic::Streaming;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;

use super::fixture::*;

pub(super) type Frames = Streaming<proto::WatchCatalogueResponse>;

pub(super) struct Batch {
    pub(super) snapshot: bool,
    pub(super) items: Vec<proto::CatalogueItem>,
    pub(super) removed: Vec<String>,
    pub(super) revision: i64,
}

async fn watch(fixture: &Fixture, since_revision: i64) -> Frames {
    watch_at(&fixture.routes, since_revision).await
}

pub(super) async fn watch_at(routes: &Routes, since_revision: i64) -> Frames {
    let channel = InterceptedService::new(routes.clone(), As::Service("gateway"));
    CatalogueServiceClient::new(channel)
        .watch_catalogue(proto::WatchCatalogueRequest { since_revision })
        .await
        .unwrap()
        .into_inner()
}

pub(super) async fn batch(frames: &mut Frames) -> Batch {
    let mut batch = Batch { snapshot: false, items: Vec::new(), removed: Vec::new(), revision: 0 };
    loop {
        let frame =
            tokio::time::timeout(Duration::from_secs(10), frames.message()).await.unwrap().unwrap().unwrap();
        match frame.frame.unwrap() {
            Frame::Begin(begin) => batch.snapshot = begin.snapshot,
            Frame::Put(put) => {
                batch.items.extend(put.items);
                batch.removed.extend(put.removed);
            }
            Frame::End(end) => {
                batch.revision = end.revision;
                return batch;
            }
            Frame::Heartbeat(_) => {}
        }
    }
}

fn instance(batch: &Batch) -> &proto::CatalogueInstance {
    let found = batch.items.iter().find_map(|item| match &item.value {
        Some(Value::Instance(instance)) => Some(instance),
        _ => None,
    });
    found.unwrap()
}

#[tokio::test]
async fn s2_09_s4_14_s4_41_a_follower_gets_a_snapshot_then_changes_then_removals() {
    let mut fixture = Fixture::new().await;
    let mut owner = fixture.publisher();
    let request = proto::RegisterServerRequest {
        json_spec: Some(bearer_spec("github-token")),
        ..registration("github")
    };
    let made = owner.servers.register_server(request).await.unwrap().into_inner();
    let mut frames = watch(&fixture, 0).await;
    let first = batch(&mut frames).await;
    assert!(first.snapshot);
    assert_eq!(first.items.len(), 3);
    let seen = instance(&first);
    assert_eq!(
        (seen.url.as_str(), seen.bearer_secret_ref.as_str(), seen.secret_version),
        (URL, "github-token", 0)
    );
    assert_eq!((seen.timeout_ms, seen.stateless, seen.status()), (0, false, proto::InstanceStatus::Pending));

    let set = proto::SetSecretRequest { r#ref: "github-token".to_owned(), value: b"value".to_vec() };
    owner.secrets.set_secret(set).await.unwrap();
    let second = batch(&mut frames).await;
    assert!(!second.snapshot);
    assert_eq!((second.items.len(), instance(&second).secret_version), (1, 1));
    let read = proto::GetInstanceRequest { id: made.instance.clone().unwrap().id };
    let read = owner.instances.get_instance(read).await.unwrap().into_inner().instance.unwrap();
    assert_eq!(
        read.revision,
        made.instance.clone().unwrap().revision,
        "a new secret does not make the owner's copy stale"
    );

    let delete = proto::DeleteServerRequest { id: made.server.clone().unwrap().id, expected_revision: 0 };
    owner.servers.delete_server(delete).await.unwrap();
    let third = batch(&mut frames).await;
    let mut expected = vec![
        format!("endpoint/{}", made.endpoint.unwrap().id),
        format!("instance/{}", made.instance.unwrap().id),
        format!("server/{}", made.server.unwrap().id),
    ];
    expected.sort();
    let mut removed = third.removed;
    removed.sort();
    assert_eq!((third.items.len(), removed), (0, expected));
    fixture.stop().await;
}

#[tokio::test]
async fn a_follower_resumes_from_its_revision_for_a_day_and_gets_a_snapshot_after_that() {
    let mut fixture = Fixture::new().await;
    let mut owner = fixture.publisher();
    let one = owner.register("one").await;
    let known = batch(&mut watch(&fixture, 0).await).await.revision;
    owner.register("two").await;
    let delete = proto::DeleteServerRequest { id: one.server.unwrap().id, expected_revision: 0 };
    owner.servers.delete_server(delete).await.unwrap();
    let resumed = batch(&mut watch(&fixture, known).await).await;
    assert_eq!((resumed.snapshot, resumed.items.len(), resumed.removed.len()), (false, 3, 3));
    assert!(
        batch(&mut watch(&fixture, resumed.revision + 1000).await).await.snapshot,
        "a revision of the future"
    );

    let mut tx = fixture.db.begin_write().await.unwrap();
    let tomorrow = portico_clock::Clock::now(&fixture.clock) + chrono::Duration::hours(25);
    crate::store::tombstones::prune((&mut tx).into(), tomorrow - chrono::Duration::hours(24)).await.unwrap();
    tx.commit().await.unwrap();
    let late = batch(&mut watch(&fixture, known).await).await;
    assert_eq!((late.snapshot, late.items.len(), late.removed.len()), (true, 3, 0));
    assert!(!batch(&mut watch(&fixture, resumed.revision).await).await.snapshot);
    fixture.stop().await;
}

#[tokio::test]
async fn s1_04_disabling_a_server_reaches_followers() {
    let mut fixture = Fixture::new().await;
    let mut owner = fixture.publisher();
    let server = owner.register("one").await.server.unwrap();
    let mut frames = watch(&fixture, 0).await;
    batch(&mut frames).await;
    let disabled = proto::ServerStatus::Disabled.into();
    let update = proto::UpdateServerRequest {
        server: Some(proto::Server { id: server.id, status: disabled, ..Default::default() }),
        update_mask: Some(mask(&["status"])),
        expected_revision: server.revision,
    };
    owner.servers.update_server(update).await.unwrap();
    let change = batch(&mut frames).await;
    assert!(matches!(&change.items[0].value, Some(Value::Server(server)) if !server.enabled));
    fixture.stop().await;
}

#[tokio::test]
async fn a_change_by_another_replica_reaches_followers() {
    let mut fixture = Fixture::new().await;
    let mut owner = fixture.publisher();
    let server = owner.register("one").await.server.unwrap();
    fixture.registry.spawn_tasks(&fixture.tasks);
    let mut frames = watch(&fixture, 0).await;
    batch(&mut frames).await;
    let mut tx = fixture.db.begin_write().await.unwrap();
    let revision = portico_db::revision::take(&mut tx).await.unwrap();
    let id: portico_ids::ServerId = server.id.parse().unwrap();
    let mut changed = crate::store::servers::get((&mut tx).into(), id).await.unwrap().unwrap();
    changed.revision = revision;
    crate::store::servers::update((&mut tx).into(), &changed, server.revision).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(batch(&mut frames).await.items.len(), 1);
    fixture.stop().await;
}
