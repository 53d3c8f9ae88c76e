//! The audit, and what must never be in it, in an answer or in a log.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex};

use portico_proto_auth as proto;
use tonic::Code;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::fixture::*;
use crate::store::audit::AuditFilter;

fn after(id: &str, page_token: &str) -> proto::ListAuditRequest {
    proto::ListAuditRequest {
        page_size: 2,
        after_id: id.to_owned(),
        page_token: page_token.to_owned(),
        ..Default::default()
    }
}

#[tokio::test]
async fn s2_39_every_change_leaves_one_record_of_who_did_what() {
    for fixture in Fixture::all().await {
        let mut root = fixture.administrator().await;
        let before = fixture.app.stores.audit.newest(&AuditFilter::default(), 1).await.unwrap().remove(0);
        let user = root.user("ada").await;
        root.role("reader", &["user.read"]).await;
        let grant = root.grant("ada", "reader", "*").await;
        root.grants.delete_grant(proto::DeleteGrantRequest { id: grant.id }).await.unwrap();
        let request = proto::SetPasswordRequest { id: user.id.clone(), password: String::new() };
        root.users.set_password(request).await.unwrap();
        root.keys.rotate_signing_keys(proto::RotateSigningKeysRequest::default()).await.unwrap();
        root.users.delete_user(proto::DeleteUserRequest { id: user.id.clone() }).await.unwrap();

        let rows = fixture.app.stores.audit.after(before.seq, &AuditFilter::default(), 100).await.unwrap();
        let actions: Vec<&str> = rows.iter().map(|row| row.action.as_str()).collect();
        let expected = [
            "user.create",
            "role.create",
            "grant.create",
            "grant.delete",
            "user.set_password",
            "key.rotate",
            "user.delete",
        ];
        assert_eq!(actions, expected, "{}", fixture.label);
        for row in &rows {
            assert_eq!(
                (row.principal.as_str(), row.outcome.as_str()),
                (&*fixture.root.to_string(), "allowed")
            );
            assert_eq!(row.client_id, "test-client");
            assert!(!row.correlation_id.is_empty() && !row.target.is_empty(), "{row:?}");
        }
        assert_eq!(rows[0].target, format!("user:{}", user.id));
    }
}

#[tokio::test]
async fn the_audit_is_read_newest_first_time_then_onwards() {
    for fixture in Fixture::all().await {
        let mut root = fixture.administrator().await;
        let newest = root.audit.list_audit(after("", "")).await.unwrap().into_inner();
        assert!(newest.records.len() == 2 && newest.next_page_token.is_empty());
        let last = newest.records[1].id.clone();
        for name in ["a", "b", "c"] {
            root.user(name).await;
        }
        let first = root.audit.list_audit(after(&last, "")).await.unwrap().into_inner();
        let second = root.audit.list_audit(after(&last, &first.next_page_token)).await.unwrap().into_inner();
        let names = first.records.iter().chain(&second.records).map(|record| record.name.as_str());
        assert_eq!(names.collect::<Vec<_>>(), ["a", "b", "c"], "{}", fixture.label);
        assert!(second.next_page_token.is_empty() && second.records[0].service == "auth-server");

        let filtered = proto::ListAuditRequest {
            principal: fixture.root.to_string(),
            action: "user.create".to_owned(),
            correlation_id: second.records[0].correlation_id.clone(),
            ..Default::default()
        };
        let found = root.audit.list_audit(filtered).await.unwrap().into_inner().records;
        assert_eq!(found, second.records, "{}", fixture.label);
        let unknown = after(&uuid::Uuid::nil().to_string(), "");
        refused(root.audit.list_audit(unknown).await, Code::InvalidArgument, "invalid_field");
    }
}

/// Keeps every event as text.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl Visit for Log {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        writeln!(self.0.lock().unwrap(), "{field}={value:?}").unwrap();
    }
}

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        attributes.record(&mut self.clone());
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut self.clone());
    }
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn secrets_are_in_the_one_answer_and_nowhere_else() {
    const CHOSEN: &str = "canary-chosen-password";
    let fixture = Fixture::new().await;
    let log = Log::default();
    let _capturing = tracing::subscriber::set_default(log.clone());
    let mut root = fixture.administrator().await;
    let request = proto::CreateUserRequest {
        username: "ada".to_owned(),
        password: CHOSEN.to_owned(),
        request_id: "r1".to_owned(),
        ..Default::default()
    };
    let ada = root.users.create_user(request.clone()).await.unwrap().into_inner();
    refused(
        root.users.create_user(proto::CreateUserRequest { username: "Ada".to_owned(), ..request }).await,
        Code::AlreadyExists,
        "request_id_reused",
    );
    let request = proto::CreateUserRequest {
        username: "bob".to_owned(),
        request_id: "r2".to_owned(),
        ..Default::default()
    };
    let bob = root.users.create_user(request).await.unwrap().into_inner().generated_password;
    let id = ada.user.unwrap().id;
    let request = proto::SetPasswordRequest { id, password: String::new() };
    let reset = root.users.set_password(request).await.unwrap().into_inner().generated_password;
    let request = proto::CreateServiceAccountRequest {
        name: "robot".to_owned(),
        request_id: "r3".to_owned(),
        ..Default::default()
    };
    let automaton = root.accounts.create_service_account(request).await.unwrap().into_inner();
    let request = proto::RotateServiceAccountSecretRequest { id: automaton.service_account.unwrap().id };
    let rotated =
        root.accounts.rotate_service_account_secret(request).await.unwrap().into_inner().client_secret;
    let request = proto::CreateClientRequest {
        redirect_uris: vec!["https://a.example/cb".to_owned()],
        request_id: "r4".to_owned(),
        ..Default::default()
    };
    let client = root.apps.create_client(request).await.unwrap().into_inner().client_secret;
    let secrets = [CHOSEN, &bob, &reset, &automaton.client_secret, &rotated, &client];
    assert!(secrets.iter().all(|secret| secret.len() >= 20));
    assert!(ada.generated_password.is_empty());

    let mut seen = String::new();
    let users = root.users.list_users(proto::ListUsersRequest::default()).await.unwrap();
    let accounts =
        root.accounts.list_service_accounts(proto::ListServiceAccountsRequest::default()).await.unwrap();
    let clients = root.apps.list_clients(proto::ListClientsRequest::default()).await.unwrap();
    let audit = proto::ListAuditRequest { page_size: 500, ..Default::default() };
    let audit = root.audit.list_audit(audit).await.unwrap();
    write!(seen, "{users:?}{accounts:?}{clients:?}{audit:?}").unwrap();
    for (scope, id) in
        [("CreateUser", "r1"), ("CreateUser", "r2"), ("CreateServiceAccount", "r3"), ("CreateClient", "r4")]
    {
        let scope = format!("{scope} {}", fixture.root);
        let kept =
            fixture.app.stores.idempotency.find(&scope, id, fixture.clock_now()).await.unwrap().unwrap();
        seen.push_str(&String::from_utf8_lossy(&kept.answer));
    }
    for row in fixture.app.trust.store().changes(None).await.unwrap().rows {
        seen.push_str(&String::from_utf8_lossy(&row.value));
    }
    let logged = log.0.lock().unwrap();
    assert!(logged.contains("request_id_reused"), "the log is captured: {logged}");
    for secret in secrets {
        assert!(!seen.contains(secret) && !logged.contains(secret), "{secret}");
    }
}
