use std::collections::BTreeMap;

use portico_proto_auth as proto;
use portico_proto_auth::trust_item::Value;
use portico_proto_auth::watch_trust_response::Frame;
use tonic::Streaming;

use super::fixture::*;
use super::replicas::PROMPT;

/// One batch: whether it is a snapshot, its items by key, what was removed, and its revision.
#[derive(Debug)]
struct Batch {
    snapshot: bool,
    items: BTreeMap<String, Value>,
    removed: Vec<String>,
    revision: i64,
}

async fn watch(fixture: &Fixture, since_revision: i64) -> Streaming<proto::WatchTrustResponse> {
    let mut gateway = fixture.clients(As::Service("gateway"));
    gateway.trust.watch_trust(proto::WatchTrustRequest { since_revision }).await.unwrap().into_inner()
}

/// Reads the next batch.
async fn batch(stream: &mut Streaming<proto::WatchTrustResponse>) -> Batch {
    let mut batch = Batch { snapshot: false, items: BTreeMap::new(), removed: Vec::new(), revision: 0 };
    tokio::time::timeout(PROMPT, async {
        loop {
            match stream.message().await.unwrap().unwrap().frame.unwrap() {
                Frame::Begin(begin) => batch.snapshot = begin.snapshot,
                Frame::Put(put) => {
                    batch.items.extend(put.items.into_iter().map(|item| (item.key, item.value.unwrap())));
                    batch.removed.extend(put.removed);
                }
                Frame::End(end) => {
                    batch.revision = end.revision;
                    return batch;
                }
                Frame::Heartbeat(_) => {}
            }
        }
    })
    .await
    .expect("a change arrives in time")
}

#[tokio::test]
async fn a_new_watcher_gets_everything_and_then_each_change_in_time() {
    for fixture in Fixture::all().await {
        let mut stream = watch(&fixture, 0).await;
        let all = batch(&mut stream).await;
        assert!(all.snapshot, "{}", fixture.label);
        assert!(matches!(&all.items["issuer"], Value::Issuer(issuer) if issuer.issuer == ORIGIN));
        assert_eq!(all.items.keys().filter(|key| key.starts_with("role/")).count(), 4);
        assert_eq!(all.items.keys().filter(|key| key.starts_with("key/")).count(), 1);

        let mut root = fixture.administrator().await;
        let role = root.role("reader", &["user.read"]).await;
        let change = batch(&mut stream).await;
        assert!(!change.snapshot && change.revision > all.revision);
        let key = format!("role/{}", role.id);
        assert!(matches!(&change.items[&key], Value::Role(role) if role.permissions == ["user.read"]));

        let user = root.user("ada").await;
        root.users.delete_user(proto::DeleteUserRequest { id: user.id.clone() }).await.unwrap();
        let change = batch(&mut stream).await;
        let value = format!("user:{}", user.id);
        let Value::Revocation(revocation) = &change.items[&format!("revocation/principal/{value}")] else {
            panic!("{change:?}")
        };
        assert_eq!((revocation.kind(), &revocation.value), (proto::RevocationKind::Principal, &value));
        assert!(revocation.not_before.is_some() && revocation.expires_at.is_some());

        root.roles.delete_role(proto::DeleteRoleRequest { id: role.id }).await.unwrap();
        let change = batch(&mut stream).await;
        assert_eq!(change.removed, [key], "{}", fixture.label);

        let mut resumed = watch(&fixture, all.revision).await;
        let missed = batch(&mut resumed).await;
        assert!(!missed.snapshot && missed.revision == change.revision);
        assert!(missed.items.keys().any(|key| key.starts_with("revocation/")));
        fixture.stop().await;
    }
}

#[tokio::test]
async fn a_revocation_leaves_the_feed_when_the_last_token_has_expired() {
    for fixture in Fixture::all().await {
        let mut root = fixture.administrator().await;
        let user = root.user("ada").await;
        root.users.delete_user(proto::DeleteUserRequest { id: user.id.clone() }).await.unwrap();
        let key = format!("revocation/principal/user:{}", user.id);
        let mut early = watch(&fixture, 0).await;
        assert!(batch(&mut early).await.items.contains_key(&key));

        fixture.clock.advance(chrono::Duration::minutes(15));
        let mut late = watch(&fixture, 0).await;
        assert!(!batch(&mut late).await.items.contains_key(&key), "{}", fixture.label);
        fixture.app.stores.trust.withdraw_expired(fixture.clock_now()).await.unwrap();
        fixture.app.trust.refresh().await.unwrap();
        assert_eq!(batch(&mut early).await.removed, [key], "{}", fixture.label);
        fixture.stop().await;
    }
}
