use portico_proto_auth as proto;
use tonic::Code;

use super::fixture::*;

const POLICY: &str = "permit (principal in ?principal, action == Portico::Action::\"user.read\", resource);";

#[tokio::test]
async fn a_role_of_ones_own_allows_what_it_says() {
    for fixture in Fixture::all().await {
        let mut root = fixture.administrator().await;
        root.role("reader", &["user.read"]).await;
        let request = proto::CreateRoleRequest {
            name: "by-policy".to_owned(),
            policies: POLICY.to_owned(),
            ..Default::default()
        };
        root.roles.create_role(request).await.unwrap();
        for (person, role) in [("a", "reader"), ("b", "by-policy")] {
            let (_, mut clients) = fixture.person(person, &[role]).await;
            clients.users.list_users(proto::ListUsersRequest::default()).await.unwrap();
            let denied = clients.roles.list_roles(proto::ListRolesRequest::default()).await;
            refused(denied, Code::PermissionDenied, "no_permission");
        }
    }
}

#[tokio::test]
async fn wrong_policies_and_permissions_are_refused_with_what_is_wrong() {
    let fixture = Fixture::new().await;
    let mut root = fixture.administrator().await;
    let policies =
        "forbid (principal in ?principal, action, resource);\npermit (principal, action, resource);";
    let request = proto::CreateRoleRequest {
        name: "broken".to_owned(),
        policies: policies.to_owned(),
        ..Default::default()
    };
    let status = refused(root.roles.create_role(request).await, Code::InvalidArgument, "invalid_policies");
    assert!(status.message().contains("only grant") && status.message().contains("?principal"), "{status:?}");
    let status = refused(
        root.roles.create_role(role("broken", &["user.reed"])).await,
        Code::InvalidArgument,
        "invalid_policies",
    );
    assert!(status.message().contains("user.reed"));
    let endless = proto::CreateRoleRequest {
        name: "endless".to_owned(),
        policies: format!("{POLICY}{}", " ".repeat(64 * 1024)),
        ..Default::default()
    };
    refused(root.roles.create_role(endless).await, Code::InvalidArgument, "invalid_field");
    let both = proto::CreateRoleRequest { policies: POLICY.to_owned(), ..role("both", &["use"]) };
    refused(root.roles.create_role(both).await, Code::InvalidArgument, "invalid_field");
    refused(root.roles.create_role(role("none", &[])).await, Code::InvalidArgument, "invalid_field");
    refused(root.roles.create_role(role("No Slug", &["use"])).await, Code::InvalidArgument, "invalid_name");
    refused(root.roles.create_role(role("agent", &["use"])).await, Code::AlreadyExists, "name_taken");
}

#[tokio::test]
async fn roles_that_come_with_portico_stay_as_they_are() {
    let fixture = Fixture::new().await;
    let mut root = fixture.administrator().await;
    let roles = root.roles.list_roles(proto::ListRolesRequest::default()).await.unwrap().into_inner().roles;
    assert_eq!(roles.iter().filter(|role| role.builtin).count(), 4);
    for role in roles {
        let update = proto::UpdateRoleRequest {
            id: role.id.clone(),
            permissions: vec!["use".to_owned()],
            expected_revision: role.revision,
            ..Default::default()
        };
        refused(root.roles.update_role(update).await, Code::FailedPrecondition, "builtin_role");
        let delete = proto::DeleteRoleRequest { id: role.id };
        refused(root.roles.delete_role(delete).await, Code::FailedPrecondition, "builtin_role");
    }
}

#[tokio::test]
async fn a_changed_role_counts_at_once_and_its_holders_get_new_tokens() {
    for fixture in Fixture::all().await {
        let mut root = fixture.administrator().await;
        let role = root.role("reader", &["user.read"]).await;
        let (holder, mut clients) = fixture.person("holder", &["reader"]).await;
        let old = fixture.token(&holder, "admin").await;
        clients.users.list_users(proto::ListUsersRequest::default()).await.unwrap();

        let update = proto::UpdateRoleRequest {
            id: role.id.clone(),
            permissions: vec!["role.read".to_owned()],
            expected_revision: role.revision,
            ..Default::default()
        };
        let updated = root.roles.update_role(update.clone()).await.unwrap().into_inner().role.unwrap();
        assert_eq!(updated.permissions, ["role.read"]);
        assert!(!fixture.counts(&old), "{}", fixture.label);
        refused(root.roles.update_role(update).await, Code::Aborted, "stale_revision");
        let mut clients = fixture.clients(As::Token(fixture.token(&holder, "admin").await));
        clients.roles.list_roles(proto::ListRolesRequest::default()).await.unwrap();
        let denied = clients.users.list_users(proto::ListUsersRequest::default()).await;
        refused(denied, Code::PermissionDenied, "no_permission");

        let old = fixture.token(&holder, "admin").await;
        let switch = proto::UpdateRoleRequest {
            id: role.id.clone(),
            policies: Some(POLICY.to_owned()),
            replace_permissions: true,
            expected_revision: updated.revision,
            ..Default::default()
        };
        let switched = root.roles.update_role(switch).await.unwrap().into_inner().role.unwrap();
        assert!(switched.permissions.is_empty() && switched.policies == POLICY && !fixture.counts(&old));

        let old = fixture.token(&holder, "admin").await;
        root.roles.delete_role(proto::DeleteRoleRequest { id: role.id }).await.unwrap();
        assert!(!fixture.counts(&old));
        assert!(fixture.app.stores.grants.of(&holder.to_string()).await.unwrap().is_empty());
    }
}
