//! What was revoked before its time.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use portico_ids::PrincipalId;
use portico_proto_auth as proto;
use portico_proto_auth::RevocationKind;

use crate::Principal;

/// Revocations by the key of the feed, and an index to ask.
#[derive(Debug, Clone, Default)]
pub(super) struct Revocations {
    items: HashMap<String, Revocation>,
    stale_index: bool,
    tokens: HashSet<String>,
    grants: HashSet<String>,
    principals: HashMap<PrincipalId, DateTime<Utc>>,
    /// Of revocations that say in no way that is known here whom they are about: they may be about everybody.
    everybody: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone)]
enum Revocation {
    Token(String),
    Grant(String),
    Principal { id: PrincipalId, not_before: DateTime<Utc> },
    Everybody { not_before: DateTime<Utc> },
}

impl Revocations {
    pub(super) fn cover(&self, principal: &Principal) -> bool {
        self.tokens.contains(&principal.token_id)
            || principal.grant_id.as_ref().is_some_and(|grant| self.grants.contains(grant))
            || self.principals.get(&principal.id).is_some_and(|not_before| principal.issued_at < *not_before)
            || self.everybody.is_some_and(|not_before| principal.issued_at < not_before)
    }

    pub(super) fn put(&mut self, key: String, item: &proto::TrustRevocation) {
        let value = item.value.clone();
        let revocation = match item.kind() {
            RevocationKind::Token => Revocation::Token(value),
            RevocationKind::Grant => Revocation::Grant(value),
            RevocationKind::Principal => match value.parse() {
                Ok(id) => Revocation::Principal { id, not_before: not_before(item) },
                // No token of such a principal can be read here either.
                Err(_) => {
                    return tracing::warn!(trust.item = key, "a revocation names nobody who is known here");
                }
            },
            RevocationKind::Unspecified => return self.put_unknown(key, not_before(item)),
        };
        self.items.insert(key, revocation);
        self.stale_index = true;
    }

    /// Takes in a revocation of a kind that a later release knows. Whom it is about cannot be told, so every token that is
    /// older is refused until it is withdrawn: failure is closed.
    pub(super) fn put_unknown(&mut self, key: String, not_before: DateTime<Utc>) {
        tracing::error!(
            trust.item = key,
            "a revocation of the trust feed is of an unknown kind, so every token before it is refused: upgrade this service"
        );
        self.items.insert(key, Revocation::Everybody { not_before });
        self.stale_index = true;
    }

    pub(super) fn remove(&mut self, key: &str) {
        self.stale_index |= self.items.remove(key).is_some();
    }

    /// Rebuilds the index if an item changed; of two items about one principal the stricter counts.
    pub(super) fn index(&mut self) {
        if !std::mem::take(&mut self.stale_index) {
            return;
        }
        self.tokens.clear();
        self.grants.clear();
        self.principals.clear();
        self.everybody = None;
        for revocation in self.items.values() {
            match revocation {
                Revocation::Token(value) => {
                    self.tokens.insert(value.clone());
                }
                Revocation::Grant(value) => {
                    self.grants.insert(value.clone());
                }
                Revocation::Principal { id, not_before } => {
                    let entry = self.principals.entry(id.clone()).or_insert(*not_before);
                    *entry = (*entry).max(*not_before);
                }
                Revocation::Everybody { not_before } => {
                    self.everybody = self.everybody.max(Some(*not_before));
                }
            }
        }
    }
}

/// A revocation without a usable moment revokes everything: failure is closed.
fn not_before(item: &proto::TrustRevocation) -> DateTime<Utc> {
    item.not_before.as_ref().and_then(portico_feed::moment).unwrap_or(DateTime::<Utc>::MAX_UTC)
}
