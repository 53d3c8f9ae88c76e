//! Tokens that nobody would issue, signed with the deployment's own key: what is refused then is refused for what it
//! says.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use portico_ids::SystemRng;
use portico_sealing::{Aad, KeyRing, Sealer};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use crate::deployment::Deployment;

/// The signing key of a deployment, and a token of its to start from.
pub struct Forge {
    kid: String,
    pkcs8: Vec<u8>,
    public_jwk: String,
    genuine: Value,
}

/// Key id, public key and sealed private key.
type Row = (String, String, Vec<u8>);

/// The key that signs now.
fn key_query(schema: &str) -> String {
    format!(
        "SELECT kid, public_jwk, private_sealed FROM {schema}signing_keys WHERE retires_at IS NULL \
         ORDER BY created_at DESC LIMIT 1"
    )
}

impl std::fmt::Debug for Forge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forge").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl Forge {
    /// Opens the key in the database, with the key ring of the deployment.
    pub async fn of(deployment: &Deployment, genuine: &str) -> Self {
        let (ring, (kid, public_jwk, sealed)): (_, Row) = if let Some(platform) = deployment.platform() {
            let pool = sqlx::PgPool::connect(&platform.database_url()).await.expect("the database");
            let query = sqlx::query_as(AssertSqlSafe(key_query("auth_server.")));
            (platform.directory().join("secrets/keys.json"), query.fetch_one(&pool).await.unwrap())
        } else {
            let data = deployment.data_dir();
            let url = format!("sqlite://{}?mode=ro", data.join("auth_server.db").display());
            let pool = sqlx::SqlitePool::connect(&url).await.expect("the database");
            let query = sqlx::query_as(AssertSqlSafe(key_query("")));
            (data.join("keys.json"), query.fetch_one(&pool).await.unwrap())
        };
        let ring = KeyRing::load(&ring).expect("the key ring of the deployment");
        let aad = Aad { table: "signing_keys", row: &kid, field: "private_sealed", version: 1 };
        let pkcs8 =
            Sealer::new(&ring, Arc::new(SystemRng)).open(&aad, &sealed).expect("the sealed key opens");
        let pkcs8 = pkcs8.expose_secret().to_vec();
        Self { pkcs8, public_jwk, genuine: claims(genuine), kid }
    }

    /// The claims of the genuine token.
    #[must_use]
    pub fn claims(&self) -> Value {
        self.genuine.clone()
    }

    #[must_use]
    pub fn header(&self) -> Value {
        json!({ "alg": "ES256", "typ": "at+jwt", "kid": self.kid })
    }

    /// Signs whatever is asked for, with the right key.
    #[must_use]
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let text = format!("{}.{}", encoded(header), encoded(claims));
        let key = EncodingKey::from_ec_der(&self.pkcs8);
        let signature = jsonwebtoken::crypto::sign(text.as_bytes(), &key, Algorithm::ES256).unwrap();
        format!("{text}.{signature}")
    }

    /// Signed with HMAC, the public key as its secret (RFC 8725 §2.1).
    #[must_use]
    pub fn sign_with_public_key(&self, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::HS256);
        header.typ = Some("at+jwt".to_owned());
        header.kid = Some(self.kid.clone());
        let key = EncodingKey::from_secret(self.public_jwk.as_bytes());
        jsonwebtoken::encode(&header, claims, &key).unwrap()
    }

    /// Not signed at all.
    #[must_use]
    pub fn unsigned(&self, claims: &Value) -> String {
        let header = json!({ "alg": "none", "typ": "at+jwt", "kid": self.kid });
        format!("{}.{}.", encoded(&header), encoded(claims))
    }
}

fn encoded(part: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(part.to_string())
}

/// The claims of a token, unchecked.
#[must_use]
pub fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).expect("a JWT");
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}
