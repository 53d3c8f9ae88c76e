use chrono::TimeZone as _;
use portico_oauth_types::ScopeSet;

use super::*;

fn now() -> DateTime<Utc> {
    Utc.timestamp_opt(1_800_000_000, 0).unwrap()
}

fn role(id: &str, name: &str) -> proto::TrustItem {
    let role = proto::TrustRole { id: id.to_owned(), name: name.to_owned(), ..proto::TrustRole::default() };
    proto::TrustItem { key: format!("role/{id}"), value: Some(Value::Role(role)) }
}

fn revocation(key: &str, kind: proto::RevocationKind, value: &str) -> proto::TrustItem {
    let revocation =
        proto::TrustRevocation { kind: kind.into(), value: value.to_owned(), ..Default::default() };
    proto::TrustItem { key: key.to_owned(), value: Some(Value::Revocation(revocation)) }
}

fn delta(items: Vec<proto::TrustItem>, removed: &[&str]) -> TrustChange {
    TrustChange {
        items,
        removed: removed.iter().map(|key| (*key).to_owned()).collect(),
        ..TrustChange::default()
    }
}

fn principal() -> Principal {
    Principal {
        id: "user:01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
        client_id: "c".to_owned(),
        scopes: ScopeSet::EMPTY,
        roles: Vec::new(),
        token_id: "t".to_owned(),
        key_id: String::new(),
        grant_id: Some("g".to_owned()),
        issued_at: now(),
        expires_at: now(),
    }
}

#[test]
fn a26_a_revocation_that_cannot_be_read_is_about_everybody() {
    let trust = TrustHandle::new();
    let revoked = || trust.load().is_revoked(&principal());
    let unknown = || proto::TrustItem { key: "revocation/tenant/x".to_owned(), value: None };
    trust.apply(delta(vec![unknown()], &[]), now());
    assert!(revoked(), "its message is of a later release");
    trust.apply(delta(vec![], &["revocation/tenant/x"]), now());
    assert!(!revoked(), "it was withdrawn");
    let of_unknown_kind = |seconds: i64| {
        let revocation = proto::TrustRevocation {
            kind: 99,
            value: "x".to_owned(),
            not_before: Some(prost_types::Timestamp { seconds: now().timestamp() + seconds, nanos: 0 }),
            expires_at: None,
        };
        let item =
            proto::TrustItem { key: "revocation/x".into(), value: Some(Value::Revocation(revocation)) };
        trust.apply(delta(vec![item], &[]), now());
    };
    of_unknown_kind(1);
    assert!(revoked());
    of_unknown_kind(0);
    assert!(!revoked(), "tokens after it are good");
    let other = proto::TrustItem { key: "tenant/x".to_owned(), value: None };
    trust.apply(delta(vec![other], &[]), now());
    assert!(!revoked(), "what is no revocation only allows something");
}

#[test]
fn a_snapshot_replaces_and_a_delta_adds() {
    let trust = TrustHandle::new();
    trust.apply(TrustChange { snapshot: true, ..delta(vec![role("1", "a"), role("2", "b")], &[]) }, now());
    trust.apply(delta(vec![role("3", "c")], &["role/1"]), now());
    assert_eq!(trust.load().roles().keys().collect::<Vec<_>>(), ["2", "3"]);
    trust.apply(TrustChange { snapshot: true, ..delta(vec![role("4", "d")], &[]) }, now());
    assert_eq!(trust.load().roles().keys().collect::<Vec<_>>(), ["4"]);
    assert_eq!(trust.load().generation(), 3);
}

#[test]
fn the_roles_keep_their_pointer_until_one_changes() {
    let trust = TrustHandle::new();
    trust.apply(delta(vec![role("1", "a")], &[]), now());
    let before = Arc::clone(trust.load().roles());
    trust.apply(delta(vec![role("1", "a"), revocation("r", proto::RevocationKind::Token, "t")], &[]), now());
    assert!(Arc::ptr_eq(&before, trust.load().roles()));
    trust.apply(delta(vec![role("1", "renamed")], &[]), now());
    assert!(!Arc::ptr_eq(&before, trust.load().roles()));
}

#[test]
fn rs_27_a_revocation_ends_when_its_last_item_is_removed() {
    let trust = TrustHandle::new();
    let kind = proto::RevocationKind::Token;
    trust.apply(delta(vec![revocation("r/1", kind, "t"), revocation("r/2", kind, "t")], &[]), now());
    assert!(trust.load().is_revoked(&principal()));
    trust.apply(delta(vec![], &["r/1"]), now());
    assert!(trust.load().is_revoked(&principal()));
    trust.apply(delta(vec![], &["r/2"]), now());
    assert!(!trust.load().is_revoked(&principal()));
}

#[test]
fn rs_27_a_revocation_of_a_principal_without_a_moment_revokes_everything() {
    let trust = TrustHandle::new();
    let subject = principal().id.to_string();
    trust.apply(delta(vec![revocation("r", proto::RevocationKind::Principal, &subject)], &[]), now());
    assert!(trust.load().is_revoked(&principal()));
}

#[test]
fn rs_27_trust_is_fresh_only_after_it_was_heard_of() {
    let trust = TrustHandle::new();
    let limit = Duration::from_mins(2);
    assert!(trust.fresh(now(), limit).is_err());
    trust.confirm(now());
    assert!(trust.fresh(now(), limit).is_err(), "hearing of it is not enough without a snapshot");
    trust.apply(TrustChange::default(), now());
    assert!(trust.fresh(now() + limit, limit).is_ok());
    assert!(trust.fresh(now() + limit * 2, limit).is_err());
    trust.confirm(now() - limit);
    assert!(trust.fresh(now() + limit, limit).is_ok(), "an older word does not make it older");
}

#[test]
fn rs_26_every_change_wakes_whoever_watches() {
    let trust = TrustHandle::new();
    let mut changes = trust.changes();
    assert!(!changes.has_changed().unwrap());
    trust.apply(TrustChange::default(), now());
    assert!(changes.has_changed().unwrap());
    assert_eq!(*changes.borrow_and_update(), 1);
}
