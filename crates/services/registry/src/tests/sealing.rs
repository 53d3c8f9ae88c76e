use std::sync::Arc;
use std::time::Duration;

use portico_db::revision;
use portico_ids::SeededRng;
use portico_proto_registry as proto;
use portico_proto_registry::sealing_service_client::SealingServiceClient;
use portico_sealing::Sealer;
use tonic::Code;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;

use super::fixture::*;
use crate::restored::{RestoredError, after_restore};

fn keeper(fixture: &mut Fixture) -> SealingServiceClient<InterceptedService<Routes, As>> {
    let admin = fixture.person(&["administrator"], "admin");
    SealingServiceClient::new(InterceptedService::new(fixture.routes.clone(), admin))
}

async fn set(owner: &mut Clients, reference: &str, value: &str) {
    let request = proto::SetSecretRequest { r#ref: reference.to_owned(), value: value.as_bytes().to_vec() };
    owner.secrets.set_secret(request).await.unwrap();
}

async fn resolved(fixture: &Fixture, reference: &str, instance: &proto::Instance) -> (Vec<u8>, i64) {
    let purpose = format!("instance/{}", instance.id);
    let request =
        proto::ResolveSecretsRequest { refs: vec![reference.to_owned()], purpose, spec_revision: 0 };
    let found = fixture.clients(As::Service("gateway")).resolver.resolve_secrets(request).await;
    let secret = found.unwrap().into_inner().secrets.remove(0);
    (secret.value, secret.version)
}

async fn registered(owner: &mut Clients, reference: &str) -> proto::Instance {
    let request =
        proto::RegisterServerRequest { json_spec: Some(bearer_spec(reference)), ..registration("github") };
    owner.servers.register_server(request).await.unwrap().into_inner().instance.unwrap()
}

#[tokio::test]
async fn s0_29_a_replica_whose_ring_is_behind_writes_no_secret_after_the_rewrap() {
    for (label, mut fixture) in Fixture::everywhere().await {
        let late = fixture.late_replica().await;
        late.registry.spawn_tasks(&late.tasks);
        let person = fixture.person(&["publisher"], WRITE);
        let mut owner = fixture.clients(person.clone());
        let mut owner_there = Clients::of(&late.routes, person);
        set(&mut owner_there, "token-1", "sealed with the first key").await;
        let key = fixture.rotate_ring();
        set(&mut owner_there, "token-2", "nothing is closed yet").await;
        set(&mut owner, "token-3", "sealed with the second key").await;
        let mut keeper = keeper(&mut fixture);
        let request = proto::RewrapRequest { sealing_key_id: key, ..Default::default() };
        let done = keeper.rewrap(request).await.unwrap().into_inner();
        assert_eq!((done.rewrapped, done.next_position.as_str()), (2, ""), "{label}");

        let secret =
            |name: &str| proto::SetSecretRequest { r#ref: name.to_owned(), value: b"value".to_vec() };
        let status = refused(
            owner_there.secrets.set_secret(secret("token-4")).await,
            Code::Unavailable,
            "ring_behind",
        );
        assert!(status.message().contains("reads the newest key ring"), "{label}: {status:?}");
        let is_unready = || {
            let reasons = late.readiness.snapshot().into_iter().filter_map(|check| check.reason);
            reasons.into_iter().any(|reason| reason.contains("key ring is behind"))
        };
        let unready = async {
            while !is_unready() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(10), unready).await.is_ok(), "{label}: ready");
        owner.secrets.set_secret(secret("token-4")).await.unwrap();
        assert_eq!(
            keeper.get_sealing(proto::GetSealingRequest {}).await.unwrap().into_inner().unknown_rows,
            0
        );
        // Reading, and what seals nothing, goes on.
        owner_there.secrets.list_secrets(proto::ListSecretsRequest::default()).await.unwrap();
        owner_there.register("weather").await;
        let filter = proto::ListAuditRequest { action: "key.close".to_owned(), ..Default::default() };
        let closed = fixture.admin().audit.list_audit(filter).await.unwrap().into_inner().records;
        assert_eq!(closed.len(), 1, "{label}: {closed:?}");
        late.stop().await;
    }
}

#[tokio::test]
async fn s0_29_rotating_the_ring_rewraps_every_secret_and_nobody_notices() {
    for (label, mut fixture) in Fixture::everywhere().await {
        let mut owner = fixture.publisher();
        let instance = registered(&mut owner, "token-1").await;
        for number in 1..=5 {
            set(&mut owner, &format!("token-{number}"), &format!("value {number}")).await;
        }
        let before =
            (resolved(&fixture, "token-1", &instance).await, revision::current(&fixture.db).await.unwrap());
        let mut keeper = keeper(&mut fixture);
        let old = keeper.get_sealing(proto::GetSealingRequest {}).await.unwrap().into_inner();
        let early = proto::RewrapRequest { sealing_key_id: "k-other".to_owned(), ..Default::default() };
        refused(keeper.rewrap(early).await, Code::FailedPrecondition, "sealing_key_differs");

        let key = fixture.rotate_ring();
        let request =
            proto::RewrapRequest { sealing_key_id: key.clone(), position: String::new(), batch_size: 2 };
        let first = keeper.rewrap(request.clone()).await.unwrap().into_inner();
        assert_eq!((first.rewrapped, first.next_position.is_empty()), (2, false), "{label}");
        // Another operator begins at the start while the first goes on.
        let mut rewrapped = first.rewrapped;
        let mut position = String::new();
        loop {
            let done = keeper
                .rewrap(proto::RewrapRequest { position, ..request.clone() })
                .await
                .unwrap()
                .into_inner();
            rewrapped += done.rewrapped;
            position = done.next_position;
            if position.is_empty() {
                break;
            }
        }
        assert_eq!(rewrapped, 5, "{label}");
        let found = keeper.get_sealing(proto::GetSealingRequest {}).await.unwrap().into_inner();
        let rows = |id: &str| found.keys.iter().find(|known| known.id == id).unwrap().rows;
        assert_eq!(
            (found.sealing_key_id.as_str(), rows(&key), found.unknown_rows),
            (key.as_str(), 5, 0),
            "{label}"
        );
        assert_eq!(rows(&old.sealing_key_id), 0, "{label}");
        fixture.prune_ring(&old.sealing_key_id);
        let after =
            (resolved(&fixture, "token-1", &instance).await, revision::current(&fixture.db).await.unwrap());
        assert_eq!(before, after, "{label}");
        let filter = proto::ListAuditRequest { action: "key.rewrap".to_owned(), ..Default::default() };
        let records = fixture.admin().audit.list_audit(filter).await.unwrap().into_inner().records;
        assert!(
            records.iter().any(|record| record.target == key && record.name == "2 rows"),
            "{label}: {records:?}"
        );
    }
}

#[tokio::test]
async fn after_a_restore_nobody_takes_what_was_lost_for_the_newest() {
    for (label, mut fixture) in Fixture::everywhere().await {
        let mut owner = fixture.publisher();
        let instance = registered(&mut owner, "token").await;
        set(&mut owner, "token", "value").await;
        let (value, version) = resolved(&fixture, "token", &instance).await;
        let lost = revision::current(&fixture.db).await.unwrap() + 1_000_000;

        let stranger = Sealer::new(&fixture.other_ring(), Arc::new(SeededRng::new(5)));
        let mut tx = fixture.db.begin_write().await.unwrap();
        let tools =
            (&fixture.clock as &dyn portico_clock::Clock, &SeededRng::new(6) as &dyn portico_ids::Rng);
        let refused = after_restore((&mut tx).into(), &stranger, tools).await.unwrap_err();
        assert!(matches!(refused, RestoredError::Sealed { .. }), "{label}: {refused}");
        drop(tx);

        let mut tx = fixture.db.begin_write().await.unwrap();
        after_restore((&mut tx).into(), fixture.sealer(), tools).await.unwrap();
        tx.commit().await.unwrap();
        let (same, newer) = resolved(&fixture, "token", &instance).await;
        assert_eq!(same, value, "{label}");
        assert!(newer > version + 999_999, "{label}");
        let source = crate::service::feed::CatalogueSource {
            db: fixture.db.clone(),
            clock: Arc::new(fixture.clock.clone()),
        };
        let changes = portico_feed::FeedSource::changes(&source, Some(lost)).await.unwrap();
        assert!(changes.snapshot && changes.revision > lost, "{label}");
    }
}
