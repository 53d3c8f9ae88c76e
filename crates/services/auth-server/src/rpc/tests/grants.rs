use std::sync::Arc;

use portico_proto_auth as proto;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use uuid::Uuid;

use super::fixture::*;
use crate::departed;

#[tokio::test]
async fn a_grant_takes_names_and_ids() {
    for fixture in Fixture::all().await {
        let mut root = fixture.administrator().await;
        let user = root.user("ada").await;
        let request = proto::CreateServiceAccountRequest { name: "robot".to_owned(), ..Default::default() };
        let account = root.accounts.create_service_account(request).await.unwrap().into_inner();
        let (ada, automaton) = (format!("user:{}", user.id), account.service_account.unwrap().id);
        let automaton = format!("service-account:{automaton}");
        let by_name = root.grant("ada", "agent", "time").await;
        assert_eq!((by_name.principal.as_str(), by_name.role_name.as_str()), (ada.as_str(), "agent"));
        // Ids, and so lists, are ordered by the millisecond.
        fixture.clock.advance(chrono::Duration::milliseconds(1));
        let by_id = root.grant(&ada, &by_name.role_id, "*").await;
        assert_eq!((by_id.principal.as_str(), by_id.endpoint.as_str()), (ada.as_str(), "*"));
        assert_eq!(root.grant("robot", "agent", "time").await.principal, automaton);
        let again = root.grants.create_grant(grant(&ada, "agent", "time")).await;
        refused(again, Code::AlreadyExists, "grant_exists");

        let request = proto::ListGrantsRequest { principal: "ada".to_owned(), ..Default::default() };
        let listed = root.grants.list_grants(request).await.unwrap().into_inner().grants;
        assert_eq!(listed, [by_name, by_id], "{}", fixture.label);
        let record = fixture.last_record("grant.create").await.unwrap();
        assert_eq!((record.target, record.name.as_str()), (automaton, "agent on time"));
        assert_eq!(record.principal, fixture.root.to_string());
    }
}

#[tokio::test]
async fn a_grant_refers_to_what_exists() {
    let fixture = Fixture::new().await;
    let mut root = fixture.administrator().await;
    root.user("ada").await;
    let nobody = format!("user:{}", Uuid::nil());
    for (principal, role, endpoint, reason) in [
        ("nobody", "agent", "time", "unknown_principal"),
        (nobody.as_str(), "agent", "time", "unknown_principal"),
        ("service:gateway", "agent", "time", "unknown_principal"),
        ("ada", "nothing", "time", "unknown_role"),
        ("ada", "agent", "nowhere", "unknown_endpoint"),
        ("ada", "agent", "../x", "unknown_endpoint"),
    ] {
        let outcome = root.grants.create_grant(grant(principal, role, endpoint)).await;
        refused(outcome, Code::NotFound, reason);
    }
    for (principal, role, endpoint) in [("", "agent", "*"), ("ada", "", "*"), ("ada", "agent", "")] {
        let outcome = root.grants.create_grant(grant(principal, role, endpoint)).await;
        refused(outcome, Code::InvalidArgument, "invalid_field");
    }
    let request = proto::CreateServiceAccountRequest { name: "ada".to_owned(), ..Default::default() };
    root.accounts.create_service_account(request).await.unwrap();
    let outcome = root.grants.create_grant(grant("ada", "agent", "*")).await;
    refused(outcome, Code::FailedPrecondition, "ambiguous_principal");
}

#[tokio::test]
async fn a_grant_and_its_end_replace_the_tokens() {
    for fixture in Fixture::all().await {
        let mut root = fixture.administrator().await;
        let (holder, _) = fixture.person("ada", &[]).await;
        let before = fixture.token(&holder, "admin").await;
        let grant = root.grant("ada", "auditor", "*").await;
        assert!(!fixture.counts(&before), "{}: the token lacks the role", fixture.label);
        let with = fixture.token(&holder, "admin").await;
        let mut auditor = fixture.clients(As::Token(with.clone()));
        auditor.audit.list_audit(proto::ListAuditRequest::default()).await.unwrap();
        let revoke = proto::DeleteGrantRequest { id: grant.id };
        root.grants.delete_grant(revoke.clone()).await.unwrap();
        assert!(!fixture.counts(&with), "{}", fixture.label);
        refused(root.grants.delete_grant(revoke).await, Code::NotFound, "not_found");
        let mut nobody = fixture.clients(As::Token(fixture.token(&holder, "admin").await));
        let denied = nobody.audit.list_audit(proto::ListAuditRequest::default()).await;
        refused(denied, Code::PermissionDenied, "no_permission");
    }
}

#[tokio::test]
async fn a5_grants_end_with_their_endpoint_and_give_nothing_on_the_next_one_of_its_name() {
    for fixture in Fixture::all().await {
        let mut root = fixture.administrator().await;
        let (holder, _) = fixture.person("ada", &[]).await;
        root.grant("ada", "agent", "time").await;
        let everywhere = root.grant("ada", "auditor", "*").await;
        let before = fixture.token(&holder, "mcp").await;
        assert!(fixture.counts(&before));

        let (gone, next) = (endpoint("time", 1), endpoint("time", 2));
        fixture.app.catalogue.apply(false, vec![next], &[gone.key]);
        let shutdown = CancellationToken::new();
        let task = departed::end_grants(Arc::clone(&fixture.app), shutdown.clone());
        let settled = async {
            while !fixture.app.catalogue.is_settled() {
                tokio::task::yield_now().await;
            }
            shutdown.cancel();
        };
        let (ended, ()) = tokio::join!(task, settled);
        ended.unwrap();
        assert!(!fixture.counts(&before), "{}: the token names the role", fixture.label);
        let listed = root.grants.list_grants(proto::ListGrantsRequest::default()).await.unwrap().into_inner();
        let of_ada: Vec<_> =
            listed.grants.into_iter().filter(|grant| grant.principal == everywhere.principal).collect();
        assert_eq!(of_ada, [everywhere], "{}", fixture.label);
        let record = fixture.last_record("grant.delete").await.unwrap();
        assert_eq!((record.name.as_str(), record.reason.as_str()), ("agent on time", "endpoint_deleted"));
        assert_eq!(record.principal, "service:auth-server");
        root.grant("ada", "agent", "time").await;
    }
}

#[tokio::test]
async fn a5_a_grant_whose_endpoint_went_unheard_of_ends_when_its_name_is_used_again() {
    for fixture in Fixture::all().await {
        let mut root = fixture.administrator().await;
        fixture.person("ada", &[]).await;
        let first = root.grant("ada", "agent", "time").await;
        departed::look_up(&fixture.app).await.unwrap();
        assert_eq!(fixture.app.stores.grants.of(&first.principal).await.unwrap().len(), 1);
        // A copy of everything in which the endpoint is another.
        fixture.app.catalogue.apply(true, vec![endpoint("time", 2)], &[]);
        let second = root.grant("ada", "agent", "time").await;
        assert_ne!(first.id, second.id, "{}: it takes the place of the other", fixture.label);
        fixture.app.catalogue.apply(true, vec![endpoint("time", 1)], &[]);
        departed::look_up(&fixture.app).await.unwrap();
        let held = fixture.app.stores.grants.of(&first.principal).await.unwrap();
        assert_eq!(held.len(), 1, "{}: this replica is behind", fixture.label);
        fixture.app.catalogue.apply(true, vec![endpoint("time", 3)], &[]);
        departed::look_up(&fixture.app).await.unwrap();
        assert!(fixture.app.stores.grants.of(&first.principal).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_grant_of_an_earlier_release_is_bound_to_its_endpoint() {
    for fixture in Fixture::all().await {
        let mut root = fixture.administrator().await;
        fixture.person("ada", &[]).await;
        let made = root.grant("ada", "agent", "time").await;
        portico_db::on_db!(&fixture.ground.db, pool => {
            sqlx::query("UPDATE grants SET endpoint_id = NULL").execute(pool).await.map(drop).unwrap();
        });
        departed::look_up(&fixture.app).await.unwrap();
        let held = fixture.app.stores.grants.of(&made.principal).await.unwrap();
        let first = endpoint("time", 1).key;
        assert_eq!(held[0].endpoint_id.map(|id| format!("endpoint/{id}")), Some(first), "{}", fixture.label);
    }
}
