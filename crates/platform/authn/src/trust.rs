//! What a verifier believes: issuer, keys, revocations and roles, as the auth-server last told them.

mod follow;
mod revocations;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};
use chrono::{DateTime, Utc};
use portico_feed::FeedStatus;
use portico_oauth_types::Jwk;
use portico_proto_auth as proto;
use portico_proto_auth::trust_item::Value;
use tokio::sync::watch;

use crate::{Principal, TokenRejected};
pub use follow::{TrustFeed, TrustFrames};
use revocations::Revocations;

/// More keys than any rotation keeps; a feed that sends more is broken (RS-28).
const MAX_KEYS: usize = 64;
/// What the keys of revocations begin with.
const REVOCATION_KEY: &str = "revocation/";

/// A public key that the issuer signs with. It verifies ES256 and nothing else.
#[derive(Debug)]
pub(crate) struct TrustKey {
    kid: String,
    public: ParsedPublicKey,
}

impl TrustKey {
    /// Checks that the key's point is on the curve.
    fn from_jwk(jwk: &Jwk) -> Option<Self> {
        let public = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, jwk.point()).ok()?;
        Some(Self { kid: jwk.kid().to_owned(), public })
    }

    /// Returns the name of the key.
    pub(crate) fn kid(&self) -> &str {
        &self.kid
    }

    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.public.verify_sig(message, signature).is_ok()
    }

    fn same_as(&self, other: &Self) -> bool {
        self.kid == other.kid && self.public.as_ref() == other.public.as_ref()
    }
}

/// A role as verifiers know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// Its id.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// Cedar policies; empty with permissions set.
    pub policies: String,
    /// Actions that holders may do.
    pub permissions: Vec<String>,
}

/// One immutable view of what the auth-server told.
#[derive(Debug, Clone, Default)]
pub struct TrustState {
    issuer: Option<Arc<str>>,
    keys: HashMap<String, Arc<TrustKey>>,
    revocations: Arc<Revocations>,
    roles: Arc<BTreeMap<String, Role>>,
    revision: i64,
    generation: u64,
}

impl TrustState {
    /// Returns the issuer, once it is known.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// Returns the key of this name.
    pub(crate) fn key(&self, kid: &str) -> Option<&Arc<TrustKey>> {
        self.keys.get(kid)
    }

    /// Returns the roles by id. The pointer changes exactly when a role does, so that whoever compiles them can compare
    /// it.
    #[must_use]
    pub fn roles(&self) -> &Arc<BTreeMap<String, Role>> {
        &self.roles
    }

    /// Returns the revision of the auth-server.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Returns a number that grows with every change that this process saw.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Tells whether the token, its grant or the subject's tokens of that age were revoked (RS-27).
    pub(crate) fn is_revoked(&self, principal: &Principal) -> bool {
        self.revocations.cover(principal)
    }

    pub(crate) fn shared_issuer(&self) -> Option<Arc<str>> {
        self.issuer.clone()
    }

    pub(crate) fn still_has(&self, key: &TrustKey) -> bool {
        self.keys.get(&key.kid).is_some_and(|known| known.same_as(key))
    }

    fn with(&self, change: TrustChange) -> Self {
        let mut next = if change.snapshot { Self::default() } else { self.clone() };
        next.generation = self.generation + 1;
        next.revision = change.revision;
        let mut roles = BTreeMap::clone(&next.roles);
        let mut revocations = Revocations::clone(&next.revocations);
        for key in &change.removed {
            next.remove(key, &mut roles);
            revocations.remove(key);
        }
        for item in change.items {
            match item.value {
                Some(Value::Issuer(issuer)) => next.issuer = Some(issuer.issuer.into()),
                Some(Value::SigningKey(key)) => next.put_key(&key),
                Some(Value::Role(role)) => {
                    let role = Role::from(role);
                    roles.insert(role.id.clone(), role);
                }
                Some(Value::Revocation(revocation)) => revocations.put(item.key, &revocation),
                None if item.key.starts_with(REVOCATION_KEY) => {
                    revocations.put_unknown(item.key, DateTime::<Utc>::MAX_UTC);
                }
                // Everything else only allows something: without it, less is allowed.
                None => tracing::warn!(trust.item = item.key, "a trust item of an unknown kind was left out"),
            }
        }
        revocations.index();
        if roles == *self.roles {
            next.roles = Arc::clone(&self.roles);
        } else {
            next.roles = Arc::new(roles);
        }
        next.revocations = Arc::new(revocations);
        next
    }

    fn remove(&mut self, key: &str, roles: &mut BTreeMap<String, Role>) {
        match key.split_once('/') {
            Some(("key", kid)) => {
                self.keys.remove(kid);
            }
            Some(("role", id)) => {
                roles.remove(id);
            }
            None if key == "issuer" => self.issuer = None,
            _ => {}
        }
    }

    /// Takes a key over, or leaves it out: a token that is signed with it is then refused.
    fn put_key(&mut self, item: &proto::TrustKey) {
        let jwk = serde_json::from_str::<Jwk>(&item.jwk).ok().filter(|jwk| jwk.kid() == item.kid);
        let Some(key) = jwk.as_ref().and_then(TrustKey::from_jwk) else {
            tracing::error!(
                trust.kid = item.kid,
                "a signing key of the trust feed is unusable and was left out"
            );
            self.keys.remove(&item.kid);
            return;
        };
        if self.keys.len() >= MAX_KEYS && !self.keys.contains_key(&key.kid) {
            tracing::error!(
                trust.kid = item.kid,
                "the trust feed has more than 64 signing keys: one was left out"
            );
            return;
        }
        self.keys.insert(key.kid.clone(), Arc::new(key));
    }
}

impl From<proto::TrustRole> for Role {
    fn from(role: proto::TrustRole) -> Self {
        Self { id: role.id, name: role.name, policies: role.policies, permissions: role.permissions }
    }
}

/// One batch of the trust feed.
#[derive(Debug, Clone, Default)]
pub struct TrustChange {
    /// Whether it replaces everything that was known.
    pub snapshot: bool,
    /// What is new or has changed.
    pub items: Vec<proto::TrustItem>,
    /// Keys of what is gone.
    pub removed: Vec<String>,
    /// The auth-server's revision behind this batch.
    pub revision: i64,
}

/// The current [`TrustState`], shared by everything that verifies or authorizes. Reading it takes no lock.
#[derive(Debug, Clone)]
pub struct TrustHandle {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: ArcSwap<TrustState>,
    /// Microseconds since 1970 of the last word from the auth-server that did not come by the feed; `NEVER` before
    /// the first.
    confirmed_at: AtomicI64,
    /// The feed that is followed.
    feed: OnceLock<FeedStatus>,
    changes: watch::Sender<u64>,
    writer: Mutex<()>,
}

const NEVER: i64 = i64::MIN;

impl Default for TrustHandle {
    fn default() -> Self {
        Self::new()
    }
}

impl TrustHandle {
    /// Makes a handle that trusts nobody until the first batch is applied.
    #[must_use]
    pub fn new() -> Self {
        Self {
            inner: Arc::new(Inner {
                state: ArcSwap::default(),
                confirmed_at: AtomicI64::new(NEVER),
                feed: OnceLock::new(),
                changes: watch::Sender::new(0),
                writer: Mutex::new(()),
            }),
        }
    }

    /// Returns the current view.
    #[must_use]
    pub fn load(&self) -> Guard<Arc<TrustState>> {
        self.inner.state.load()
    }

    /// Returns the current view, unless the auth-server has been silent for longer than `max_staleness`.
    pub(crate) fn fresh(
        &self,
        now: DateTime<Utc>,
        max_staleness: Duration,
    ) -> Result<Guard<Arc<TrustState>>, TokenRejected> {
        let state = self.inner.state.load();
        let limit = i64::try_from(max_staleness.as_micros()).unwrap_or(i64::MAX);
        let age = now.timestamp_micros().saturating_sub(self.confirmed_micros());
        if state.generation == 0 || age > limit {
            return Err(TokenRejected::TRUST_STALE);
        }
        Ok(state)
    }

    /// Applies a batch that the auth-server sent by `now`.
    pub fn apply(&self, change: TrustChange, now: DateTime<Utc>) {
        self.replace(change);
        self.confirm(now);
    }

    fn replace(&self, change: TrustChange) {
        let _one_writer = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let next = self.inner.state.load().with(change);
        let generation = next.generation;
        self.inner.state.store(Arc::new(next));
        self.inner.changes.send_replace(generation);
    }

    /// Notes that the auth-server was heard of at `now` and had nothing new to tell.
    pub fn confirm(&self, now: DateTime<Utc>) {
        self.inner.confirmed_at.fetch_max(now.timestamp_micros(), Ordering::AcqRel);
    }

    fn confirmed_micros(&self) -> i64 {
        let by_feed = self.inner.feed.get().and_then(FeedStatus::last_contact);
        let by_hand = self.inner.confirmed_at.load(Ordering::Acquire);
        by_feed.map_or(by_hand, |moment| by_hand.max(moment.timestamp_micros()))
    }

    /// Returns a receiver that wakes at every change, so that long streams can check themselves again (RS-26).
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }
}

#[cfg(test)]
mod tests;
