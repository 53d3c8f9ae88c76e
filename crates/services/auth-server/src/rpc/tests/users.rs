use chrono::Duration;
use portico_ids::{PrincipalId, SessionId, UserId};
use portico_proto_auth as proto;
use portico_transport::reason_of;
use secrecy::SecretString;
use tonic::Code;
use tonic_types::StatusExt as _;
use uuid::Uuid;

use super::fixture::*;
use crate::actor::{Actor, Deed};
use crate::domain::session::ABSOLUTE;
use crate::store::families::Family;
use crate::store::sessions::LoginSession;

fn create(username: &str) -> proto::CreateUserRequest {
    proto::CreateUserRequest { username: username.to_owned(), ..Default::default() }
}

fn disabled(user: &proto::User, disabled: bool) -> proto::UpdateUserRequest {
    proto::UpdateUserRequest {
        id: user.id.clone(),
        disabled: Some(disabled),
        expected_revision: user.revision,
        ..Default::default()
    }
}

fn id_of(user: &proto::User) -> UserId {
    user.id.parse().unwrap()
}

#[tokio::test]
async fn a_person_is_created_with_a_legible_password_that_is_answered_once() {
    for fixture in Fixture::all().await {
        let mut root = fixture.administrator().await;
        let request = proto::CreateUserRequest {
            display_name: "Ada Lovelace".to_owned(),
            email: "ada@example.com".to_owned(),
            request_id: "r1".to_owned(),
            ..create("ada")
        };
        let made = root.users.create_user(request.clone()).await.unwrap().into_inner();
        let (user, password) = (made.user.clone().unwrap(), made.generated_password.clone());
        assert!(password.len() >= 20 && !password.contains(['0', 'O', 'o', '1', 'l', 'I']), "{password}");
        let stored = fixture.app.stores.users.password_hash(id_of(&user)).await.unwrap();
        assert!(fixture.app.passwords.verify(stored, &SecretString::from(password)).await.unwrap());

        let again = root.users.create_user(request.clone()).await.unwrap().into_inner();
        assert_eq!(again, made, "{}: the repeated request gets the same answer", fixture.label);
        let other = proto::CreateUserRequest { email: String::new(), ..request };
        refused(root.users.create_user(other).await, Code::AlreadyExists, "request_id_reused");
        refused(root.users.create_user(create("ada")).await, Code::AlreadyExists, "name_taken");

        let by_name = proto::GetUserRequest { username: "ada".to_owned(), ..Default::default() };
        let read = root.users.get_user(by_name).await.unwrap().into_inner().user.unwrap();
        assert_eq!(read, user, "{}", fixture.label);
    }
}

#[tokio::test]
async fn of_simultaneous_repetitions_one_creates_and_all_get_its_answer() {
    for fixture in Fixture::all().await {
        let root = fixture.administrator().await;
        let mut racers = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let mut users = root.users.clone();
            let request = proto::CreateUserRequest { request_id: "race".to_owned(), ..create("racer") };
            racers.spawn(async move { users.create_user(request).await.unwrap().into_inner() });
        }
        let answers = racers.join_all().await;
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{}", fixture.label);
    }
}

#[tokio::test]
async fn names_addresses_and_passwords_are_checked() {
    let fixture = Fixture::new().await;
    let mut root = fixture.administrator().await;
    for name in ["", "Ada", "a b", "../a"] {
        refused(root.users.create_user(create(name)).await, Code::InvalidArgument, "invalid_name");
    }
    let request = proto::CreateUserRequest { email: "nobody".to_owned(), ..create("ada") };
    refused(root.users.create_user(request).await, Code::InvalidArgument, "invalid_name");
    let request = proto::CreateUserRequest { password: "short".to_owned(), ..create("ada") };
    refused(root.users.create_user(request).await, Code::InvalidArgument, "invalid_password");
    let request = proto::CreateUserRequest { request_id: "a b".to_owned(), ..create("ada") };
    refused(root.users.create_user(request).await, Code::InvalidArgument, "invalid_field");
    let request = proto::GetUserRequest { id: Uuid::nil().to_string(), ..Default::default() };
    refused(root.users.get_user(request).await, Code::NotFound, "not_found");
}

#[tokio::test]
async fn a_stale_revision_is_refused_with_the_current_one() {
    for fixture in Fixture::all().await {
        let mut root = fixture.administrator().await;
        let user = root.user("ada").await;
        let request = proto::UpdateUserRequest {
            id: user.id.clone(),
            display_name: Some("Ada".to_owned()),
            expected_revision: user.revision,
            ..Default::default()
        };
        let updated = root.users.update_user(request.clone()).await.unwrap().into_inner().user.unwrap();
        assert_eq!((updated.display_name.as_str(), updated.email.as_str()), ("Ada", ""));
        let status = refused(root.users.update_user(request.clone()).await, Code::Aborted, "stale_revision");
        let info = status.get_details_error_info().unwrap();
        assert_eq!(info.metadata["current_revision"], updated.revision.to_string(), "{}", fixture.label);
        let blind = proto::UpdateUserRequest { expected_revision: 0, ..request };
        let outcome = root.users.update_user(blind).await;
        refused(outcome, Code::InvalidArgument, "expected_revision_missing");
    }
}

#[tokio::test]
async fn disabling_somebody_ends_the_tokens_and_enabling_does_not_bring_them_back() {
    for fixture in Fixture::all().await {
        let mut root = fixture.administrator().await;
        let user = root.user("ada").await;
        let subject = PrincipalId::User(id_of(&user));
        let before = fixture.token(&subject, "admin").await;
        assert!(fixture.counts(&before));
        let request = disabled(&user, true);
        let user = root.users.update_user(request).await.unwrap().into_inner().user.unwrap();
        assert!(user.disabled && !fixture.counts(&before), "{}", fixture.label);
        let record = fixture.last_record("user.update").await.unwrap();
        assert_eq!((record.outcome.as_str(), record.reason.as_str()), ("allowed", "disabled"));
        root.users.update_user(disabled(&user, false)).await.unwrap();
        assert!(!fixture.counts(&before));
        assert!(fixture.counts(&fixture.token(&subject, "admin").await));
    }
}

#[tokio::test]
async fn changes_within_one_second_revoke_what_was_made_in_between() {
    let fixture = Fixture::new().await;
    let mut root = fixture.administrator().await;
    let user = root.user("ada").await;
    let subject = PrincipalId::User(id_of(&user));
    for _ in 0..3 {
        let token = fixture.token(&subject, "admin").await;
        assert!(fixture.counts(&token));
        let request = proto::SetPasswordRequest { id: user.id.clone(), password: String::new() };
        root.users.set_password(request).await.unwrap();
        assert!(!fixture.counts(&token));
    }
}

#[tokio::test]
async fn the_last_administrator_stays() {
    for fixture in Fixture::all().await {
        let mut root = fixture.administrator().await;
        let by_name = proto::GetUserRequest { username: ROOT.to_owned(), ..Default::default() };
        let me = root.users.get_user(by_name).await.unwrap().into_inner().user.unwrap();
        let (code, reason) = (Code::FailedPrecondition, "last_administrator");
        let delete = proto::DeleteUserRequest { id: me.id.clone() };
        refused(root.users.delete_user(delete.clone()).await, code, reason);
        refused(root.users.update_user(disabled(&me, true)).await, code, reason);
        let request = proto::ListGrantsRequest { principal: ROOT.to_owned(), ..Default::default() };
        let mine = root.grants.list_grants(request).await.unwrap().into_inner().grants.remove(0);
        let revoke = proto::DeleteGrantRequest { id: mine.id };
        refused(root.grants.delete_grant(revoke.clone()).await, code, reason);
        let record = fixture.last_record("grant.delete").await.unwrap();
        assert_eq!(
            (record.outcome.as_str(), record.reason.as_str()),
            ("denied", reason),
            "{}",
            fixture.label
        );

        // Somebody who cannot sign in does not count, nor does somebody who administers one endpoint only.
        let other = root.user("other").await;
        root.grant("other", "administrator", "time").await;
        refused(root.users.delete_user(delete.clone()).await, code, reason);
        root.grant("other", "administrator", "*").await;
        let other = root.users.update_user(disabled(&other, true)).await.unwrap().into_inner().user.unwrap();
        refused(root.users.delete_user(delete.clone()).await, code, reason);
        root.users.update_user(disabled(&other, false)).await.unwrap();
        root.users.delete_user(delete).await.unwrap();
    }
}

#[tokio::test]
async fn deleting_somebody_ends_sessions_families_grants_and_tokens() {
    for fixture in Fixture::all().await {
        let mut root = fixture.administrator().await;
        let user = root.user("ada").await;
        root.grant("ada", "agent", "time").await;
        let (id, subject) = (id_of(&user), PrincipalId::User(id_of(&user)));
        let token = fixture.token(&subject, "admin").await;
        let (session, family) = sign_in(&fixture, id).await;
        root.users.delete_user(proto::DeleteUserRequest { id: user.id.clone() }).await.unwrap();
        let stores = &fixture.app.stores;
        assert!(stores.sessions.find(&session).await.unwrap().is_none(), "{}", fixture.label);
        assert!(stores.families.get(family).await.unwrap().is_none());
        assert!(stores.grants.of(&subject.to_string()).await.unwrap().is_empty());
        assert!(!fixture.counts(&token));
        let gone = root.users.delete_user(proto::DeleteUserRequest { id: user.id }).await;
        refused(gone, Code::NotFound, "not_found");
    }
}

/// A browser session and a refresh family of somebody; answers the session's hash and the family's id.
async fn sign_in(fixture: &Fixture, user: UserId) -> (Vec<u8>, Uuid) {
    let (app, now) = (&fixture.app, fixture.app.clock.now());
    let entry = app.entry(&Actor::service(), Deed::done("sign_in", "", ""));
    let session = LoginSession {
        id: SessionId::generate(&*app.clock, &*app.rng),
        token_hash: vec![1; 32],
        user_id: user,
        user_epoch: 1,
        user_agent: String::new(),
        address: String::new(),
        authenticated_at: now,
        last_seen_at: now,
        expires_at: now + ABSOLUTE,
    };
    app.stores.sessions.create(&session, &entry).await.unwrap();
    let family = Family {
        id: Uuid::from_u128(7),
        client_id: "portico-cli".to_owned(),
        user_id: user,
        user_epoch: 1,
        session_id: session.id,
        issuer: String::new(),
        resource: String::new(),
        scopes: "mcp".parse().unwrap(),
        offline: false,
        authenticated_at: now,
        created_at: now,
        last_used_at: now,
        expires_at: now + ABSOLUTE,
        revoked_at: None,
    };
    let entry = app.entry(&Actor::service(), Deed::done("token.issue", "", ""));
    app.stores.families.create(&family, Some(&[2; 32]), &entry).await.unwrap();
    (session.token_hash, family.id)
}

#[tokio::test]
async fn lists_are_paged_with_tokens_that_belong_to_one_caller_and_list() {
    for fixture in Fixture::all().await {
        let mut root = fixture.administrator().await;
        for name in ["a", "b", "c"] {
            // Ids, and so lists, are ordered by the millisecond.
            fixture.clock.advance(Duration::milliseconds(1));
            root.user(name).await;
        }
        let (mut names, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = proto::ListUsersRequest { page_size: 2, page_token };
            let page = root.users.list_users(request).await.unwrap().into_inner();
            assert!(page.users.len() <= 2);
            names.extend(page.users.into_iter().map(|user| user.username));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(names, [ROOT, "a", "b", "c"], "{}", fixture.label);

        let request = proto::ListUsersRequest { page_size: 1, ..Default::default() };
        let page_token = root.users.list_users(request).await.unwrap().into_inner().next_page_token;
        let foreign = proto::ListRolesRequest { page_size: 1, page_token: page_token.clone() };
        refused(root.roles.list_roles(foreign).await, Code::InvalidArgument, "invalid_page_token");
        let (_, mut other) = fixture.person("other", &["administrator"]).await;
        let request = proto::ListUsersRequest { page_size: 1, page_token };
        refused(other.users.list_users(request).await, Code::InvalidArgument, "invalid_page_token");
        let request = proto::ListUsersRequest { page_size: -1, ..Default::default() };
        let status = other.users.list_users(request).await.unwrap_err();
        assert_eq!(reason_of(&status).as_deref(), Some("invalid_field"));
    }
}
