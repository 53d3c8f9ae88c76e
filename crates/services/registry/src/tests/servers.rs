use portico_proto_registry as proto;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::fixture::*;

fn full_server(name: &str) -> proto::Server {
    let variable = proto::EnvEntry {
        name: "MAX_FILE_SIZE".to_owned(),
        r#type: "string".to_owned(),
        description: "largest file".to_owned(),
        required: true,
        secret: false,
        default: Some("10MB".to_owned()),
    };
    proto::Server {
        name: name.to_owned(),
        description: "files".to_owned(),
        version: "1.0.0".to_owned(),
        tags: vec!["files".to_owned(), "demo".to_owned()],
        docker_image_url: "mcp/filesystem".to_owned(),
        status: proto::ServerStatus::Disabled.into(),
        visibility: proto::Visibility::Public.into(),
        env_schema: vec![variable],
        ..Default::default()
    }
}

fn create(server: proto::Server, request_id: &str) -> proto::CreateServerRequest {
    proto::CreateServerRequest { server: Some(server), request_id: request_id.to_owned() }
}

#[tokio::test]
async fn s4_18_a_server_round_trips_through_create_get_and_list() {
    let mut fixture = Fixture::new().await;
    let mut owner = fixture.publisher();
    let created = owner
        .servers
        .create_server(create(full_server("files"), ""))
        .await
        .unwrap()
        .into_inner()
        .server
        .unwrap();
    let expected = proto::Server {
        id: created.id.clone(),
        owner: created.owner.clone(),
        revision: created.revision,
        created_at: created.created_at,
        updated_at: created.updated_at,
        ..full_server("files")
    };
    assert_eq!(created, expected);
    assert!(created.owner.starts_with("user:") && created.revision > 0);
    let by_id = proto::GetServerRequest { id: created.id.clone(), ..Default::default() };
    assert_eq!(owner.servers.get_server(by_id).await.unwrap().into_inner().server, Some(created.clone()));
    let by_name = proto::GetServerRequest { name: "files".to_owned(), ..Default::default() };
    assert_eq!(owner.servers.get_server(by_name).await.unwrap().into_inner().server, Some(created.clone()));
    let tagged = proto::ListServersRequest { tag: "demo".to_owned(), ..Default::default() };
    assert_eq!(owner.servers.list_servers(tagged).await.unwrap().into_inner().servers, [created]);
}

#[tokio::test]
async fn s4_51_registering_makes_a_server_an_instance_and_an_endpoint() {
    let mut fixture = Fixture::new().await;
    let mut owner = fixture.publisher();
    let answer = owner.register("weather").await;
    let (server, instance, endpoint) =
        (answer.server.unwrap(), answer.instance.unwrap(), answer.endpoint.unwrap());
    assert_eq!((server.docker_image_url.as_str(), server.env_schema.len()), ("", 0));
    assert_eq!(server.visibility(), proto::Visibility::Private);
    assert_eq!(instance.server_id, server.id);
    assert_eq!(instance.json_spec, Some(url_spec()));
    assert_eq!(instance.status(), proto::InstanceStatus::Pending);
    assert_eq!(endpoint.url, "https://portico.test/weather/mcp");
    assert_eq!(endpoint.names(), proto::Names::Plain);
    assert_eq!(endpoint.members[0].server_id, server.id);
}

#[tokio::test]
async fn reserved_malformed_and_taken_names_are_refused() {
    let mut fixture = Fixture::new().await;
    let mut owner = fixture.publisher();
    owner.register("weather").await;
    for name in ["mcp", "api", "Weather", "a_b", "../x", ""] {
        refused(
            owner.servers.register_server(registration(name)).await,
            Code::InvalidArgument,
            "invalid_name",
        );
    }
    refused(owner.servers.register_server(registration("weather")).await, Code::AlreadyExists, "name_taken");
    // Nothing of a refused registration stays behind.
    let servers =
        owner.servers.list_servers(proto::ListServersRequest::default()).await.unwrap().into_inner().servers;
    assert_eq!(servers.len(), 1);
}

#[tokio::test]
async fn a_private_or_link_local_address_is_refused_where_policy_forbids_it() {
    let mut fixture = Fixture::new().await;
    let mut owner = fixture.publisher();
    for url in [
        "http://10.0.0.5/mcp",
        "http://169.254.169.254/latest",
        "http://127.0.0.1:3333/mcp",
        "http://[::1]/mcp",
    ] {
        let json_spec = Some(crate::json::to_struct(&serde_json::json!({"type": "url", "endpoint": url})));
        let refused = owner
            .servers
            .register_server(proto::RegisterServerRequest { json_spec, ..registration("inside") })
            .await;
        let status = refused.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{url}: {status:?}");
        assert!(status.message().contains("json_spec.endpoint"), "{url}: {}", status.message());
    }
}

#[tokio::test]
async fn s1_04_s4_20_an_update_changes_what_its_mask_names_and_nothing_else() {
    let mut fixture = Fixture::new().await;
    let mut owner = fixture.publisher();
    let server = owner
        .servers
        .create_server(create(full_server("files"), ""))
        .await
        .unwrap()
        .into_inner()
        .server
        .unwrap();
    let request = proto::UpdateServerRequest {
        server: Some(proto::Server {
            id: server.id.clone(),
            description: "new".to_owned(),
            ..Default::default()
        }),
        update_mask: Some(mask(&["description"])),
        expected_revision: server.revision,
    };
    let updated = owner.servers.update_server(request.clone()).await.unwrap().into_inner().server.unwrap();
    assert!(updated.revision > server.revision);
    let expected =
        proto::Server { description: "new".to_owned(), revision: updated.revision, ..server.clone() };
    assert_eq!(updated, expected);

    let stale = owner.servers.update_server(request.clone()).await.unwrap_err();
    assert_eq!(
        stale.get_details_error_info().unwrap().metadata["current_revision"],
        updated.revision.to_string()
    );
    refused::<()>(Err(stale), Code::Aborted, "stale_revision");
    let no_mask = proto::UpdateServerRequest { update_mask: None, ..request.clone() };
    refused(owner.servers.update_server(no_mask).await, Code::InvalidArgument, "update_mask_missing");
    let no_revision = proto::UpdateServerRequest { expected_revision: 0, ..request.clone() };
    refused(
        owner.servers.update_server(no_revision).await,
        Code::InvalidArgument,
        "expected_revision_missing",
    );
    let rename = proto::UpdateServerRequest { update_mask: Some(mask(&["name"])), ..request };
    refused(owner.servers.update_server(rename).await, Code::InvalidArgument, "immutable_field");
}

#[tokio::test]
async fn of_two_updates_from_one_revision_exactly_one_wins() {
    let mut fixture = Fixture::new().await;
    let mut owner = fixture.publisher();
    let server = owner.register("weather").await.server.unwrap();
    let update = |text: &str| proto::UpdateServerRequest {
        server: Some(proto::Server {
            id: server.id.clone(),
            description: text.to_owned(),
            ..Default::default()
        }),
        update_mask: Some(mask(&["description"])),
        expected_revision: server.revision,
    };
    let mut racers = tokio::task::JoinSet::new();
    for n in 0..8 {
        let (mut owner, update) = (owner.clone(), update(&n.to_string()));
        racers.spawn(async move { owner.servers.update_server(update).await.map(drop) });
    }
    let (won, lost): (Vec<_>, Vec<_>) = racers.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 7));
    for outcome in lost {
        refused(outcome, Code::Aborted, "stale_revision");
    }
}

#[tokio::test]
async fn a_create_with_the_same_request_id_is_answered_as_the_first_time() {
    let mut fixture = Fixture::new().await;
    let mut owner = fixture.publisher();
    let request = proto::RegisterServerRequest { request_id: "r-1".to_owned(), ..registration("weather") };
    let first = owner.servers.register_server(request.clone()).await.unwrap().into_inner();
    let again = owner.servers.register_server(request.clone()).await.unwrap().into_inner();
    assert_eq!(first, again);
    let other = proto::RegisterServerRequest { name: "other".to_owned(), ..request.clone() };
    refused(owner.servers.register_server(other).await, Code::AlreadyExists, "request_id_reused");
    // Somebody else's request id is somebody else's.
    let mut stranger = fixture.publisher();
    refused(stranger.servers.register_server(request).await, Code::AlreadyExists, "name_taken");
}

#[tokio::test]
async fn a_list_is_paged_shows_only_what_is_visible_and_its_token_is_bound() {
    let mut fixture = Fixture::new().await;
    let (mut owner, mut stranger) = (fixture.publisher(), fixture.publisher());
    for n in 0..5 {
        owner.register(&format!("server-{n}")).await;
        fixture.clock.advance(chrono::Duration::seconds(1));
    }
    stranger.register("other").await;
    let mut names = Vec::new();
    let mut request = proto::ListServersRequest { page_size: 2, ..Default::default() };
    loop {
        let page = owner.servers.list_servers(request.clone()).await.unwrap().into_inner();
        names.extend(page.servers.into_iter().map(|server| server.name));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(names, ["server-0", "server-1", "server-2", "server-3", "server-4"]);
    refused(
        stranger.servers.list_servers(request.clone()).await,
        Code::InvalidArgument,
        "invalid_page_token",
    );
    let other_filter = proto::ListServersRequest { tag: "x".to_owned(), ..request.clone() };
    refused(owner.servers.list_servers(other_filter).await, Code::InvalidArgument, "invalid_page_token");
    let negative = proto::ListServersRequest { page_size: -1, ..Default::default() };
    refused(owner.servers.list_servers(negative).await, Code::InvalidArgument, "invalid_field");
    let mut admin = fixture.admin();
    let all = admin
        .servers
        .list_servers(proto::ListServersRequest { page_size: 9999, ..Default::default() })
        .await
        .unwrap();
    assert_eq!(all.into_inner().servers.len(), 6);
}

#[tokio::test]
async fn deleting_a_server_takes_its_instances_its_endpoint_and_its_place_in_virtual_servers() {
    let mut fixture = Fixture::new().await;
    let mut owner = fixture.publisher();
    let (one, two) = (owner.register("one").await, owner.register("two").await);
    let member = |id: &str| proto::EndpointMember { server_id: id.to_owned(), ..Default::default() };
    let (one_id, two_id) = (one.server.clone().unwrap().id, two.server.unwrap().id);
    let both = proto::Endpoint {
        name: "both".to_owned(),
        members: vec![member(&one_id), member(&two_id)],
        ..Default::default()
    };
    let request = proto::CreateEndpointRequest { endpoint: Some(both), request_id: String::new() };
    let both = owner.endpoints.create_endpoint(request).await.unwrap().into_inner().endpoint.unwrap();

    let stale = proto::DeleteServerRequest { id: one_id.clone(), expected_revision: 999 };
    refused(owner.servers.delete_server(stale).await, Code::Aborted, "stale_revision");
    owner
        .servers
        .delete_server(proto::DeleteServerRequest { id: one_id.clone(), expected_revision: 0 })
        .await
        .unwrap();

    let gone = proto::GetServerRequest { id: one_id, ..Default::default() };
    refused(owner.servers.get_server(gone).await, Code::NotFound, "not_found");
    let gone = proto::GetInstanceRequest { id: one.instance.unwrap().id };
    refused(owner.instances.get_instance(gone).await, Code::NotFound, "not_found");
    let gone = proto::GetEndpointRequest { name: "one".to_owned(), ..Default::default() };
    refused(owner.endpoints.get_endpoint(gone).await, Code::NotFound, "not_found");
    let left = proto::GetEndpointRequest { id: both.id, ..Default::default() };
    let left = owner.endpoints.get_endpoint(left).await.unwrap().into_inner().endpoint.unwrap();
    assert_eq!(left.members.iter().map(|member| &member.server_id).collect::<Vec<_>>(), [&two_id]);
    assert_eq!(left.names(), proto::Names::Prefixed, "names are stored, never derived");
    // The name is free again.
    owner.register("one").await;
}

#[tokio::test]
async fn every_answer_and_every_refusal_names_its_correlation_id() {
    let mut fixture = Fixture::new().await;
    let mut owner = fixture.publisher();
    let mut request = tonic::Request::new(registration("weather"));
    request.metadata_mut().insert("x-correlation-id", "my-request-1".parse().unwrap());
    let answer = owner.servers.register_server(request).await.unwrap();
    assert_eq!(answer.metadata().get("x-correlation-id").unwrap(), "my-request-1");
    let refusal = owner.servers.register_server(registration("weather")).await.unwrap_err();
    assert!(refusal.metadata().get("x-correlation-id").is_some_and(|id| id.len() == 36));
    let mut admin = fixture.admin();
    let filter = proto::ListAuditRequest { correlation_id: "my-request-1".to_owned(), ..Default::default() };
    assert_eq!(admin.audit.list_audit(filter).await.unwrap().into_inner().records.len(), 3);
}
