use portico_proto_registry as proto;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::fixture::*;

fn member(server: &proto::RegisterServerResponse) -> proto::EndpointMember {
    proto::EndpointMember { server_id: server.server.clone().unwrap().id, ..Default::default() }
}

fn create(
    name: &str,
    names: proto::Names,
    members: Vec<proto::EndpointMember>,
) -> proto::CreateEndpointRequest {
    let endpoint =
        proto::Endpoint { name: name.to_owned(), names: names.into(), members, ..Default::default() };
    proto::CreateEndpointRequest { endpoint: Some(endpoint), request_id: String::new() }
}

#[tokio::test]
async fn a_virtual_server_of_several_is_prefixed_and_its_members_have_aliases() {
    let mut fixture = Fixture::new().await;
    let mut owner = fixture.publisher();
    let (one, two) = (owner.register("one").await, owner.register("a-server-with-a-long-name").await);
    let request = create("both", proto::Names::Unspecified, vec![member(&one), member(&two)]);
    let endpoint = owner.endpoints.create_endpoint(request).await.unwrap().into_inner().endpoint.unwrap();
    assert_eq!(endpoint.names(), proto::Names::Prefixed);
    let aliases: Vec<_> = endpoint.members.iter().map(|member| member.alias.as_str()).collect();
    assert_eq!(aliases, ["one", "a-server-with-a-long"]);

    let renamed = proto::EndpointMember { alias: "other".to_owned(), ..member(&one) };
    let update = proto::UpdateEndpointRequest {
        endpoint: Some(proto::Endpoint {
            id: endpoint.id.clone(),
            members: vec![renamed],
            ..Default::default()
        }),
        update_mask: Some(mask(&["members"])),
        expected_revision: endpoint.revision,
    };
    refused(owner.endpoints.update_endpoint(update).await, Code::FailedPrecondition, "alias_fixed");
    let twice = proto::EndpointMember { alias: "one".to_owned(), ..member(&two) };
    let request = create(
        "again",
        proto::Names::Unspecified,
        vec![proto::EndpointMember { alias: "one".to_owned(), ..member(&one) }, twice],
    );
    refused(owner.endpoints.create_endpoint(request).await, Code::AlreadyExists, "alias_taken");
}

#[tokio::test]
async fn adding_a_server_whose_tools_collide_under_plain_names_is_refused_with_the_names() {
    let mut fixture = Fixture::new().await;
    let mut owner = fixture.publisher();
    let mut worker = fixture.clients(As::Service("worker"));
    let (one, two) = (owner.register("one").await, owner.register("two").await);
    worker.capabilities(&one.server.clone().unwrap().id, &["search", "fetch", "only-one"]).await;
    worker.capabilities(&two.server.clone().unwrap().id, &["search", "fetch"]).await;
    let request = create("both", proto::Names::Plain, vec![member(&one)]);
    let endpoint = owner.endpoints.create_endpoint(request).await.unwrap().into_inner().endpoint.unwrap();
    let adding = |second: proto::EndpointMember| proto::UpdateEndpointRequest {
        endpoint: Some(proto::Endpoint {
            id: endpoint.id.clone(),
            members: vec![member(&one), second],
            ..Default::default()
        }),
        update_mask: Some(mask(&["members"])),
        expected_revision: endpoint.revision,
    };
    let collision = owner.endpoints.update_endpoint(adding(member(&two))).await.unwrap_err();
    assert_eq!(collision.get_details_error_info().unwrap().metadata["names"], "fetch,search");
    refused::<()>(Err(collision), Code::FailedPrecondition, "name_collision");
    let restricted = proto::EndpointMember { tools: vec!["other".to_owned()], ..member(&two) };
    owner.endpoints.update_endpoint(adding(restricted)).await.unwrap();
}

#[tokio::test]
async fn a_private_server_of_somebody_else_cannot_be_put_behind_an_endpoint() {
    let mut fixture = Fixture::new().await;
    let (mut owner, mut stranger) = (fixture.publisher(), fixture.publisher());
    let private = owner.register("private").await;
    let public = proto::RegisterServerRequest {
        visibility: proto::Visibility::Public.into(),
        ..registration("public")
    };
    let public = owner.servers.register_server(public).await.unwrap().into_inner();
    let stolen = create("stolen", proto::Names::Plain, vec![member(&private)]);
    refused(stranger.endpoints.create_endpoint(stolen).await, Code::NotFound, "unknown_member");
    let fair = create("fair", proto::Names::Plain, vec![member(&public)]);
    stranger.endpoints.create_endpoint(fair).await.unwrap();
}

#[tokio::test]
async fn an_endpoint_needs_members_and_a_name_that_is_free() {
    let mut fixture = Fixture::new().await;
    let mut owner = fixture.publisher();
    let one = owner.register("one").await;
    refused(
        owner.endpoints.create_endpoint(create("e", proto::Names::Plain, vec![])).await,
        Code::InvalidArgument,
        "invalid_field",
    );
    let taken = create("one", proto::Names::Plain, vec![member(&one)]);
    refused(owner.endpoints.create_endpoint(taken).await, Code::AlreadyExists, "name_taken");
    let reserved = create("sse", proto::Names::Plain, vec![member(&one)]);
    refused(owner.endpoints.create_endpoint(reserved).await, Code::InvalidArgument, "invalid_name");
    let endpoint = one.endpoint.clone().unwrap();
    let delete = proto::DeleteEndpointRequest { id: endpoint.id, expected_revision: endpoint.revision };
    owner.endpoints.delete_endpoint(delete).await.unwrap();
    owner.endpoints.create_endpoint(create("one", proto::Names::Plain, vec![member(&one)])).await.unwrap();
}

#[tokio::test]
async fn an_endpoint_that_would_not_fit_a_frame_of_the_catalogue_is_refused() {
    let mut fixture = Fixture::new().await;
    let mut owner = fixture.publisher();
    let (one, two) = (owner.register("one").await, owner.register("two").await);
    let choose = |server, count: usize| proto::EndpointMember {
        tools: (0..count).map(|n| format!("{n:0>100}")).collect(),
        ..member(server)
    };
    let both =
        |count| create("both", proto::Names::Unspecified, vec![choose(&one, count), choose(&two, count)]);
    refused(owner.endpoints.create_endpoint(both(700)).await, Code::InvalidArgument, "invalid_field");
    let made = owner.endpoints.create_endpoint(both(600)).await.unwrap().into_inner().endpoint.unwrap();
    let update = proto::UpdateEndpointRequest {
        endpoint: Some(proto::Endpoint { id: made.id, ..both(700).endpoint.unwrap() }),
        update_mask: Some(mask(&["members"])),
        expected_revision: made.revision,
    };
    refused(owner.endpoints.update_endpoint(update).await, Code::InvalidArgument, "invalid_field");
}

#[tokio::test]
async fn a_server_that_becomes_private_leaves_the_endpoints_of_others_and_stays_in_those_of_its_owner() {
    let mut fixture = Fixture::new().await;
    let (mut owner, mut other) = (fixture.publisher(), fixture.publisher());
    let public = proto::RegisterServerRequest {
        visibility: proto::Visibility::Public.into(),
        ..registration("weather")
    };
    let weather = owner.servers.register_server(public).await.unwrap().into_inner();
    let own = other.register("own").await;
    for (name, members) in [("mixed", vec![member(&own), member(&weather)]), ("only", vec![member(&weather)])]
    {
        let request = create(name, proto::Names::Unspecified, members);
        other.endpoints.create_endpoint(request).await.unwrap();
    }
    let server = weather.server.clone().unwrap();
    let update = proto::UpdateServerRequest {
        server: Some(proto::Server { visibility: proto::Visibility::Private.into(), ..server.clone() }),
        update_mask: Some(mask(&["visibility"])),
        expected_revision: server.revision,
    };
    owner.servers.update_server(update).await.unwrap();
    let named = |name: &str| proto::GetEndpointRequest { name: name.to_owned(), ..Default::default() };
    let mixed = other.endpoints.get_endpoint(named("mixed")).await.unwrap().into_inner().endpoint.unwrap();
    assert_eq!(mixed.members.len(), 1);
    assert_eq!(mixed.members[0].server_id, own.server.unwrap().id);
    refused(other.endpoints.get_endpoint(named("only")).await, Code::NotFound, "not_found");
    owner.endpoints.get_endpoint(named("weather")).await.unwrap();
}
