//! From an access token to a principal.

mod token;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use chrono::{DateTime, Utc};
use moka::sync::Cache;
use portico_clock::SharedClock;
use portico_oauth_types::AccessTokenClaims;

use crate::trust::TrustKey;
use crate::{Principal, TokenRejected, TrustHandle, TrustState};
use token::Compact;

/// How far clocks may differ.
const LEEWAY_SECONDS: i64 = 60;

/// Verified tokens that are remembered; one costs about 700 bytes.
const CACHE_ENTRIES: u64 = 50_000;

/// Longer than any token lives, so that what is remembered goes away by itself.
const CACHE_LIFETIME: Duration = Duration::from_mins(15);

/// The default of `trust.max_staleness`.
pub const DEFAULT_MAX_STALENESS: Duration = Duration::from_mins(2);

/// Verifies access tokens against the current trust, and remembers those that it verified. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Verifier {
    trust: TrustHandle,
    clock: SharedClock,
    max_staleness: Duration,
    verified: Cache<[u8; 32], Arc<Verified>>,
}

/// A token that was verified, with what has to be asked again at each use.
#[derive(Debug)]
struct Verified {
    principal: Arc<Principal>,
    audience: String,
    issuer: Option<Arc<str>>,
    key: Arc<TrustKey>,
    /// The generation of the trust under which issuer, key and revocations were last asked.
    generation: AtomicU64,
}

impl Verifier {
    /// Makes a verifier that refuses every token once the trust is older than `max_staleness`.
    #[must_use]
    pub fn new(trust: TrustHandle, clock: SharedClock, max_staleness: Duration) -> Self {
        let verified = Cache::builder().max_capacity(CACHE_ENTRIES).time_to_live(CACHE_LIFETIME).build();
        Self { trust, clock, max_staleness, verified }
    }

    /// Returns the trust that decides.
    #[must_use]
    pub fn trust(&self) -> &TrustHandle {
        &self.trust
    }

    /// Verifies that `token` is a current access token of this deployment for exactly `audience`.
    pub fn verify(&self, token: &str, audience: &str) -> Result<Arc<Principal>, TokenRejected> {
        let compact = Compact::split(token)?;
        let now = self.clock.now();
        let trust = self.trust.fresh(now, self.max_staleness)?;
        self.check_clocks()?;
        let name = sha256(token);
        if let Some(known) = self.verified.get(&name) {
            let answer = known.check_again(&trust, audience, now);
            let ended = [TokenRejected::EXPIRED, TokenRejected::REVOKED];
            if answer.as_ref().is_err_and(|rejected| ended.contains(rejected)) {
                self.verified.invalidate(&name);
            }
            return answer;
        }
        let (claims, key) = check_signature(&compact, &trust)?;
        let token_audience = claims.aud.clone();
        let principal = check_claims((claims, &key), &trust, audience, now)?;
        let verified = Arc::new(Verified {
            principal: Arc::new(principal),
            audience: token_audience,
            issuer: trust.shared_issuer(),
            key,
            generation: AtomicU64::new(trust.generation()),
        });
        let principal = Arc::clone(&verified.principal);
        self.verified.insert(name, verified);
        Ok(principal)
    }

    /// Tells whether a principal of an earlier [`Verifier::verify`] may still act: long streams ask this at every
    /// change of the trust and when the token ends (RS-26).
    pub fn check_again(&self, principal: &Principal) -> Result<(), TokenRejected> {
        let now = self.clock.now();
        let trust = self.trust.fresh(now, self.max_staleness)?;
        check_current(principal, &trust, now)?;
        // Last, for a key that was replaced leaves when its tokens have expired; sooner only if it was withdrawn.
        trust.key(&principal.key_id).map(drop).ok_or(TokenRejected::KEY)?;
        // Only now: who lets calls go on whatever the time is must hear of all that has nothing to do with it.
        self.check_clocks()
    }

    /// With a clock that is behind, tokens and revocations would count for longer than they should.
    fn check_clocks(&self) -> Result<(), TokenRejected> {
        match self.trust.skew() {
            Some(skew) if skew.num_seconds().abs() > LEEWAY_SECONDS => {
                Err(TokenRejected::CLOCKS_DIFFER.by(skew.num_seconds()))
            }
            _ => Ok(()),
        }
    }
}

impl Verified {
    /// Asks again whatever may have changed since the token was verified.
    fn check_again(
        &self,
        trust: &TrustState,
        audience: &str,
        now: DateTime<Utc>,
    ) -> Result<Arc<Principal>, TokenRejected> {
        if self.audience != audience {
            return Err(TokenRejected::AUDIENCE);
        }
        check_time(&self.principal, now)?;
        let generation = trust.generation();
        if self.generation.load(Ordering::Relaxed) != generation {
            if trust.issuer() != self.issuer.as_deref() {
                return Err(TokenRejected::ISSUER);
            }
            if !trust.still_has(&self.key) {
                return Err(TokenRejected::KEY);
            }
            if trust.is_revoked(&self.principal) {
                return Err(TokenRejected::REVOKED);
            }
            self.generation.store(generation, Ordering::Relaxed);
        }
        Ok(Arc::clone(&self.principal))
    }
}

fn sha256(token: &str) -> [u8; 32] {
    let mut name = [0; 32];
    name.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    name
}

/// Checks header and signature. The key decides the algorithm, never the token (RFC 8725 §3.1).
fn check_signature(
    compact: &Compact<'_>,
    trust: &TrustState,
) -> Result<(AccessTokenClaims, Arc<TrustKey>), TokenRejected> {
    let kid = compact.check_header()?;
    let key = trust.key(&kid).ok_or(TokenRejected::KEY)?;
    if !key.verifies(compact.signed.as_bytes(), &compact.signature()?) {
        return Err(TokenRejected::SIGNATURE);
    }
    Ok((compact.claims()?, Arc::clone(key)))
}

/// Checks every claim of a token whose signature is good (RFC 9068 §4). Reading the claims has checked that `iss`,
/// `sub`, `aud`, `exp`, `iat`, `jti` and `client_id` are there and have their types.
fn check_claims(
    (claims, key): (AccessTokenClaims, &TrustKey),
    trust: &TrustState,
    audience: &str,
    now: DateTime<Utc>,
) -> Result<Principal, TokenRejected> {
    if trust.issuer() != Some(claims.iss.as_str()) {
        return Err(TokenRejected::ISSUER);
    }
    if claims.aud != audience {
        return Err(TokenRejected::AUDIENCE);
    }
    if claims.jti.is_empty() || claims.client_id.is_empty() || claims.exp <= claims.iat {
        return Err(TokenRejected::CLAIMS);
    }
    if claims.cnf.is_some() {
        return Err(TokenRejected::SENDER_CONSTRAINED);
    }
    let ahead = claims.iat.max(claims.nbf.unwrap_or(claims.iat)).saturating_sub(now.timestamp());
    if ahead > LEEWAY_SECONDS {
        return Err(TokenRejected::NOT_YET_VALID.by(ahead));
    }
    let principal = Principal::from_claims(claims, key.kid()).ok_or(TokenRejected::CLAIMS)?;
    check_current(&principal, trust, now)?;
    Ok(principal)
}

/// A revocation comes before the time: who lets a call go on that outlives its token must still hear of it.
fn check_current(principal: &Principal, trust: &TrustState, now: DateTime<Utc>) -> Result<(), TokenRejected> {
    if trust.is_revoked(principal) {
        return Err(TokenRejected::REVOKED);
    }
    check_time(principal, now)
}

fn check_time(principal: &Principal, now: DateTime<Utc>) -> Result<(), TokenRejected> {
    if now.timestamp() >= principal.expires_at.timestamp().saturating_add(LEEWAY_SECONDS) {
        return Err(TokenRejected::EXPIRED);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
