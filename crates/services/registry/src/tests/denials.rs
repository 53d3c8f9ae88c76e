//! Every method of the package refuses whoever may not call it. The list comes from the descriptors, so a method
//! that is added without a rule fails here.

use portico_proto_registry as proto;
use portico_transport::{PeerIdentity, reason_of};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::{Code, Status};
use tower::ServiceExt as _;

use super::fixture::*;

const INTERNAL: [&str; 4] =
    ["CatalogueService", "SecretResolverService", "AuditSinkService", "ObservationService"];

fn methods() -> Vec<(String, String)> {
    let files = FileDescriptorSet::decode(proto::FILE_DESCRIPTOR_SET).unwrap().file;
    let services =
        files.iter().filter(|file| file.package() == "portico.registry.v1").flat_map(|file| &file.service);
    services.flat_map(|s| s.method.iter().map(|m| (s.name().to_owned(), m.name().to_owned()))).collect()
}

/// Calls a method with an empty message.
async fn call(fixture: &Fixture, (service, method): &(String, String), caller: &As) -> Status {
    let mut request = http::Request::post(format!("/portico.registry.v1.{service}/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(tonic::body::Body::new(http_body_util::Full::new(bytes::Bytes::from_static(&[0; 5]))))
        .unwrap();
    match caller {
        As::Nobody => {}
        As::Token(token) => {
            request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        As::Service(name) => {
            request.extensions_mut().insert(PeerIdentity::new(*name));
        }
    }
    let response = fixture.routes.clone().oneshot(request).await.unwrap();
    Status::from_header_map(response.headers()).unwrap_or_else(|| Status::ok("answered"))
}

#[track_caller]
fn assert_refused(status: &Status, method: &(String, String), code: Code, reason: &str) {
    assert_eq!((status.code(), reason_of(status).as_deref()), (code, Some(reason)), "{method:?}: {status:?}");
}

#[tokio::test]
async fn no_method_answers_without_a_caller() {
    let fixture = Fixture::new().await;
    let methods = methods();
    assert_eq!(methods.len(), 29, "a method came or went: look whether its denial is tested");
    for method in &methods {
        assert_eq!(call(&fixture, method, &As::Nobody).await.code(), Code::Unauthenticated, "{method:?}");
    }
}

#[tokio::test]
async fn management_methods_need_a_principal_with_the_scope() {
    let mut fixture = Fixture::new().await;
    let unscoped = fixture.person(&["administrator"], "mcp");
    let reader = fixture.person(&["administrator"], READ);
    for method in methods().iter().filter(|(service, _)| !INTERNAL.contains(&service.as_str())) {
        assert_refused(
            &call(&fixture, method, &unscoped).await,
            method,
            Code::PermissionDenied,
            "insufficient_scope",
        );
        assert_refused(
            &call(&fixture, method, &As::Service("gateway")).await,
            method,
            Code::PermissionDenied,
            "peer_not_allowed",
        );
        let reads = method.1.starts_with("Get") || method.1.starts_with("List");
        if !reads {
            assert_refused(
                &call(&fixture, method, &reader).await,
                method,
                Code::PermissionDenied,
                "insufficient_scope",
            );
        }
    }
}

#[tokio::test]
async fn internal_methods_need_the_right_service() {
    let mut fixture = Fixture::new().await;
    let admin = fixture.person(&["administrator"], "admin");
    for method in methods().iter().filter(|(service, _)| INTERNAL.contains(&service.as_str())) {
        for (caller, reason) in [(&admin, "internal_only"), (&As::Service("demo-server"), "peer_not_allowed")]
        {
            assert_refused(&call(&fixture, method, caller).await, method, Code::PermissionDenied, reason);
        }
    }
    let worker =
        call(&fixture, &("CatalogueService".to_owned(), "WatchCatalogue".to_owned()), &As::Service("worker"))
            .await;
    assert_eq!(worker.code(), Code::PermissionDenied);
    let gateway = call(
        &fixture,
        &("ObservationService".to_owned(), "ReportInstance".to_owned()),
        &As::Service("gateway"),
    )
    .await;
    assert_eq!(gateway.code(), Code::PermissionDenied);
}

/// A private registration, and somebody with every scope and no role.
async fn private_and_stranger() -> (Fixture, proto::RegisterServerResponse, Clients) {
    let mut fixture = Fixture::new().await;
    let made = fixture.publisher().register("private").await;
    let stranger = fixture.person(&[], WRITE);
    let stranger = fixture.clients(stranger);
    (fixture, made, stranger)
}

#[tokio::test]
async fn a_stranger_can_neither_see_nor_change_a_private_server() {
    let (_fixture, made, mut stranger) = private_and_stranger().await;
    let server = made.server.unwrap();
    refused(
        stranger.servers.register_server(registration("x")).await,
        Code::PermissionDenied,
        "no_permission",
    );
    let create = proto::CreateServerRequest {
        server: Some(proto::Server { name: "x".to_owned(), ..Default::default() }),
        request_id: String::new(),
    };
    refused(stranger.servers.create_server(create).await, Code::PermissionDenied, "no_permission");
    let get = proto::GetServerRequest { id: server.id.clone(), ..Default::default() };
    refused(stranger.servers.get_server(get).await, Code::NotFound, "not_found");
    assert!(
        stranger
            .servers
            .list_servers(proto::ListServersRequest::default())
            .await
            .unwrap()
            .into_inner()
            .servers
            .is_empty()
    );
    let update = proto::UpdateServerRequest {
        server: Some(server.clone()),
        update_mask: Some(mask(&["description"])),
        expected_revision: server.revision,
    };
    refused(stranger.servers.update_server(update).await, Code::NotFound, "not_found");
    let delete = proto::DeleteServerRequest { id: server.id.clone(), expected_revision: 0 };
    refused(stranger.servers.delete_server(delete).await, Code::NotFound, "not_found");
}

#[tokio::test]
async fn a_stranger_can_neither_see_nor_change_an_instance() {
    let (_fixture, made, mut stranger) = private_and_stranger().await;
    let instance = made.instance.unwrap();
    let create = proto::CreateInstanceRequest {
        instance: Some(proto::Instance { name: "x".to_owned(), ..instance.clone() }),
        request_id: String::new(),
    };
    refused(stranger.instances.create_instance(create).await, Code::NotFound, "not_found");
    let get = proto::GetInstanceRequest { id: instance.id.clone() };
    refused(stranger.instances.get_instance(get).await, Code::NotFound, "not_found");
    assert!(
        stranger
            .instances
            .list_instances(proto::ListInstancesRequest::default())
            .await
            .unwrap()
            .into_inner()
            .instances
            .is_empty()
    );
    let update = proto::UpdateInstanceRequest {
        instance: Some(instance.clone()),
        update_mask: Some(mask(&["description"])),
        expected_revision: instance.revision,
    };
    refused(stranger.instances.update_instance(update).await, Code::NotFound, "not_found");
    let delete = proto::DeleteInstanceRequest { id: instance.id, expected_revision: 0 };
    refused(stranger.instances.delete_instance(delete).await, Code::NotFound, "not_found");
}

#[tokio::test]
async fn a_stranger_can_neither_see_nor_change_an_endpoint() {
    let (_fixture, made, mut stranger) = private_and_stranger().await;
    let endpoint = made.endpoint.unwrap();
    let create = proto::CreateEndpointRequest {
        endpoint: Some(proto::Endpoint { name: "x".to_owned(), ..endpoint.clone() }),
        request_id: String::new(),
    };
    refused(stranger.endpoints.create_endpoint(create).await, Code::PermissionDenied, "no_permission");
    let get = proto::GetEndpointRequest { id: endpoint.id.clone(), ..Default::default() };
    refused(stranger.endpoints.get_endpoint(get).await, Code::NotFound, "not_found");
    assert!(
        stranger
            .endpoints
            .list_endpoints(proto::ListEndpointsRequest::default())
            .await
            .unwrap()
            .into_inner()
            .endpoints
            .is_empty()
    );
    let update = proto::UpdateEndpointRequest {
        endpoint: Some(endpoint.clone()),
        update_mask: Some(mask(&["description"])),
        expected_revision: endpoint.revision,
    };
    refused(stranger.endpoints.update_endpoint(update).await, Code::NotFound, "not_found");
    let delete = proto::DeleteEndpointRequest { id: endpoint.id, expected_revision: 0 };
    refused(stranger.endpoints.delete_endpoint(delete).await, Code::NotFound, "not_found");
}

#[tokio::test]
async fn a_stranger_can_neither_set_a_secret_nor_read_the_audit() {
    let (_fixture, _made, mut stranger) = private_and_stranger().await;
    let set = proto::SetSecretRequest { r#ref: "x".to_owned(), value: b"x".to_vec() };
    refused(stranger.secrets.set_secret(set).await, Code::PermissionDenied, "no_permission");
    refused(
        stranger.audit.list_audit(proto::ListAuditRequest::default()).await,
        Code::PermissionDenied,
        "no_permission",
    );
}

#[tokio::test]
async fn who_may_see_but_not_change_is_told_so() {
    let mut fixture = Fixture::new().await;
    let mut owner = fixture.publisher();
    let public = proto::RegisterServerRequest {
        visibility: proto::Visibility::Public.into(),
        ..registration("public")
    };
    let server = owner.servers.register_server(public).await.unwrap().into_inner().server.unwrap();
    let reader = fixture.person(&[], WRITE);
    let mut reader = fixture.clients(reader);
    let delete = proto::DeleteServerRequest { id: server.id, expected_revision: 0 };
    refused(reader.servers.delete_server(delete).await, Code::PermissionDenied, "no_permission");
}

#[tokio::test]
async fn an_attempt_at_what_somebody_else_hides_looks_like_nothing_and_is_recorded() {
    let (mut fixture, made, mut stranger) = private_and_stranger().await;
    let (server, instance, endpoint) = (made.server.unwrap(), made.instance.unwrap(), made.endpoint.unwrap());
    let get = proto::GetServerRequest { name: server.name, ..Default::default() };
    let hidden = stranger.servers.get_server(get).await.unwrap_err();
    let get = proto::GetServerRequest { name: "nothing".to_owned(), ..Default::default() };
    let missing = stranger.servers.get_server(get).await.unwrap_err();
    assert_eq!((hidden.code(), hidden.message()), (missing.code(), missing.message()));
    let delete = proto::DeleteServerRequest { id: server.id.clone(), expected_revision: 0 };
    refused(stranger.servers.delete_server(delete).await, Code::NotFound, "not_found");
    let get = proto::GetInstanceRequest { id: instance.id };
    refused(stranger.instances.get_instance(get).await, Code::NotFound, "not_found");
    let delete = proto::DeleteEndpointRequest { id: endpoint.id, expected_revision: 0 };
    refused(stranger.endpoints.delete_endpoint(delete).await, Code::NotFound, "not_found");
    let mut publisher = fixture.publisher();
    let steal = proto::Endpoint {
        name: "x".to_owned(),
        members: vec![proto::EndpointMember { server_id: server.id, ..Default::default() }],
        ..Default::default()
    };
    let steal = proto::CreateEndpointRequest { endpoint: Some(steal), request_id: String::new() };
    refused(publisher.endpoints.create_endpoint(steal).await, Code::NotFound, "unknown_member");

    let all = proto::ListAuditRequest { page_size: 500, ..Default::default() };
    let records = fixture.admin().audit.list_audit(all).await.unwrap().into_inner().records;
    let denied = records.iter().filter(|record| record.outcome == "denied");
    let denied: Vec<_> = denied.map(|record| (record.action.as_str(), record.reason.as_str())).collect();
    assert_eq!(
        denied,
        [
            ("server.read", "not_found"),
            ("server.delete", "not_found"),
            ("instance.read", "not_found"),
            ("endpoint.delete", "not_found"),
            ("endpoint.create", "unknown_member"),
        ]
    );
}
