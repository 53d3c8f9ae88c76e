//! The keys that tokens are signed with: sealed at rest, rotated with overlap.

use std::sync::Arc;

use arc_swap::ArcSwap;
use chrono::{DateTime, Duration, Utc};
use portico_clock::SharedClock;
use portico_db::StoreError;
use portico_ids::SharedRng;
use portico_oauth_types::{Jwk, JwkSet};
use portico_sealing::{Aad, Sealer};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;

use crate::actor::{Actor, Deed};
use crate::domain::key_schedule::{self, KeyTimes};
use crate::jws::{KeyFailure, SigningKey};
use crate::store::change::Change;
use crate::store::keys::{KeyRow, KeyStore};
use crate::trust::{key_item, key_removed};

/// Why there is no usable signing key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("signing keys cannot be read or written")]
    Store(#[from] StoreError),
    #[error(transparent)]
    Key(#[from] KeyFailure),
    #[error("the signing key {kid} cannot be opened: start with the key ring that sealed it")]
    Sealed {
        kid: String,
        #[source]
        source: portico_sealing::OpenError,
    },
}

/// A published key.
#[derive(Debug)]
pub(crate) struct LoadedKey {
    pub(crate) key: SigningKey,
    pub(crate) times: KeyTimes,
}

/// The keys in memory, as the database has them.
#[derive(Debug)]
pub(crate) struct SigningKeys {
    store: KeyStore,
    sealer: Sealer,
    clock: SharedClock,
    rng: SharedRng,
    token_lifetime: Duration,
    loaded: ArcSwap<Vec<Arc<LoadedKey>>>,
}

/// What signing keys are kept with.
#[derive(Debug)]
pub(crate) struct KeyTools {
    pub(crate) sealer: Sealer,
    pub(crate) clock: SharedClock,
    pub(crate) rng: SharedRng,
    pub(crate) token_lifetime: Duration,
}

impl SigningKeys {
    pub(crate) fn new(store: KeyStore, tools: KeyTools) -> Self {
        let KeyTools { sealer, clock, rng, token_lifetime } = tools;
        Self { store, sealer, clock, rng, token_lifetime, loaded: ArcSwap::default() }
    }

    /// Reads the keys again; those that are known already are not opened twice. A key that cannot be opened fails this,
    /// but keeps none that was withdrawn.
    pub(crate) async fn reload(&self) -> Result<(), KeyError> {
        let before = self.loaded.load_full();
        let (mut keys, mut failed) = (Vec::new(), None);
        for row in self.store.list().await? {
            let times = KeyTimes {
                created_at: row.created_at,
                activates_at: row.activates_at,
                retires_at: row.retires_at,
            };
            match before.iter().find(|known| known.key.jwk().kid() == row.kid && known.times == times) {
                Some(known) => keys.push(Arc::clone(known)),
                None => match self.open(&row) {
                    Ok(key) => keys.push(Arc::new(LoadedKey { key, times })),
                    Err(error) => failed = Some(error),
                },
            }
        }
        self.loaded.store(Arc::new(keys));
        failed.map_or(Ok(()), Err)
    }

    fn open(&self, row: &KeyRow) -> Result<SigningKey, KeyError> {
        let pkcs8 = self
            .sealer
            .open(&aad(&row.kid), &row.private_sealed)
            .map_err(|source| KeyError::Sealed { kid: row.kid.clone(), source })?;
        Ok(SigningKey::from_pkcs8(pkcs8.expose_secret())?)
    }

    /// Makes the first key, or the next one when its time has come. `false`: nothing was due.
    pub(crate) async fn rotate_if_due(&self) -> Result<bool, KeyError> {
        if !self.is_due() {
            return Ok(false);
        }
        // Another replica may have made it since: then it is not due any more.
        self.reload().await?;
        if !self.is_due() {
            return Ok(false);
        }
        self.make_next(&Actor::service()).await?;
        Ok(true)
    }

    fn is_due(&self) -> bool {
        let now = self.clock.now();
        self.newest().is_none_or(|newest| key_schedule::is_due(&newest.times, now))
    }

    /// Makes the next key, due or not.
    pub(crate) async fn rotate(&self, actor: &Actor) -> Result<(), KeyError> {
        self.reload().await?;
        self.make_next(actor).await
    }

    /// Makes the successor of the newest key that is loaded. Another replica that was first has done it for all.
    async fn make_next(&self, actor: &Actor) -> Result<(), KeyError> {
        let now = self.clock.now();
        let newest = self.newest();
        let row = self.generate(key_schedule::activates_at(now, newest.is_none()))?;
        let retires = key_schedule::retires_at(row.activates_at, self.token_lifetime);
        let mut writes = vec![key_item(&row.kid, &row.public_jwk, None)];
        let previous = newest.as_ref().map(|newest| newest.key.jwk());
        if let Some(jwk) = previous {
            writes.push(key_item(jwk.kid(), &jwk_json(jwk), Some(retires)));
        }
        let deed = Deed::done("key.rotate", &row.kid, "");
        let change = Change::new(actor.entry(&*self.clock, &*self.rng, deed)).publish(writes);
        self.store.succeed(previous.map(|jwk| (jwk.kid(), retires)), &row, &change).await?;
        self.reload().await
    }

    /// Makes a key that signs at once, and withdraws every other one: nothing that they signed counts any more.
    /// Verifiers may hear of a token of the new key before they hear of the key; that ends by itself.
    pub(crate) async fn withdraw(&self, actor: &Actor) -> Result<Vec<String>, KeyError> {
        let row = self.generate(self.clock.now())?;
        let change = |withdrawn: &[String]| {
            let successor = format!("{} signs now", row.kid);
            let kids = withdrawn.join(" ");
            let deed = Deed::done("key.withdraw", &kids, &successor);
            let writes = withdrawn.iter().map(|kid| key_removed(kid));
            Change::new(actor.entry(&*self.clock, &*self.rng, deed)).publish(writes).publish([key_item(
                &row.kid,
                &row.public_jwk,
                None,
            )])
        };
        let withdrawn = self.store.replace_all(&row, change).await?;
        self.reload().await?;
        Ok(withdrawn)
    }

    fn generate(&self, activates_at: DateTime<Utc>) -> Result<KeyRow, KeyError> {
        let (key, pkcs8) = SigningKey::generate()?;
        let kid = key.jwk().kid().to_owned();
        Ok(KeyRow {
            alg: "ES256".to_owned(),
            public_jwk: jwk_json(key.jwk()),
            private_sealed: self.sealer.seal(&aad(&kid), &pkcs8),
            created_at: self.clock.now(),
            activates_at,
            retires_at: None,
            kid,
        })
    }

    fn newest(&self) -> Option<Arc<LoadedKey>> {
        self.loaded.load().iter().find(|key| key.times.retires_at.is_none()).cloned()
    }

    /// Every key that verifiers must know, oldest first.
    pub(crate) fn published(&self) -> Vec<Arc<LoadedKey>> {
        let now = self.clock.now();
        self.loaded.load().iter().filter(|key| key.times.is_published(now)).cloned().collect()
    }

    pub(crate) fn jwks(&self) -> JwkSet {
        JwkSet { keys: self.published().iter().map(|key| key.key.jwk().clone()).collect() }
    }

    /// Returns the key that signs now.
    pub(crate) fn active(&self) -> Option<Arc<LoadedKey>> {
        let keys = self.loaded.load();
        let times: Vec<KeyTimes> = keys.iter().map(|key| key.times).collect();
        key_schedule::signing(&times, self.clock.now()).map(|index| Arc::clone(&keys[index]))
    }

    pub(crate) fn sign(&self, typ: &str, claims: &impl Serialize) -> Result<SecretString, KeyFailure> {
        self.active().ok_or(KeyFailure)?.key.sign(typ, claims)
    }
}

pub(crate) fn aad(kid: &str) -> Aad<'_> {
    Aad { table: "signing_keys", row: kid, field: "private_sealed", version: 1 }
}

fn jwk_json(jwk: &Jwk) -> String {
    // A struct of strings always serialises.
    serde_json::to_string(jwk).unwrap_or_default()
}
