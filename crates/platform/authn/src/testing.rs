//! An issuer for tests, so that a service can be tested without the auth-server.
#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "only tests use this module, and there a panic is the answer"
)]

use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use portico_clock::SharedClock;
use portico_ids::{PrincipalId, SeededRng, TokenId, UserId};
use portico_oauth_types::{AccessTokenClaims, Jwk, ResourceUri, ScopeSet};
use portico_proto_auth as proto;
use portico_proto_auth::RevocationKind;
use portico_proto_auth::trust_item::Value;

use crate::{CallerLayer, DEFAULT_MAX_STALENESS, Role, TrustChange, TrustHandle, Verifier};

/// The issuer of every token that [`TestIssuer`] mints.
pub const ISSUER: &str = "https://portico.test";

/// An issuer with a key of its own and the trust that a service needs to verify its tokens.
#[derive(Debug)]
pub struct TestIssuer {
    key: EcdsaKeyPair,
    jwk: Jwk,
    clock: SharedClock,
    rng: SeededRng,
    trust: TrustHandle,
}

impl TestIssuer {
    /// Makes an issuer that is trusted from the clock's current time on.
    #[must_use]
    pub fn new(clock: SharedClock) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key can be made");
        let jwk = Jwk::from_point(key.public_key().as_ref()).expect("the key is on P-256");
        let issuer = Self { key, jwk, clock, rng: SeededRng::new(1), trust: TrustHandle::new() };
        issuer.put(issuer.items());
        issuer
    }

    /// Returns what a trust feed says about this issuer.
    #[must_use]
    pub fn items(&self) -> Vec<proto::TrustItem> {
        let kid = self.jwk.kid().to_owned();
        let jwk = serde_json::to_string(&self.jwk).expect("a key is JSON");
        vec![
            item("issuer", Value::Issuer(proto::TrustIssuer { issuer: ISSUER.to_owned() })),
            item(&format!("key/{kid}"), Value::SigningKey(proto::TrustKey { kid, jwk })),
        ]
    }

    /// Returns the trust that knows this issuer.
    #[must_use]
    pub fn trust(&self) -> TrustHandle {
        self.trust.clone()
    }

    /// Returns the issuer's public key.
    #[must_use]
    pub fn jwk(&self) -> &Jwk {
        &self.jwk
    }

    /// Returns a verifier that trusts this issuer.
    #[must_use]
    pub fn verifier(&self) -> Verifier {
        Verifier::new(self.trust(), Arc::clone(&self.clock), DEFAULT_MAX_STALENESS)
    }

    /// Returns a layer that takes this issuer's tokens for `{ISSUER}/api`.
    #[must_use]
    pub fn api_layer(&self) -> CallerLayer {
        CallerLayer::new(self.verifier(), ResourceUri::parse(&api()).expect("a plain URL"))
    }

    /// Makes the id of a new person.
    #[must_use]
    pub fn user(&self) -> PrincipalId {
        UserId::generate(&*self.clock, &self.rng).into()
    }

    /// Returns claims that verify now: ten minutes, client `test-client`, no roles.
    #[must_use]
    pub fn claims(&self, subject: &PrincipalId, audience: &str, scopes: ScopeSet) -> AccessTokenClaims {
        let now = self.clock.now().timestamp();
        AccessTokenClaims {
            iss: ISSUER.to_owned(),
            sub: subject.clone(),
            aud: audience.to_owned(),
            exp: now + 600,
            iat: now,
            nbf: None,
            jti: TokenId::generate(&*self.clock, &self.rng).to_string(),
            client_id: "test-client".to_owned(),
            scope: scopes,
            roles: Vec::new(),
            grant_id: None,
            sid: None,
            cnf: None,
            act: None,
        }
    }

    /// Signs claims as an access token.
    #[must_use]
    pub fn mint(&self, claims: &AccessTokenClaims) -> String {
        let header = format!(r#"{{"alg":"ES256","typ":"at+jwt","kid":"{}"}}"#, self.jwk.kid());
        self.sign(&header, &serde_json::to_string(claims).expect("claims are JSON"))
    }

    /// Makes an access token of `subject` for `audience`.
    #[must_use]
    pub fn token(&self, subject: &PrincipalId, audience: &str, scopes: ScopeSet) -> String {
        self.mint(&self.claims(subject, audience, scopes))
    }

    /// Makes an access token of `subject` for the management plane.
    #[must_use]
    pub fn api_token(&self, subject: &PrincipalId, scopes: ScopeSet) -> String {
        self.token(subject, &api(), scopes)
    }

    /// Signs any header and payload: for tokens that must be refused.
    #[must_use]
    pub fn sign(&self, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).expect("the key signs");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// Makes a role known.
    pub fn put_role(&self, role: Role) {
        let key = format!("role/{}", role.id);
        let Role { id, name, policies, permissions } = role;
        self.put(vec![item(&key, Value::Role(proto::TrustRole { id, name, policies, permissions }))]);
    }

    /// Revokes one token by its `jti`.
    pub fn revoke_token(&self, token_id: &str) {
        self.revoke(RevocationKind::Token, token_id, None);
    }

    /// Revokes everything that came from a grant.
    pub fn revoke_grant(&self, grant_id: &str) {
        self.revoke(RevocationKind::Grant, grant_id, None);
    }

    /// Revokes the tokens of `subject` that were issued before `not_before`.
    pub fn revoke_principal(&self, subject: &PrincipalId, not_before: DateTime<Utc>) {
        self.revoke(RevocationKind::Principal, &subject.to_string(), Some(not_before));
    }

    /// Takes the key away, as the end of a rotation does.
    pub fn retire_key(&self) {
        self.change(TrustChange {
            removed: vec![format!("key/{}", self.jwk.kid())],
            ..TrustChange::default()
        });
    }

    /// Notes that the auth-server was heard of now.
    pub fn heartbeat(&self) {
        self.trust.confirm(self.clock.now());
    }

    /// Returns the private key as PKCS #8, for tokens that another library makes.
    #[must_use]
    pub fn private_key(&self) -> Vec<u8> {
        self.key.to_pkcs8v1().expect("the key can be written").as_ref().to_vec()
    }

    fn revoke(&self, kind: RevocationKind, value: &str, not_before: Option<DateTime<Utc>>) {
        let timestamp = |time: DateTime<Utc>| prost_types::Timestamp {
            seconds: time.timestamp(),
            nanos: i32::try_from(time.timestamp_subsec_nanos()).unwrap_or_default(),
        };
        let revocation = proto::TrustRevocation {
            kind: kind.into(),
            value: value.to_owned(),
            not_before: not_before.map(timestamp),
            expires_at: None,
        };
        self.put(vec![item(
            &format!("revocation/{}/{value}", kind.as_str_name()),
            Value::Revocation(revocation),
        )]);
    }

    fn put(&self, items: Vec<proto::TrustItem>) {
        self.change(TrustChange { items, ..TrustChange::default() });
    }

    fn change(&self, change: TrustChange) {
        let revision = self.trust.load().revision() + 1;
        self.trust.apply(TrustChange { revision, ..change }, self.clock.now());
    }
}

fn item(key: &str, value: Value) -> proto::TrustItem {
    proto::TrustItem { key: key.to_owned(), value: Some(value) }
}

fn api() -> String {
    format!("{ISSUER}/api")
}
