use portico_proto_auth as proto;
use portico_proto_auth::sealing_service_client::SealingServiceClient;
use portico_sealing::KeyRing;
use tonic::Code;
use tonic::service::interceptor::InterceptedService;

use super::fixture::*;
use super::replicas::until;

#[tokio::test]
async fn s0_29_a_replica_whose_ring_is_behind_seals_nothing_after_the_rewrap() {
    for fixture in Fixture::all().await {
        let label = fixture.label;
        let late = fixture.late_replica().await;
        late.server.spawn_tasks(&late.tasks);
        let caller = As::Token(fixture.token(&fixture.root, "admin").await);
        let (mut here, mut there) =
            (Clients::of(&fixture.routes, caller.clone()), Clients::of(&late.routes, caller.clone()));
        let create = |username: &str| proto::CreateUserRequest {
            username: username.to_owned(),
            request_id: username.to_owned(),
            ..Default::default()
        };
        let path = fixture.key_ring();
        let key = KeyRing::stage_file(&path, &portico_ids::SeededRng::new(31)).unwrap();
        KeyRing::promote_file(&path, &key, fixture.clock_now()).unwrap();
        assert!(fixture.app.sealer.ring().reload().unwrap());
        there.users.create_user(create("nothing-is-closed-yet")).await.unwrap();

        let mut keeper = SealingServiceClient::new(InterceptedService::new(fixture.routes.clone(), caller));
        let mut request = proto::RewrapRequest { sealing_key_id: key.clone(), ..Default::default() };
        loop {
            let done = keeper.rewrap(request.clone()).await.unwrap().into_inner();
            request.position = done.next_position;
            if request.position.is_empty() {
                break;
            }
        }
        let refusal = there.users.create_user(create("ada")).await;
        let status = refused(refusal, Code::Unavailable, "ring_behind");
        assert!(status.message().contains("reads the newest key ring"), "{label}: {status:?}");
        // A key that it made could not be opened by anybody soon.
        let rotation = there.keys.rotate_signing_keys(proto::RotateSigningKeysRequest::default()).await;
        refused(rotation, Code::Unavailable, "ring_behind");
        let withdrawal = proto::RotateSigningKeysRequest { withdraw: true };
        refused(there.keys.rotate_signing_keys(withdrawal).await, Code::Unavailable, "ring_behind");
        until("the late replica is not ready", async || {
            let reasons = late.readiness.snapshot().into_iter().filter_map(|check| check.reason);
            reasons.into_iter().any(|reason| reason.contains("key ring is behind"))
        })
        .await;
        here.users.create_user(create("ada")).await.unwrap();
        let found = keeper.get_sealing(proto::GetSealingRequest {}).await.unwrap().into_inner();
        let held =
            |id: &str| found.keys.iter().filter(|known| known.id == id).map(|known| known.rows).sum::<i64>();
        assert_eq!((held(&key), found.unknown_rows), (3, 0), "{label}: {found:?}");
        assert_eq!(found.keys.iter().map(|known| known.rows).sum::<i64>(), 3, "{label}: {found:?}");
        assert_ne!(fixture.last_record("key.close").await.unwrap().target, key, "{label}");
        late.stop().await;
    }
}

#[tokio::test]
async fn s0_29_rotating_the_ring_rewraps_keys_and_answers_and_nobody_notices() {
    for fixture in Fixture::all().await {
        let label = fixture.label;
        let mut root = fixture.administrator().await;
        let create = proto::CreateUserRequest {
            username: "alice".to_owned(),
            request_id: "once".to_owned(),
            ..Default::default()
        };
        let first = root.users.create_user(create.clone()).await.unwrap().into_inner();
        let token = fixture.token(&fixture.root, "admin").await;
        let caller = As::Token(token.clone());
        let mut keeper = SealingServiceClient::new(InterceptedService::new(fixture.routes.clone(), caller));
        let before = keeper.get_sealing(proto::GetSealingRequest {}).await.unwrap().into_inner();
        assert_eq!(
            before.keys.iter().map(|key| key.rows).sum::<i64>(),
            2,
            "{label}: a signing key, an answer"
        );

        let path = fixture.key_ring();
        let key = KeyRing::stage_file(&path, &portico_ids::SeededRng::new(31)).unwrap();
        KeyRing::promote_file(&path, &key, fixture.clock_now()).unwrap();
        let request =
            proto::RewrapRequest { sealing_key_id: key.clone(), position: String::new(), batch_size: 1 };
        refused(keeper.rewrap(request.clone()).await, Code::FailedPrecondition, "sealing_key_differs");
        assert!(fixture.app.sealer.ring().reload().unwrap());
        for size in [-1, 1001] {
            let request = proto::RewrapRequest { batch_size: size, ..request.clone() };
            refused(keeper.rewrap(request).await, Code::InvalidArgument, "invalid_field");
        }

        let (mut rewrapped, mut position) = (0, String::new());
        loop {
            let request = proto::RewrapRequest { position, ..request.clone() };
            let done = keeper.rewrap(request).await.unwrap().into_inner();
            rewrapped += done.rewrapped;
            position = done.next_position;
            if position.is_empty() {
                break;
            }
        }
        assert_eq!(rewrapped, 2, "{label}");
        KeyRing::prune_file(&path, &before.sealing_key_id).unwrap();
        assert!(fixture.app.sealer.ring().reload().unwrap());
        let again = root.users.create_user(create).await.unwrap().into_inner();
        assert_eq!(again, first, "{label}: the answer opens with the new key");
        fixture.app.keys.reload().await.unwrap();
        assert!(fixture.counts(&token), "{label}");
        let record = fixture.last_record("key.rewrap").await.unwrap();
        assert_eq!((record.target.as_str(), record.name.as_str()), (key.as_str(), "1 rows"), "{label}");
        let found = keeper.get_sealing(proto::GetSealingRequest {}).await.unwrap().into_inner();
        assert_eq!((found.keys.len(), found.keys[0].rows, found.unknown_rows), (1, 2, 0), "{label}");
    }
}
