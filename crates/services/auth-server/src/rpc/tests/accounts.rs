//! Service accounts, clients and signing keys.

use chrono::Duration;
use portico_ids::{PrincipalId, ServiceAccountId};
use portico_proto_auth as proto;
use tonic::Code;

use super::fixture::*;
use crate::app::secret_hash;

async fn stored_hash(fixture: &Fixture, id: &str) -> Option<Vec<u8>> {
    let id: ServiceAccountId = id.parse().unwrap();
    fixture.app.stores.service_accounts.get(id).await.unwrap().map(|account| account.secret_hash)
}

#[tokio::test]
async fn a_service_account_lives_through_its_secrets() {
    for fixture in Fixture::all().await {
        let mut root = fixture.administrator().await;
        let request = proto::CreateServiceAccountRequest {
            name: "robot".to_owned(),
            request_id: "r1".to_owned(),
            ..Default::default()
        };
        let made = root.accounts.create_service_account(request.clone()).await.unwrap().into_inner();
        let account = made.service_account.clone().unwrap();
        assert_eq!(account.client_id, account.id);
        assert_eq!(stored_hash(&fixture, &account.id).await, Some(secret_hash(&made.client_secret)));
        let again = root.accounts.create_service_account(request).await.unwrap().into_inner();
        assert_eq!(again, made, "{}", fixture.label);

        let subject = PrincipalId::ServiceAccount(account.id.parse().unwrap());
        let token = fixture.token(&subject, "admin").await;
        let rotate = proto::RotateServiceAccountSecretRequest { id: account.id.clone() };
        let rotated = root.accounts.rotate_service_account_secret(rotate).await.unwrap().into_inner();
        assert_ne!(rotated.client_secret, made.client_secret);
        assert_eq!(stored_hash(&fixture, &account.id).await, Some(secret_hash(&rotated.client_secret)));
        assert!(!fixture.counts(&token), "{}", fixture.label);

        let listed = root.accounts.list_service_accounts(proto::ListServiceAccountsRequest::default()).await;
        let account = listed.unwrap().into_inner().service_accounts.remove(0);
        let token = fixture.token(&subject, "admin").await;
        let disable = proto::UpdateServiceAccountRequest {
            id: account.id.clone(),
            disabled: Some(true),
            expected_revision: account.revision,
            ..Default::default()
        };
        let disabled = root.accounts.update_service_account(disable.clone()).await.unwrap().into_inner();
        assert!(disabled.service_account.unwrap().disabled && !fixture.counts(&token));
        refused(root.accounts.update_service_account(disable).await, Code::Aborted, "stale_revision");

        let token = fixture.token(&subject, "admin").await;
        let delete = proto::DeleteServiceAccountRequest { id: account.id.clone() };
        root.accounts.delete_service_account(delete.clone()).await.unwrap();
        assert!(stored_hash(&fixture, &account.id).await.is_none() && !fixture.counts(&token));
        refused(root.accounts.delete_service_account(delete).await, Code::NotFound, "not_found");
    }
}

fn client(method: &str, uri: &str) -> proto::CreateClientRequest {
    proto::CreateClientRequest {
        client_name: "Editor".to_owned(),
        redirect_uris: vec![uri.to_owned()],
        token_endpoint_auth_method: method.to_owned(),
        request_id: String::new(),
    }
}

#[tokio::test]
async fn clients_are_registered_listed_and_deleted() {
    for fixture in Fixture::all().await {
        let mut root = fixture.administrator().await;
        let request = client("client_secret_basic", "https://a.example/cb");
        let made = root.apps.create_client(request).await.unwrap().into_inner();
        let with_secret = made.client.unwrap();
        let stored = fixture.app.stores.clients.get(&with_secret.client_id).await.unwrap().unwrap();
        assert_eq!(stored.secret_hash, Some(secret_hash(&made.client_secret)));
        let public =
            root.apps.create_client(client("none", "http://127.0.0.1/cb")).await.unwrap().into_inner();
        assert!(public.client_secret.is_empty());

        let mut ids = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = proto::ListClientsRequest { page_size: 1, page_token };
            let page = root.apps.list_clients(request).await.unwrap().into_inner();
            ids.extend(page.clients.into_iter().map(|client| (client.client_id, client.registration)));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(ids.len(), 3, "{}", fixture.label);
        assert!(ids.iter().all(|(_, registration)| registration == "static"));

        let delete = proto::DeleteClientRequest { client_id: with_secret.client_id };
        root.apps.delete_client(delete.clone()).await.unwrap();
        refused(root.apps.delete_client(delete).await, Code::NotFound, "not_found");
        let builtin = proto::DeleteClientRequest { client_id: "portico-cli".to_owned() };
        refused(root.apps.delete_client(builtin).await, Code::FailedPrecondition, "builtin_client");
    }
}

#[tokio::test]
async fn clients_with_unusable_metadata_are_refused() {
    let fixture = Fixture::new().await;
    let mut root = fixture.administrator().await;
    let plain = client("none", "http://a.example/cb");
    refused(root.apps.create_client(plain).await, Code::InvalidArgument, "invalid_redirect_uri");
    let unknown = client("password", "https://a.example/cb");
    refused(root.apps.create_client(unknown).await, Code::InvalidArgument, "invalid_client_metadata");
}

#[tokio::test]
async fn a_rotated_key_signs_later_and_the_old_one_stays_published() {
    for fixture in Fixture::all().await {
        let mut root = fixture.administrator().await;
        let list = proto::ListSigningKeysRequest {};
        let before = root.keys.list_signing_keys(list).await.unwrap().into_inner().keys;
        assert_eq!((before.len(), before[0].active), (1, true));
        let rotated =
            root.keys.rotate_signing_keys(proto::RotateSigningKeysRequest::default()).await.unwrap();
        let new = rotated.into_inner().key.unwrap();
        assert!(!new.active, "{}: verifiers may not know it yet", fixture.label);
        let record = fixture.last_record("key.rotate").await.unwrap();
        assert_eq!((record.target, record.principal), (new.kid.clone(), fixture.root.to_string()));

        fixture.clock.advance(Duration::seconds(31));
        fixture.app.trust.refresh().await.unwrap();
        let keys = root.keys.list_signing_keys(list).await.unwrap().into_inner().keys;
        let active: Vec<_> = keys.iter().filter(|key| key.active).map(|key| key.kid.as_str()).collect();
        assert_eq!((keys.len(), active), (2, vec![new.kid.as_str()]), "{}", fixture.label);
    }
}

#[tokio::test]
async fn s0_29_a_withdrawn_key_is_gone_at_once_and_the_record_names_it() {
    for fixture in Fixture::all().await {
        let mut root = fixture.administrator().await;
        // One that was rotated before may be the one that is known.
        root.keys.rotate_signing_keys(proto::RotateSigningKeysRequest::default()).await.unwrap();
        let list = proto::ListSigningKeysRequest {};
        let before = root.keys.list_signing_keys(list).await.unwrap().into_inner().keys;
        let before: Vec<String> = before.into_iter().map(|key| key.kid).collect();
        let old = fixture.token(&fixture.root, "admin").await;
        assert!(fixture.counts(&old));
        let withdraw = proto::RotateSigningKeysRequest { withdraw: true };
        let answer = root.keys.rotate_signing_keys(withdraw).await.unwrap().into_inner();
        let new = answer.key.unwrap();
        assert!(new.active && new.retires_at.is_none(), "{}: it signs at once", fixture.label);
        assert_eq!(answer.withdrawn, before, "{}", fixture.label);
        assert!(!fixture.counts(&old), "{}", fixture.label);
        refused(root.keys.list_signing_keys(list).await, Code::Unauthenticated, "token_key_unknown");

        let mut root = fixture.administrator().await;
        let keys = root.keys.list_signing_keys(list).await.unwrap().into_inner().keys;
        assert_eq!(keys, std::slice::from_ref(&new), "{}", fixture.label);
        let record = fixture.last_record("key.withdraw").await.unwrap();
        assert_eq!(record.target, before.join(" "), "{}", fixture.label);
        assert_eq!(record.name, format!("{} signs now", new.kid), "{}", fixture.label);
        assert_eq!(record.principal, fixture.root.to_string(), "{}", fixture.label);
    }
}

#[tokio::test]
async fn who_may_rotate_keys_may_not_therefore_withdraw_them() {
    let fixture = Fixture::new().await;
    let mut root = fixture.administrator().await;
    root.role("rotator", &["key.create", "key.read"]).await;
    let (_, mut rotator) = fixture.person("rita", &["rotator"]).await;
    let withdraw = proto::RotateSigningKeysRequest { withdraw: true };
    refused(rotator.keys.rotate_signing_keys(withdraw).await, Code::PermissionDenied, "no_permission");
    let record = fixture.last_record("key.withdraw").await.unwrap();
    assert_eq!((record.outcome.as_str(), record.reason.as_str()), ("denied", "no_permission"));
    rotator.keys.rotate_signing_keys(proto::RotateSigningKeysRequest::default()).await.unwrap();
}

#[tokio::test]
async fn a_key_that_cannot_be_opened_keeps_none_that_was_withdrawn() {
    let fixture = Fixture::new().await;
    let mut root = fixture.administrator().await;
    let other = fixture.replica().await;
    let withdraw = proto::RotateSigningKeysRequest { withdraw: true };
    root.keys.rotate_signing_keys(withdraw).await.unwrap();
    fixture.spoil_signing_keys().await;
    let app = other.server.app();
    assert!(app.keys.active().is_some(), "it has not looked yet");
    app.keys.reload().await.unwrap_err();
    assert!(app.keys.active().is_none() && app.keys.jwks().keys.is_empty());
    other.stop().await;
}

#[tokio::test]
async fn keys_are_not_rotated_faster_than_verifiers_can_follow() {
    let fixture = Fixture::new().await;
    let mut root = fixture.administrator().await;
    for _ in 1..32 {
        root.keys.rotate_signing_keys(proto::RotateSigningKeysRequest::default()).await.unwrap();
    }
    let outcome = root.keys.rotate_signing_keys(proto::RotateSigningKeysRequest::default()).await;
    refused(outcome, Code::FailedPrecondition, "too_many_keys");
}
