//! Two registries on one database and one coordination.

use std::collections::BTreeSet;
use std::time::Duration;

use portico_coordination::Consumer;
use portico_db::testing::{OwnPostgres, connect};
use portico_db::{migrate, on_db, scalar};
use portico_proto_events::Event;
use portico_proto_events::event::Payload;
use portico_proto_registry as proto;
use portico_proto_registry::audit_sink_service_client::AuditSinkServiceClient;
use prost::Message as _;
use tokio::time::{Instant, timeout};
use tonic::service::interceptor::InterceptedService;

use super::audit::record;
use super::catalogue::{batch, watch_at};
use super::fixture::*;
use crate::schema;

async fn next(fixture: &Fixture, consumer: &Consumer) -> Event {
    let delivery = timeout(Duration::from_secs(10), consumer.next()).await.unwrap().unwrap();
    consumer.ack(delivery.id).await.unwrap();
    Event::decode(fixture.opened(&delivery).as_slice()).unwrap()
}

async fn count(fixture: &Fixture, sql: &'static str) -> i64 {
    on_db!(&fixture.db, pool => sqlx::query(sql).try_map(scalar).fetch_one(pool).await.unwrap())
}

#[tokio::test]
async fn s2_09_s2_29_what_one_replica_writes_reaches_the_watchers_of_the_other_within_2_s() {
    for (label, mut fixture) in Fixture::everywhere().await {
        let other = fixture.replica().await;
        fixture.registry.spawn_tasks(&fixture.tasks);
        other.registry.spawn_tasks(&other.tasks);
        let mut frames = watch_at(&other.routes, 0).await;
        assert!(batch(&mut frames).await.snapshot, "{label}");
        let written = Instant::now();
        let mut owner = fixture.publisher();
        owner.register("weather").await;
        let change = batch(&mut frames).await;
        assert!(!change.snapshot && change.removed.is_empty(), "{label}");
        assert!(!change.items.is_empty() && change.revision > 0, "{label}");
        assert!(written.elapsed() < Duration::from_secs(2), "{label}: {:?}", written.elapsed());
        other.stop().await;
        fixture.stop().await;
    }
}

#[tokio::test]
async fn s4_01_s4_05_s2_29_events_of_two_replicas_are_published_once_and_none_is_lost_when_one_ends() {
    for (label, mut fixture) in Fixture::everywhere().await {
        let other = fixture.replica().await;
        fixture.registry.spawn_tasks(&fixture.tasks);
        other.registry.spawn_tasks(&other.tasks);
        let consumer = fixture.events.subscribe(portico_proto_events::TOPIC, "test", "test").await.unwrap();
        let person = fixture.person(&["publisher"], WRITE);
        let mut here = fixture.clients(person.clone());
        let mut there = Clients::of(&other.routes, person);
        let mut told = BTreeSet::new();
        for n in 0..10 {
            here.register(&format!("here-{n}")).await;
            there.register(&format!("there-{n}")).await;
            if n == 5 {
                fixture.stop().await;
            }
        }
        while told.len() < 20 {
            let event = next(&fixture, &consumer).await;
            assert!(told.insert(event.id.clone()), "{label}: {event:?} was published twice");
        }
        assert!(timeout(Duration::from_millis(1), consumer.next()).await.is_err(), "{label}: one too many");
        other.stop().await;
    }
}

#[tokio::test]
async fn s0_26_a_create_that_is_repeated_on_another_replica_is_done_once() {
    for (label, mut fixture) in Fixture::everywhere().await {
        let other = fixture.replica().await;
        let person = fixture.person(&["publisher"], WRITE);
        let mut here = fixture.clients(person.clone());
        let mut there = Clients::of(&other.routes, person);
        let request =
            proto::RegisterServerRequest { request_id: "once".to_owned(), ..registration("weather") };
        let (first, second) = tokio::join!(
            here.servers.register_server(request.clone()),
            there.servers.register_server(request),
        );
        assert_eq!(first.unwrap().into_inner(), second.unwrap().into_inner(), "{label}");
        assert_eq!(count(&fixture, "SELECT count(*) FROM servers").await, 1, "{label}");
    }
}

#[tokio::test]
async fn s2_18_s2_39_records_that_reach_both_replicas_are_kept_once() {
    for (label, fixture) in Fixture::everywhere().await {
        let other = fixture.replica().await;
        let sink = |routes: &tonic::service::Routes| {
            AuditSinkServiceClient::new(InterceptedService::new(routes.clone(), As::Service("gateway")))
        };
        let (mut here, mut there) = (sink(&fixture.routes), sink(&other.routes));
        let request = proto::AppendAuditRequest { records: (1..=250).map(record).collect() };
        let (first, second) = tokio::join!(here.append_audit(request.clone()), there.append_audit(request));
        let appended = first.unwrap().into_inner().appended + second.unwrap().into_inner().appended;
        assert_eq!(appended, 250, "{label}");
        assert_eq!(count(&fixture, "SELECT count(*) FROM audit").await, 250, "{label}");
    }
}

#[tokio::test]
async fn a_new_secret_has_the_instances_that_refer_to_it_looked_at_again() {
    let mut fixture = Fixture::new().await;
    let mut owner = fixture.publisher();
    let request =
        proto::RegisterServerRequest { json_spec: Some(bearer_spec("team/key")), ..registration("private") };
    let made = owner.servers.register_server(request).await.unwrap().into_inner();
    owner.register("other").await;
    let set = proto::SetSecretRequest { r#ref: "team/key".to_owned(), value: b"value".to_vec() };
    owner.secrets.set_secret(set).await.unwrap();
    owner.secrets.delete_secret(proto::DeleteSecretRequest { r#ref: "team/key".to_owned() }).await.unwrap();
    fixture.registry.spawn_tasks(&fixture.tasks);
    let consumer = fixture.events.subscribe(portico_proto_events::TOPIC, "test", "test").await.unwrap();
    let mut revisions = Vec::new();
    while revisions.len() < 2 {
        let event = next(&fixture, &consumer).await;
        if let Some(Payload::ServerInstanceSecretChanged(changed)) = event.payload {
            let instance = made.instance.clone().unwrap();
            assert_eq!(changed.spec_revision, instance.revision, "reports on it still count");
            let spec = changed.spec.unwrap();
            assert_eq!((spec.instance_id, spec.json_spec), (instance.id, Some(bearer_spec("team/key"))));
            revisions.push(event.revision);
        }
    }
    assert!(revisions[0] < revisions[1], "set, then deleted");
    fixture.stop().await;
}

#[tokio::test]
async fn s0_30_s2_30_a_restart_of_postgres_is_survived_without_losing_an_event() {
    let Some(server) = OwnPostgres::start(None) else { return };
    let db = connect(&server, "sslmode=prefer", schema()).await.unwrap();
    migrate(&db, schema()).await.unwrap();
    let mut fixture = Fixture::over(db).await;
    let replica = fixture.replica().await;
    replica.registry.spawn_tasks(&replica.tasks);
    let ready = async |wanted: bool| {
        let waiting = async {
            while replica.readiness.is_ready() != wanted {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(timeout(Duration::from_secs(20), waiting).await.is_ok(), "never ready = {wanted}");
    };
    let consumer = fixture.events.subscribe(portico_proto_events::TOPIC, "test", "test").await.unwrap();
    let mut frames = watch_at(&replica.routes, 0).await;
    assert!(batch(&mut frames).await.snapshot);
    let mut owner = Clients::of(&replica.routes, fixture.person(&["publisher"], WRITE));
    ready(true).await;
    owner.register("before").await;
    next(&fixture, &consumer).await;
    let seen = batch(&mut frames).await.revision;
    server.down();
    ready(false).await;
    assert!(owner.servers.register_server(registration("meanwhile")).await.is_err());
    server.up();
    ready(true).await;
    owner.register("after").await;
    let Some(Payload::ServerInstanceCreated(created)) = next(&fixture, &consumer).await.payload else {
        panic!("an event of the registration")
    };
    assert_eq!(created.spec.unwrap().server_name, "after");
    // A follower that was cut off resumes where it was.
    let missed = batch(&mut watch_at(&replica.routes, seen).await).await;
    let servers = missed.items.into_iter().filter_map(|item| match item.value {
        Some(proto::catalogue_item::Value::Server(server)) => Some(server.name),
        _ => None,
    });
    assert!(!missed.snapshot);
    assert_eq!(servers.collect::<Vec<_>>(), ["after"]);
    replica.stop().await;
}
