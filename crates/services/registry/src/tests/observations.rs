use portico_proto_events::Event;
use portico_proto_events::event::Payload;
use portico_proto_registry as proto;
use portico_proto_registry::discovery_service_client::DiscoveryServiceClient;
use prost::Message as _;
use prost_types::Timestamp;
use tonic::Code;
use tonic::service::interceptor::InterceptedService;

use super::fixture::*;

fn report(
    instance: &proto::Instance,
    status: proto::InstanceStatus,
    second: i64,
) -> proto::ReportInstanceRequest {
    proto::ReportInstanceRequest {
        instance_id: instance.id.clone(),
        status: status.into(),
        reason: "connection refused".to_owned(),
        protocol_versions: vec!["2026-07-28".to_owned()],
        checked_at: Some(Timestamp { seconds: 1_799_999_000 + second, nanos: 0 }),
        spec_revision: instance.revision,
    }
}

async fn read(owner: &mut Clients, id: &str) -> proto::Instance {
    let request = proto::GetInstanceRequest { id: id.to_owned() };
    owner.instances.get_instance(request).await.unwrap().into_inner().instance.unwrap()
}

#[tokio::test]
async fn s4_30_s4_42_a_probes_outcome_reaches_the_database_the_events_and_the_api() {
    let mut fixture = Fixture::new().await;
    let mut owner = fixture.publisher();
    let mut worker = fixture.clients(As::Service("worker"));
    fixture.registry.spawn_tasks(&fixture.tasks);
    let made = owner.register("weather").await.instance.unwrap();
    worker.observations.report_instance(report(&made, proto::InstanceStatus::Unhealthy, 10)).await.unwrap();
    let seen = read(&mut owner, &made.id).await;
    assert_eq!(
        (seen.status(), seen.status_reason.as_str()),
        (proto::InstanceStatus::Unhealthy, "connection refused")
    );
    assert_eq!(seen.revision, made.revision, "a probe does not make the owner's copy stale");
    // Older than the last one: changes nothing.
    worker.observations.report_instance(report(&made, proto::InstanceStatus::Healthy, 5)).await.unwrap();
    assert_eq!(read(&mut owner, &made.id).await.status(), proto::InstanceStatus::Unhealthy);
    let healthy = report(&made, proto::InstanceStatus::Healthy, 20);
    let healthy = proto::ReportInstanceRequest { reason: String::new(), ..healthy };
    worker.observations.report_instance(healthy).await.unwrap();
    let seen = read(&mut owner, &made.id).await;
    assert_eq!(
        (seen.status(), seen.status_reason.as_str(), seen.protocol_versions.len()),
        (proto::InstanceStatus::Healthy, "", 1)
    );

    let consumer = fixture.events.subscribe(portico_proto_events::TOPIC, "test", "test").await.unwrap();
    let mut statuses = Vec::new();
    while statuses.len() < 2 {
        let delivery = consumer.next().await.unwrap();
        let event = Event::decode(fixture.opened(&delivery).as_slice()).unwrap();
        match event.payload.unwrap() {
            Payload::InstanceStatusChanged(changed) => statuses.push(changed.status),
            Payload::ServerInstanceCreated(created) => {
                // S4-04: the complete document, so that nobody has to call back.
                assert_eq!(created.spec.unwrap().json_spec, Some(url_spec()));
            }
            other => panic!("unexpected {other:?}"),
        }
        consumer.ack(delivery.id).await.unwrap();
    }
    assert_eq!(statuses, ["unhealthy", "healthy"]);
    fixture.stop().await;
}

#[tokio::test]
async fn s4_16_s4_17_s4_23_a_change_and_its_events_commit_together_and_survive_a_relay_that_is_down() {
    let mut fixture = Fixture::new().await;
    let mut owner = fixture.publisher();
    let made = owner.register("weather").await;
    // Refused after its rows were written: neither they nor their events stay.
    refused(owner.servers.register_server(registration("weather")).await, Code::AlreadyExists, "name_taken");
    let delete = proto::DeleteServerRequest { id: made.server.unwrap().id, expected_revision: 0 };
    owner.servers.delete_server(delete).await.unwrap();
    fixture.registry.spawn_tasks(&fixture.tasks);
    let consumer = fixture.events.subscribe(portico_proto_events::TOPIC, "test", "test").await.unwrap();
    let mut told = Vec::new();
    for _ in 0..3 {
        let delivery = consumer.next().await.unwrap();
        let event = Event::decode(fixture.opened(&delivery).as_slice()).unwrap();
        told.push((event.revision, event.payload.unwrap()));
        consumer.ack(delivery.id).await.unwrap();
    }
    assert!(matches!(&told[0].1, Payload::ServerInstanceCreated(_)));
    assert!(matches!(&told[1].1, Payload::ServerInstanceDeleted(_)));
    assert!(matches!(&told[2].1, Payload::ServerDeleted(_)));
    assert!(told[0].0 < told[1].0);
    fixture.stop().await;
}

#[tokio::test]
async fn a_report_on_an_older_spec_changes_nothing() {
    let mut fixture = Fixture::new().await;
    let mut owner = fixture.publisher();
    let mut worker = fixture.clients(As::Service("worker"));
    let made = owner.register("weather").await.instance.unwrap();
    worker.observations.report_instance(report(&made, proto::InstanceStatus::Healthy, 1)).await.unwrap();
    let update = proto::UpdateInstanceRequest {
        instance: Some(proto::Instance {
            id: made.id.clone(),
            json_spec: Some(bearer_spec("x")),
            ..Default::default()
        }),
        update_mask: Some(mask(&["json_spec"])),
        expected_revision: made.revision,
    };
    let updated = owner.instances.update_instance(update).await.unwrap().into_inner().instance.unwrap();
    assert_eq!(updated.status(), proto::InstanceStatus::Pending, "nobody has looked at the new address yet");
    worker.observations.report_instance(report(&made, proto::InstanceStatus::Unhealthy, 2)).await.unwrap();
    assert_eq!(read(&mut owner, &made.id).await.status(), proto::InstanceStatus::Pending);
    let pending = report(&updated, proto::InstanceStatus::Pending, 3);
    refused(worker.observations.report_instance(pending).await, Code::InvalidArgument, "invalid_field");
}

#[tokio::test]
async fn s1_05_capabilities_are_found_across_the_servers_that_a_caller_may_read() {
    let mut fixture = Fixture::new().await;
    let (mut owner, stranger) = (fixture.publisher(), fixture.person(&[], READ));
    let mut worker = fixture.clients(As::Service("worker"));
    let private = owner.register("private").await.server.unwrap();
    let public = proto::RegisterServerRequest {
        visibility: proto::Visibility::Public.into(),
        ..registration("public")
    };
    let public = owner.servers.register_server(public).await.unwrap().into_inner().server.unwrap();
    worker.capabilities(&private.id, &["hidden"]).await;
    worker.capabilities(&public.id, &["one", "two", "one"]).await;
    let discover = async |caller: As| {
        let channel = InterceptedService::new(fixture.routes.clone(), caller);
        let request =
            proto::ListCapabilitiesRequest { kind: proto::CapabilityKind::Tool.into(), ..Default::default() };
        DiscoveryServiceClient::new(channel)
            .list_capabilities(request)
            .await
            .unwrap()
            .into_inner()
            .capabilities
    };
    let seen = discover(stranger).await;
    assert_eq!(seen.iter().map(|capability| capability.name.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    assert!(seen[0].definition_json.contains("12345678901234567890123"), "definitions are kept as they came");
}

#[tokio::test]
async fn the_workers_resync_lists_every_instance_with_its_spec() {
    let mut fixture = Fixture::new().await;
    let mut owner = fixture.publisher();
    let mut worker = fixture.clients(As::Service("worker"));
    for n in 0..5 {
        owner.register(&format!("server-{n}")).await;
    }
    let mut names = Vec::new();
    let mut request = proto::ListInstanceSpecsRequest { page_size: 2, ..Default::default() };
    loop {
        let page = worker.observations.list_instance_specs(request.clone()).await.unwrap().into_inner();
        names.extend(page.specs.into_iter().map(|spec| spec.server_name));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    names.sort();
    assert_eq!(names, ["server-0", "server-1", "server-2", "server-3", "server-4"]);
}

#[tokio::test]
async fn what_is_wrong_with_the_lists_of_a_healthy_instance_reaches_its_owner_and_goes_away() {
    let mut fixture = Fixture::new().await;
    let mut owner = fixture.publisher();
    let mut worker = fixture.clients(As::Service("worker"));
    let made = owner.register("weather").await.instance.unwrap();
    let healthy = |reason: &str, second| proto::ReportInstanceRequest {
        reason: reason.to_owned(),
        ..report(&made, proto::InstanceStatus::Healthy, second)
    };
    for (second, reason) in [(1, "its lists cannot be read"), (2, "")] {
        worker.observations.report_instance(healthy(reason, second)).await.unwrap();
        let seen = read(&mut owner, &made.id).await;
        assert_eq!((seen.status(), seen.status_reason.as_str()), (proto::InstanceStatus::Healthy, reason));
    }
}

#[tokio::test]
async fn a_page_of_large_definitions_fits_what_a_client_takes() {
    let mut fixture = Fixture::new().await;
    let owner = fixture.person(&["publisher"], WRITE);
    let mut worker = fixture.clients(As::Service("worker"));
    let made = fixture.clients(owner.clone()).register("weather").await.server.unwrap();
    let large = |n: u32| proto::Capability {
        definition_json: format!(r#"{{"d":"{}"}}"#, "d".repeat(250 * 1024)),
        ..tool(&format!("tool-{n:02}"))
    };
    let capabilities = (0..30).map(large).collect();
    let request = proto::ReportCapabilitiesRequest { server_id: made.id, capabilities };
    worker.observations.report_capabilities(request).await.unwrap();
    let mut client = DiscoveryServiceClient::new(InterceptedService::new(fixture.routes.clone(), owner));
    let (mut names, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = proto::ListCapabilitiesRequest { page_size: 500, page_token, ..Default::default() };
        let page = client.list_capabilities(request).await.unwrap().into_inner();
        assert!(page.encoded_len() < 2 * 1024 * 1024);
        names.extend(page.capabilities.into_iter().map(|found| found.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(names, (0..30).map(|n| format!("tool-{n:02}")).collect::<Vec<_>>());
}
