//! The contract of the stores, on every database.

use chrono::{DateTime, Duration, Utc};
use portico_clock::{Clock as _, SystemClock};
use portico_db::testing::databases;
use portico_db::{Db, StoreError};
use portico_ids::{GrantId, RoleId, ServiceAccountId, SessionId, UserId};
use portico_oauth_types::{RegistrationRequest, Scope, ScopeSet};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::Stores;
use super::audit::AuditFilter;
use super::change::{AuditEntry, Change, TrustEntry, TrustWrite};
use super::codes::{Code, Redeemed};
use super::consents::Consent;
use super::families::{Family, Rotation};
use super::grants::Grant;
use super::keys::KeyRow;
use super::roles::Role;
use super::service_accounts::ServiceAccount;
use super::sessions::LoginSession;
use super::users::{NewUser, User};
use crate::domain::client::{Client, Registration, register};
use crate::schema;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(1_800_000_000_123_456).unwrap() + Duration::seconds(seconds)
}

fn audit(id: u128) -> AuditEntry {
    AuditEntry { id: Uuid::from_u128(id), occurred_at: at(0), action: "test".into(), ..AuditEntry::default() }
}

fn change(id: u128) -> Change {
    Change::new(audit(id))
}

fn trust(key: &str, expires_at: Option<DateTime<Utc>>) -> TrustWrite {
    let value = key.as_bytes().to_vec();
    TrustWrite::Put(TrustEntry { key: key.into(), value, not_before: None, expires_at })
}

/// One person, one client: what most rows hang on.
async fn people(stores: &Stores) -> (User, Client) {
    let new = NewUser {
        id: UserId::from(Uuid::from_u128(1)),
        username: "ada".into(),
        display_name: "Ada".into(),
        email: "ada@example.com".into(),
        password_hash: "$argon2id$x".into(),
    };
    let user = stores.users.create(&new, &change(1_001)).await.unwrap();
    let client = Client {
        client_id: "client".into(),
        metadata: register(RegistrationRequest {
            redirect_uris: Some(vec!["https://client.example/callback".into()]),
            ..RegistrationRequest::default()
        })
        .unwrap(),
        secret_hash: Some(vec![9; 32]),
        registration: Registration::Dynamic,
        created_at: at(0),
        last_used_at: None,
    };
    stores.clients.register(&client, &audit(1_002)).await.unwrap();
    (user, client)
}

fn scopes() -> ScopeSet {
    [Scope::Mcp, Scope::Openid].into_iter().collect()
}

fn family(id: u128, user: &User) -> Family {
    Family {
        id: Uuid::from_u128(id),
        client_id: "client".into(),
        user_id: user.id,
        user_epoch: user.epoch,
        session_id: SessionId::from(Uuid::from_u128(7)),
        issuer: String::new(),
        resource: "https://portico.example/mcp".into(),
        scopes: scopes(),
        offline: true,
        authenticated_at: at(-5),
        created_at: at(0),
        last_used_at: at(0),
        expires_at: at(1_000),
        revoked_at: None,
    }
}

fn code(user: &User) -> Code {
    Code {
        code_hash: vec![1; 32],
        family_id: Uuid::from_u128(50),
        client_id: "client".into(),
        user_id: user.id,
        user_epoch: 1,
        session_id: SessionId::from(Uuid::from_u128(7)),
        redirect_uri: "https://client.example/callback".into(),
        code_challenge: "c".into(),
        issuer: "open".into(),
        resource: "https://portico.example/open/mcp".into(),
        scopes: scopes(),
        nonce: Some("n".into()),
        authenticated_at: at(-5),
        expires_at: at(60),
        redeemed_at: None,
    }
}

/// Runs a part of the contract on every database, fresh each time.
async fn on_every_database<F: Future<Output = ()>>(part: impl Fn(Stores, Db) -> F) {
    for (label, db, _guard) in databases(schema()).await {
        eprintln!("on {label}");
        part(Stores::new(&db), db).await;
    }
}

#[tokio::test]
async fn people_are_kept_found_and_changed_with_their_revision() {
    on_every_database(|stores, _| async move {
        let (user, _) = people(&stores).await;
        let users = &stores.users;
        assert_eq!(users.get(user.id).await.unwrap().as_ref(), Some(&user));
        assert_eq!(users.find("ada").await.unwrap().as_ref(), Some(&user));
        assert_eq!(users.find("eve").await.unwrap(), None);
        assert_eq!(users.password_hash(user.id).await.unwrap().as_deref(), Some("$argon2id$x"));
        let twin = NewUser {
            id: UserId::from(Uuid::from_u128(2)),
            username: "ada".into(),
            display_name: String::new(),
            email: String::new(),
            password_hash: String::new(),
        };
        assert!(matches!(users.create(&twin, &change(2)).await, Err(StoreError::AlreadyExists)));
        users.set_password(user.id, "$argon2id$y", &change(3)).await.unwrap();
        let changed = users.get(user.id).await.unwrap().unwrap();
        assert_eq!((changed.epoch, changed.revision > user.revision), (2, true));
        let nobody = UserId::from(Uuid::from_u128(99));
        assert!(matches!(users.set_password(nobody, "x", &change(4)).await, Err(StoreError::NotFound)));
        assert_eq!(users.list(None, 10).await.unwrap().len(), 1);
        assert_eq!(users.list(Some(user.id.as_uuid()), 10).await.unwrap().len(), 0);
    })
    .await;
}

#[tokio::test]
async fn roles_and_grants_hang_together() {
    on_every_database(|stores, _| async move {
        let role = Role {
            id: RoleId::from(Uuid::from_u128(10)),
            name: "tester".into(),
            description: "d".into(),
            policies: "p".into(),
            permissions: vec!["use".into()],
            builtin: false,
            revision: 0,
        };
        let role = stores.roles.create(&role, &change(1)).await.unwrap();
        let changed =
            stores.roles.update(&Role { description: "e".into(), ..role.clone() }, &change(2)).await;
        assert_eq!(changed.unwrap().description, "e");
        let stale = stores.roles.update(&role, &change(3)).await;
        assert!(matches!(stale, Err(StoreError::Stale { current }) if current > role.revision));
        let grant = Grant {
            id: GrantId::from(Uuid::from_u128(20)),
            principal: "user:x".into(),
            role_id: role.id,
            role_name: "tester".into(),
            endpoint: "*".into(),
            endpoint_id: None,
            created_at: at(0),
        };
        stores.grants.create(&grant, &change(4)).await.unwrap();
        let twin = Grant { id: GrantId::from(Uuid::from_u128(21)), ..grant.clone() };
        assert!(matches!(stores.grants.create(&twin, &change(5)).await, Err(StoreError::AlreadyExists)));
        assert_eq!(stores.grants.of("user:x").await.unwrap(), std::slice::from_ref(&grant));
        assert_eq!(stores.grants.of("user:y").await.unwrap(), []);
        assert_eq!(stores.grants.holders(role.id).await.unwrap(), ["user:x"]);
        assert_eq!(stores.grants.get(grant.id).await.unwrap(), Some(grant));
    })
    .await;
}

#[tokio::test]
async fn service_accounts_are_changed_with_their_revision() {
    on_every_database(|stores, _| async move {
        let account = ServiceAccount {
            id: ServiceAccountId::from(Uuid::from_u128(30)),
            name: "ci".into(),
            description: "d".into(),
            secret_hash: vec![3; 32],
            disabled: false,
            revision: 0,
            created_at: at(0),
        };
        let created = stores.service_accounts.create(&account, &change(1)).await.unwrap();
        assert_eq!(stores.service_accounts.find("ci").await.unwrap(), Some(created.clone()));
        stores.service_accounts.set_secret(account.id, &[4; 32], &change(2)).await.unwrap();
        let changed = stores.service_accounts.get(account.id).await.unwrap().unwrap();
        assert_eq!(changed.secret_hash, vec![4; 32]);
        assert_eq!(stores.service_accounts.list(None, 10).await.unwrap(), [changed]);
    })
    .await;
}

#[tokio::test]
async fn as_10_exactly_one_of_many_redeems_a_code() {
    on_every_database(|stores, _| async move {
        let (user, _) = people(&stores).await;
        let code = code(&user);
        stores.codes.insert(&code).await.unwrap();
        let mut racers = JoinSet::new();
        for _ in 0..8 {
            let codes = stores.codes.clone();
            racers.spawn(async move { codes.redeem(&[1; 32], at(1)).await.unwrap() });
        }
        let fresh =
            racers.join_all().await.into_iter().filter(|one| matches!(one, Redeemed::Fresh(_))).count();
        assert_eq!(fresh, 1);
        let redeemed = Code { redeemed_at: Some(at(1)), ..code.clone() };
        assert_eq!(stores.codes.redeem(&[1; 32], at(2)).await.unwrap(), Redeemed::Again(Box::new(redeemed)));
        assert_eq!(stores.codes.redeem(&[2; 32], at(2)).await.unwrap(), Redeemed::Unknown);
        stores.codes.insert(&Code { code_hash: vec![3; 32], ..code }).await.unwrap();
        assert_eq!(stores.codes.redeem(&[3; 32], at(60)).await.unwrap(), Redeemed::Unknown, "expired");
    })
    .await;
}

#[tokio::test]
async fn as_21_exactly_one_of_many_rotates_and_none_after_revocation() {
    on_every_database(|stores, _| async move {
        let (user, _) = people(&stores).await;
        let first = family(40, &user);
        stores.families.create(&first, Some(&[1; 32]), &audit(1)).await.unwrap();
        assert_eq!(stores.families.get(first.id).await.unwrap(), Some(first.clone()));
        let mut racers = JoinSet::new();
        for racer in 2..10_u8 {
            let families = stores.families.clone();
            racers.spawn(async move {
                let rotation = Rotation {
                    token_hash: &[1; 32],
                    successor_hash: &[racer; 32],
                    successor_sealed: &[racer; 8],
                    now: at(1),
                    grace_until: at(31),
                };
                families.rotate(&rotation).await.unwrap()
            });
        }
        assert_eq!(racers.join_all().await.into_iter().filter(|won| *won).count(), 1);
        let spent = stores.families.find_token(&[1; 32]).await.unwrap().unwrap();
        assert_eq!((spent.used_at, spent.grace_until), (Some(at(1)), Some(at(31))));
        let next = spent.successor_hash.unwrap();
        assert!(stores.families.find_token(&next).await.unwrap().unwrap().used_at.is_none());
        assert_eq!(stores.families.alive(user.id, at(2)).await.unwrap().len(), 1);
        assert!(stores.families.revoke(first.id, "test", &change(2)).await.unwrap());
        assert!(!stores.families.revoke(first.id, "test", &change(3)).await.unwrap());
        let late = Rotation {
            token_hash: &next,
            successor_hash: &[99; 32],
            successor_sealed: &[],
            now: at(3),
            grace_until: at(33),
        };
        assert!(!stores.families.rotate(&late).await.unwrap());
        assert_eq!(stores.families.alive(user.id, at(2)).await.unwrap().len(), 0);
        assert_eq!(stores.families.of_client("client").await.unwrap(), Vec::<Uuid>::new());
    })
    .await;
}

#[tokio::test]
async fn clients_consents_and_sessions_round_trip() {
    on_every_database(|stores, _| async move {
        let (user, client) = people(&stores).await;
        assert_eq!(stores.clients.get("client").await.unwrap().as_ref(), Some(&client));
        stores.clients.touch("client", at(5)).await.unwrap();
        stores.clients.touch("client", at(6)).await.unwrap();
        let touched = stores.clients.get("client").await.unwrap().unwrap();
        assert_eq!(touched.last_used_at, Some(at(5)), "at most once an hour");
        assert_eq!(stores.clients.list(None, 10).await.unwrap().len(), 1);
        assert_eq!(stores.clients.list(Some((at(0), "client".into())), 10).await.unwrap().len(), 0);

        let consent = Consent {
            id: Uuid::from_u128(60),
            user_id: user.id,
            client_id: "client".into(),
            resource: "r".into(),
            scopes: Scope::Mcp.into(),
            metadata_hash: vec![1],
            granted_at: at(0),
        };
        stores.consents.put(&consent, &audit(1)).await.unwrap();
        let wider = Consent { id: Uuid::from_u128(61), scopes: scopes(), granted_at: at(1), ..consent };
        stores.consents.put(&wider, &audit(2)).await.unwrap();
        let found = stores.consents.find(user.id, "client", "r").await.unwrap().unwrap();
        assert_eq!((found.scopes, found.granted_at), (scopes(), at(1)), "the newest replaces the one before");
        stores.consents.forget(user.id, "client").await.unwrap();
        assert_eq!(stores.consents.find(user.id, "client", "r").await.unwrap(), None);

        let session = LoginSession {
            id: SessionId::from(Uuid::from_u128(70)),
            token_hash: vec![7; 32],
            user_id: user.id,
            user_epoch: 1,
            user_agent: "agent".into(),
            address: "192.0.2.1".into(),
            authenticated_at: at(0),
            last_seen_at: at(0),
            expires_at: at(100),
        };
        stores.sessions.create(&session, &audit(3)).await.unwrap();
        stores.sessions.touch(session.id, at(9)).await.unwrap();
        let found = stores.sessions.find(&[7; 32]).await.unwrap();
        assert_eq!(found, Some(LoginSession { last_seen_at: at(9), ..session.clone() }));
        let somebody = UserId::from(Uuid::from_u128(99));
        stores.sessions.end(somebody, session.id, &audit(4)).await.unwrap();
        assert_eq!(stores.sessions.list(user.id).await.unwrap().len(), 1, "another's session stays");
        stores.sessions.end(user.id, session.id, &audit(5)).await.unwrap();
        assert_eq!(stores.sessions.list(user.id).await.unwrap().len(), 0);
    })
    .await;
}

#[tokio::test]
async fn the_feed_tells_what_changed_and_when_only_a_snapshot_will_do() {
    on_every_database(|stores, _| async move {
        let feed = &stores.trust;
        let keys = |rows: &[super::trust::TrustRow]| -> Vec<(String, bool)> {
            rows.iter().map(|row| (row.key.clone(), row.removed)).collect()
        };
        feed.publish(&change(1).publish([trust("a", None), trust("b", Some(at(10)))])).await.unwrap();
        let all = feed.changes(None).await.unwrap();
        assert!(all.snapshot);
        assert_eq!(keys(&all.rows), [("a".into(), false), ("b".into(), false)]);
        feed.publish(&change(2).publish([TrustWrite::Remove("a".into())])).await.unwrap();
        let delta = feed.changes(Some(all.revision)).await.unwrap();
        assert!(!delta.snapshot && delta.revision > all.revision);
        assert_eq!(keys(&delta.rows), [("a".into(), true)]);
        assert_eq!(feed.withdraw_expired(at(10)).await.unwrap(), 1);
        assert_eq!(feed.get("b").await.unwrap(), None);
        assert!(feed.changes(Some(i64::MAX)).await.unwrap().snapshot, "a follower from the future");
        stores.sweep.run(at(10) + Duration::hours(25)).await.unwrap();
        assert!(feed.changes(Some(all.revision)).await.unwrap().snapshot, "older than the tombstones");
    })
    .await;
}

/// A signing key that signs from the start.
fn key(kid: &str) -> KeyRow {
    KeyRow {
        kid: kid.into(),
        alg: "ES256".into(),
        public_jwk: "{}".into(),
        private_sealed: vec![1],
        created_at: at(0),
        activates_at: at(0),
        retires_at: None,
    }
}

#[tokio::test]
async fn one_signing_key_succeeds_another_once() {
    on_every_database(|stores, _| async move {
        assert!(stores.keys.succeed(None, &key("one"), &change(1)).await.unwrap());
        assert!(!stores.keys.succeed(None, &key("other"), &change(2)).await.unwrap());
        assert!(stores.keys.succeed(Some(("one", at(60))), &key("two"), &change(3)).await.unwrap());
        let retired: Vec<_> =
            stores.keys.list().await.unwrap().into_iter().map(|row| (row.kid, row.retires_at)).collect();
        assert_eq!(retired, [("one".into(), Some(at(60))), ("two".into(), None)]);
    })
    .await;
}

#[tokio::test]
async fn s0_29_a_key_that_replaces_all_leaves_no_other_one_behind() {
    on_every_database(|stores, _| async move {
        let published = |id: u128, kid: &str| change(id).publish([crate::trust::key_item(kid, "{}", None)]);
        assert!(stores.keys.succeed(None, &key("one"), &published(1, "one")).await.unwrap());
        let two = published(2, "two");
        assert!(stores.keys.succeed(Some(("one", at(60))), &key("two"), &two).await.unwrap());
        let withdrawn =
            |kids: &[String]| change(3).publish(kids.iter().map(|kid| crate::trust::key_removed(kid)));
        let gone = stores.keys.replace_all(&key("three"), withdrawn).await.unwrap();
        assert_eq!(gone, ["one", "two"]);
        let left: Vec<_> = stores.keys.list().await.unwrap().into_iter().map(|row| row.kid).collect();
        assert_eq!(left, ["three"]);
        let told = stores.trust.changes(None).await.unwrap().rows;
        assert!(told.iter().all(|row| !row.key.starts_with("key/")), "{told:?}");
        // A rotation that began before it is not done after it.
        assert!(!stores.keys.succeed(Some(("two", at(60))), &key("four"), &change(4)).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn as_30_the_oldest_clients_that_nobody_tried_make_room() {
    on_every_database(|stores, _| async move {
        let (user, _) = people(&stores).await;
        let known = stores.clients.get("client").await.unwrap().unwrap();
        for number in 0..4_u8 {
            let client_id = format!("client-{number}");
            let client = Client { client_id, created_at: at(number.into()), ..known.clone() };
            stores.clients.register(&client, &audit(number.into())).await.unwrap();
        }
        stores.clients.touch("client-0", at(9)).await.unwrap();
        stores.sweep.sweep_untried(2).await.unwrap();
        let mut left = Vec::new();
        for number in 0..4 {
            left.push(stores.clients.get(&format!("client-{number}")).await.unwrap().is_some());
        }
        assert_eq!(left, [true, false, true, true], "the first was used");
        assert!(stores.users.get(user.id).await.unwrap().is_some());
    })
    .await;
}

#[tokio::test]
async fn what_has_expired_is_swept_and_what_lives_stays() {
    on_every_database(|stores, _| async move {
        let (user, _) = people(&stores).await;
        stores.families.create(&family(40, &user), Some(&[1; 32]), &audit(1)).await.unwrap();
        stores.codes.insert(&code(&user)).await.unwrap();
        stores.sweep.run(at(100)).await.unwrap();
        assert!(stores.families.get(Uuid::from_u128(40)).await.unwrap().is_some());
        stores.sweep.run(at(0) + Duration::days(60)).await.unwrap();
        assert!(stores.families.get(Uuid::from_u128(40)).await.unwrap().is_none());
        assert!(stores.families.find_token(&[1; 32]).await.unwrap().is_none());
        assert_eq!(stores.codes.redeem(&[1; 32], at(1)).await.unwrap(), Redeemed::Unknown);
        assert!(stores.clients.get("client").await.unwrap().is_none(), "unused for 30 days");
        assert!(stores.users.get(user.id).await.unwrap().is_some());
    })
    .await;
}

#[tokio::test]
async fn rs_27_a_revocation_counts_from_its_commit_and_not_from_its_request() {
    for (label, db, _guard) in databases(schema()).await {
        let stores = Stores::new(&db);
        let write = crate::trust::principal_revoked("user:x", at(0), Duration::minutes(10));
        let mut late = change(1).publish([write]);
        late.begun = std::time::Instant::now().checked_sub(std::time::Duration::from_secs(5)).unwrap();
        stores.trust.publish(&late).await.unwrap();
        let row = stores.trust.get("revocation/principal/user:x").await.unwrap().unwrap();
        assert!(row.not_before > Some(at(6)), "{label}: {row:?}");
        let Some(portico_proto_auth::trust_item::Value::Revocation(told)) =
            crate::trust::decode(&row).and_then(|item| item.value)
        else {
            panic!("{label}: no revocation")
        };
        assert_eq!(told.not_before.map(|at| at.seconds), row.not_before.map(|at| at.timestamp()), "{label}");
    }
}

#[tokio::test]
async fn s3_62_s3_64_audit_rows_never_change_and_go_only_when_their_days_are_over() {
    for (label, db, _guard) in databases(schema()).await {
        let stores = Stores::new(&db);
        // The table refuses whatever is younger than a day by the database's own clock.
        let past = |seconds| at(seconds) - Duration::days(1000);
        let audit = |id| AuditEntry { occurred_at: past(0), ..audit(id) };
        let young = AuditEntry { occurred_at: past(2), ..audit(8) };
        stores.audit.append(&young).await.unwrap();
        for id in 1..=5 {
            stores.audit.append(&audit(id)).await.unwrap();
        }
        for sql in ["UPDATE audit SET principal = 'nobody'", "DELETE FROM audit"] {
            assert!(portico_db::testing::raw(&db, sql).await.is_err(), "{label}: {sql}");
        }
        assert!(!stores.audit.allow_removal(past(0), &audit(6)).await.unwrap(), "{label}: none is older");
        assert!(stores.audit.allow_removal(past(1), &audit(7)).await.unwrap(), "{label}");
        assert_eq!(stores.audit.remove(past(1), 3).await.unwrap(), 3, "{label}: a lot");
        assert_eq!(
            stores.audit.remove(past(1), 9).await.unwrap(),
            3,
            "{label}: the rest and the record of it"
        );
        for to in ["2100-01-01T00:00:00+00:00", "2000-01-01T00:00:00+00:00"] {
            let moved = format!("UPDATE audit_horizon SET removable_to = '{to}'");
            let done = portico_db::testing::raw(&db, &moved).await.is_ok();
            assert_eq!(done, to.starts_with("21"), "{label}: it only moves forward");
        }
        let recent = AuditEntry { occurred_at: SystemClock.now(), ..audit(9) };
        stores.audit.append(&recent).await.unwrap();
        assert!(
            portico_db::testing::raw(&db, "DELETE FROM audit").await.is_err(),
            "{label}: the last day stays"
        );
        let left = stores.audit.newest(&AuditFilter::default(), 9).await.unwrap();
        assert_eq!(left.iter().map(|row| row.id.as_u128()).collect::<Vec<_>>(), [8, 9], "{label}");
    }
}
