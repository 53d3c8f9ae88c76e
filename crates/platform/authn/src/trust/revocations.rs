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
}

#[derive(Debug, Clone)]
enum Revocation {
    Token(String),
    Grant(String),
    Principal { id: PrincipalId, not_before: DateTime<Utc> },
}

impl Revocations {
    pub(super) fn cover(&self, principal: &Principal) -> bool {
        self.tokens.contains(&principal.token_id)
            || principal.grant_id.as_ref().is_some_and(|grant| self.grants.contains(grant))
            || self.principals.get(&principal.id).is_some_and(|not_before| principal.issued_at < *not_before)
    }

    pub(super) fn put(&mut self, key: String, item: &proto::TrustRevocation) {
        let value = item.value.clone();
        let revocation = match item.kind() {
            RevocationKind::Token => Revocation::Token(value),
            RevocationKind::Grant => Revocation::Grant(value),
            RevocationKind::Principal => match value.parse() {
                Ok(id) => Revocation::Principal { id, not_before: not_before(item) },
                Err(_) => return unusable(&key),
            },
            RevocationKind::Unspecified => return unusable(&key),
        };
        self.items.insert(key, revocation);
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
            }
        }
    }
}

/// A revocation without a usable moment revokes everything: failure is closed.
fn not_before(item: &proto::TrustRevocation) -> DateTime<Utc> {
    item.not_before.as_ref().and_then(portico_feed::moment).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

fn unusable(key: &str) {
    tracing::error!(trust.item = key, "a revocation of the trust feed cannot be read: upgrade this service");
}
