//! Every method of the package refuses whoever may not call it. The list comes from the descriptors, so a method
//! that is added without a rule fails here.

use portico_proto_auth as proto;
use portico_transport::{PeerIdentity, reason_of};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::{Code, Status};
use tower::ServiceExt as _;

use super::fixture::*;

const INTERNAL: &str = "TrustService";

fn methods() -> Vec<(String, String)> {
    let files = FileDescriptorSet::decode(proto::FILE_DESCRIPTOR_SET).unwrap().file;
    let services =
        files.iter().filter(|file| file.package() == "portico.auth.v1").flat_map(|file| &file.service);
    let methods: Vec<_> = services
        .flat_map(|service| service.method.iter().map(|m| (service.name().to_owned(), m.name().to_owned())))
        .collect();
    assert_eq!(methods.len(), 28, "a method came or went: look whether its denial is tested");
    methods
}

/// Calls a method with an empty message.
async fn call(fixture: &Fixture, (service, method): &(String, String), caller: &As) -> Status {
    let mut request = http::Request::post(format!("/portico.auth.v1.{service}/{method}"))
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
fn assert_refused(status: &Status, method: &(String, String), reason: &str) {
    let expected = (Code::PermissionDenied, Some(reason));
    assert_eq!((status.code(), reason_of(status).as_deref()), expected, "{method:?}: {status:?}");
}

#[tokio::test]
async fn no_method_answers_without_a_caller() {
    let fixture = Fixture::new().await;
    for method in &methods() {
        assert_eq!(call(&fixture, method, &As::Nobody).await.code(), Code::Unauthenticated, "{method:?}");
        let forged = As::Token("eyJhbGciOiJub25lIn0.e30.".to_owned());
        assert_eq!(call(&fixture, method, &forged).await.code(), Code::Unauthenticated, "{method:?}");
    }
}

#[tokio::test]
async fn management_methods_need_a_principal_with_the_scope_and_a_role() {
    let fixture = Fixture::new().await;
    let unscoped = As::Token(fixture.token(&fixture.root, "registry:write").await);
    let (agent, _) = fixture.person("agent", &["agent", "publisher"]).await;
    let powerless = As::Token(fixture.token(&agent, "admin").await);
    for method in methods().iter().filter(|(service, _)| service != INTERNAL) {
        assert_refused(&call(&fixture, method, &unscoped).await, method, "insufficient_scope");
        assert_refused(&call(&fixture, method, &powerless).await, method, "no_permission");
        for service in ["gateway", "registry"] {
            assert_refused(&call(&fixture, method, &As::Service(service)).await, method, "peer_not_allowed");
        }
    }
}

#[tokio::test]
async fn the_trust_is_told_to_certain_services_only() {
    let fixture = Fixture::new().await;
    let administrator = As::Token(fixture.token(&fixture.root, "admin").await);
    let method = (INTERNAL.to_owned(), "WatchTrust".to_owned());
    assert_refused(&call(&fixture, &method, &administrator).await, &method, "internal_only");
    for service in ["demo-server", "worker"] {
        assert_refused(&call(&fixture, &method, &As::Service(service)).await, &method, "peer_not_allowed");
    }
    for service in ["gateway", "registry"] {
        assert_eq!(call(&fixture, &method, &As::Service(service)).await.code(), Code::Ok);
    }
    fixture.stop().await;
}

#[tokio::test]
async fn s2_39_a_denial_is_audited_with_who_tried_what() {
    for fixture in Fixture::all().await {
        let (agent, mut clients) = fixture.person("agent", &["agent"]).await;
        let request = proto::DeleteUserRequest { id: "somebody".to_owned() };
        refused(clients.users.delete_user(request).await, Code::PermissionDenied, "no_permission");
        let record = fixture.last_record("user.delete").await.unwrap();
        assert_eq!(record.principal, agent.to_string(), "{}", fixture.label);
        assert_eq!((record.outcome.as_str(), record.reason.as_str()), ("denied", "no_permission"));
        assert_eq!((record.target.as_str(), record.client_id.as_str()), ("somebody", "test-client"));
        assert!(!record.correlation_id.is_empty());
    }
}

#[tokio::test]
async fn an_auditor_reads_the_audit_and_nothing_else() {
    let fixture = Fixture::new().await;
    let (_, mut auditor) = fixture.person("auditor", &["auditor"]).await;
    auditor.audit.list_audit(proto::ListAuditRequest::default()).await.unwrap();
    let users = auditor.users.list_users(proto::ListUsersRequest::default()).await;
    refused(users, Code::PermissionDenied, "no_permission");
}

#[tokio::test]
async fn nobody_hands_out_or_takes_over_more_than_it_has() {
    let fixture = Fixture::new().await;
    let mut root = fixture.administrator().await;
    let permissions = ["user.*", "grant.*", "role.*", "service_account.*"];
    root.role("helpdesk", &permissions).await;
    let (me, mut helper) = fixture.person("helper", &["helpdesk"]).await;
    let automaton = root
        .accounts
        .create_service_account(proto::CreateServiceAccountRequest {
            name: "robot".to_owned(),
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner()
        .service_account
        .unwrap();
    root.grant("robot", "administrator", "*").await;

    let (code, reason) = (Code::PermissionDenied, "escalation");
    let me = me.to_string();
    refused(helper.grants.create_grant(grant(&me, "administrator", "*")).await, code, reason);
    refused(helper.grants.create_grant(grant(&me, "auditor", "*")).await, code, reason);
    refused(helper.roles.create_role(role("all", &["*"])).await, code, reason);
    refused(helper.roles.create_role(role("keys", &["use", "key.create"])).await, code, reason);
    let policies = "permit (principal in ?principal, action, resource);".to_owned();
    let request = proto::CreateRoleRequest { name: "sly".to_owned(), policies, ..Default::default() };
    refused(helper.roles.create_role(request).await, code, reason);
    let root_id = fixture.root.to_string().replace("user:", "");
    let request =
        proto::SetPasswordRequest { id: root_id.clone(), password: "stolen by helpdesk".to_owned() };
    refused(helper.users.set_password(request).await, code, reason);
    refused(helper.users.delete_user(proto::DeleteUserRequest { id: root_id }).await, code, reason);
    let request = proto::RotateServiceAccountSecretRequest { id: automaton.id };
    refused(helper.accounts.rotate_service_account_secret(request).await, code, reason);

    let peer = helper.user("peer").await;
    helper.grant("peer", "helpdesk", "*").await;
    helper.grant("peer", "agent", "time").await;
    helper.role("support", &["use", "user.read"]).await;
    let request = proto::SetPasswordRequest { id: peer.id, password: String::new() };
    assert!(!helper.users.set_password(request).await.unwrap().into_inner().generated_password.is_empty());
}
