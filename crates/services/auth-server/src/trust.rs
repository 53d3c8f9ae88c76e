//! What verifiers are told: items of the trust feed, and this process's own copy of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwap;
use chrono::{DateTime, Duration, Utc};
use portico_authn::{TrustChange, TrustHandle};
use portico_clock::SharedClock;
use portico_db::StoreError;
use portico_proto_auth::trust_item::Value;
use portico_proto_auth::{RevocationKind, TrustIssuer, TrustItem, TrustKey, TrustRevocation, TrustRole};
use prost::Message as _;
use tokio::sync::{Mutex, watch};

use crate::domain::key_schedule::LEEWAY;
use crate::domain::revocation;
use crate::store::change::{TrustEntry, TrustWrite};
use crate::store::roles::Role;
use crate::store::trust::{TrustChanges, TrustRow, TrustStore};

/// How long a revocation has to be known: until the last token that it concerns has expired everywhere.
pub(crate) fn revocation_lifetime(token_lifetime: Duration) -> Duration {
    token_lifetime + LEEWAY * 2
}

pub(crate) fn issuer_item(issuer: &str) -> TrustWrite {
    put("issuer".to_owned(), Value::Issuer(TrustIssuer { issuer: issuer.to_owned() }), None, None)
}

pub(crate) fn key_item(kid: &str, jwk: &str, retires_at: Option<DateTime<Utc>>) -> TrustWrite {
    let key = TrustKey { kid: kid.to_owned(), jwk: jwk.to_owned() };
    put(format!("key/{kid}"), Value::SigningKey(key), None, retires_at)
}

pub(crate) fn key_removed(kid: &str) -> TrustWrite {
    TrustWrite::Remove(format!("key/{kid}"))
}

pub(crate) fn role_item(role: &Role) -> TrustWrite {
    let item = TrustRole {
        id: role.id.to_string(),
        name: role.name.clone(),
        policies: role.policies.clone(),
        permissions: role.permissions.clone(),
    };
    put(role_key(role), Value::Role(item), None, None)
}

pub(crate) fn role_removed(role: &Role) -> TrustWrite {
    TrustWrite::Remove(role_key(role))
}

fn role_key(role: &Role) -> String {
    format!("role/{}", role.id)
}

pub(crate) fn principal_key(principal: &str) -> String {
    format!("revocation/principal/{principal}")
}

pub(crate) fn grant_key(grant: &str) -> String {
    format!("revocation/grant/{grant}")
}

pub(crate) fn token_key(jti: &str) -> String {
    format!("revocation/token/{jti}")
}

/// Ends every token of a principal that was issued before now.
pub(crate) fn principal_revoked(principal: &str, now: DateTime<Utc>, token_lifetime: Duration) -> TrustWrite {
    let not_before = revocation::not_before(now);
    let item = revoked(RevocationKind::Principal, principal, now + revocation_lifetime(token_lifetime));
    let item = TrustRevocation { not_before: Some(timestamp(not_before)), ..item };
    let expires = now + revocation_lifetime(token_lifetime);
    put(principal_key(principal), Value::Revocation(item), Some(not_before), Some(expires))
}

/// The same revocation from a later moment on; anything else stays as it is.
pub(crate) fn postponed(entry: &TrustEntry, not_before: DateTime<Utc>) -> TrustEntry {
    let mut entry = entry.clone();
    if let Ok(TrustItem { key, value: Some(Value::Revocation(revocation)) }) =
        TrustItem::decode(entry.value.as_slice())
    {
        let revocation = TrustRevocation { not_before: Some(timestamp(not_before)), ..revocation };
        entry.value = TrustItem { key, value: Some(Value::Revocation(revocation)) }.encode_to_vec();
        entry.not_before = Some(not_before);
    }
    entry
}

/// Ends every token that came of one authorization.
pub(crate) fn grant_revoked(grant: &str, now: DateTime<Utc>, token_lifetime: Duration) -> TrustWrite {
    let expires = now + revocation_lifetime(token_lifetime);
    let item = revoked(RevocationKind::Grant, grant, expires);
    put(grant_key(grant), Value::Revocation(item), None, Some(expires))
}

/// Ends one token.
pub(crate) fn token_revoked(jti: &str, expires_at: DateTime<Utc>) -> TrustWrite {
    let expires = expires_at + LEEWAY * 2;
    let item = revoked(RevocationKind::Token, jti, expires);
    put(token_key(jti), Value::Revocation(item), None, Some(expires))
}

fn revoked(kind: RevocationKind, value: &str, expires_at: DateTime<Utc>) -> TrustRevocation {
    TrustRevocation {
        kind: kind.into(),
        value: value.to_owned(),
        not_before: None,
        expires_at: Some(timestamp(expires_at)),
    }
}

fn put(
    key: String,
    value: Value,
    not_before: Option<DateTime<Utc>>,
    expires_at: Option<DateTime<Utc>>,
) -> TrustWrite {
    let item = TrustItem { key: key.clone(), value: Some(value) };
    TrustWrite::Put(TrustEntry { key, value: item.encode_to_vec(), not_before, expires_at })
}

pub(crate) fn timestamp(moment: DateTime<Utc>) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: moment.timestamp(),
        nanos: i32::try_from(moment.timestamp_subsec_nanos()).unwrap_or_default(),
    }
}

/// Reads a stored item back; an unreadable one is logged and left out.
pub(crate) fn decode(row: &TrustRow) -> Option<TrustItem> {
    TrustItem::decode(row.value.as_slice())
        .inspect_err(|error| tracing::error!(trust.key = row.key, %error, "stored trust item is unreadable"))
        .ok()
}

/// This process's view of the feed, and the bell that wakes those who follow it.
#[derive(Debug)]
pub(crate) struct TrustBoard {
    store: TrustStore,
    handle: TrustHandle,
    clock: SharedClock,
    seen: AtomicI64,
    /// Another one after every [`TrustBoard::let_go`].
    wake: ArcSwap<watch::Sender<i64>>,
    one_at_a_time: Mutex<()>,
}

impl TrustBoard {
    pub(crate) fn new(store: TrustStore, handle: TrustHandle, clock: SharedClock) -> Self {
        let wake = ArcSwap::from_pointee(watch::Sender::new(0));
        Self { store, handle, clock, seen: AtomicI64::new(0), wake, one_at_a_time: Mutex::new(()) }
    }

    pub(crate) fn store(&self) -> &TrustStore {
        &self.store
    }

    /// Rings at every new revision, until the followers are let go.
    pub(crate) fn bell(&self) -> watch::Receiver<i64> {
        self.wake.load().subscribe()
    }

    /// Ends the streams of all followers, so that they look for a replica that knows more.
    pub(crate) fn let_go(&self) {
        if self.wake.load().receiver_count() > 0 {
            self.wake.store(Arc::new(watch::Sender::new(self.seen())));
        }
    }

    /// The revision that this process knows.
    pub(crate) fn seen(&self) -> i64 {
        self.seen.load(Ordering::Acquire)
    }

    /// Takes in what has changed, here or on another replica.
    pub(crate) async fn refresh(&self) -> Result<(), StoreError> {
        let _turn = self.one_at_a_time.lock().await;
        let seen = self.seen();
        if seen > 0 && self.store.revision().await? == seen {
            self.handle.confirm(self.clock.now());
            return Ok(());
        }
        let TrustChanges { snapshot, rows, revision } =
            self.store.changes((seen > 0).then_some(seen)).await?;
        let (removed, present): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.removed);
        let change = TrustChange {
            snapshot,
            items: present.iter().filter_map(decode).collect(),
            removed: removed.into_iter().map(|row| row.key).collect(),
            revision,
        };
        self.handle.apply(change, self.clock.now());
        self.seen.store(revision, Ordering::Release);
        self.wake.load().send_replace(revision);
        Ok(())
    }
}
