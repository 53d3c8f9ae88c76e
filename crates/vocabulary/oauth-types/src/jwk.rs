//! Public signing keys (RFC 7517, RFC 7518 §6.2). Portico signs with ES256, so there is one kind: EC on P-256.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// Why a JSON object is not a public key that can verify ES256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidJwk {
    /// It is another kind of key, or says that it is for something else.
    #[error("not a key for ES256: kty must be EC, crv P-256, and alg and use, if present, ES256 and sig")]
    Kind,
    /// It has a private part, which must not be here.
    #[error("the key has a private part: publish the public part only, and replace the key")]
    Private,
    /// A coordinate is not 32 bytes of base64url (RFC 7518 §6.2.1.2).
    #[error("a coordinate of the key is not 32 bytes of base64url")]
    Coordinate,
    /// The key has no name, or one that is too long.
    #[error("the key has no kid of 1 to 128 characters")]
    KeyId,
}

/// A public EC key on P-256 with its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawJwk", into = "RawJwk")]
pub struct Jwk {
    kid: String,
    x: [u8; 32],
    y: [u8; 32],
}

/// The JSON form.
#[derive(Clone, Serialize, Deserialize)]
struct RawJwk {
    kty: String,
    #[serde(rename = "use", default, skip_serializing_if = "Option::is_none")]
    usage: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alg: Option<String>,
    #[serde(default)]
    kid: String,
    #[serde(default)]
    crv: String,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
    #[serde(default, skip_serializing)]
    d: Option<Value>,
}

impl Jwk {
    /// Makes the key of an uncompressed point (SEC 1 §2.3.3: `04 || x || y`) and names it by its thumbprint.
    pub fn from_point(point: &[u8]) -> Result<Self, InvalidJwk> {
        let (Some((4, coordinates)), 65) = (point.split_first(), point.len()) else {
            return Err(InvalidJwk::Coordinate);
        };
        let (mut x, mut y) = ([0; 32], [0; 32]);
        x.copy_from_slice(&coordinates[..32]);
        y.copy_from_slice(&coordinates[32..]);
        let mut key = Self { kid: String::new(), x, y };
        key.kid = key.thumbprint();
        Ok(key)
    }

    /// Returns the name of the key.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Returns the uncompressed point (SEC 1 §2.3.3).
    #[must_use]
    pub fn point(&self) -> [u8; 65] {
        let mut point = [4; 65];
        point[1..33].copy_from_slice(&self.x);
        point[33..].copy_from_slice(&self.y);
        point
    }

    /// Returns the SHA-256 thumbprint in base64url (RFC 7638 §3.2).
    #[must_use]
    pub fn thumbprint(&self) -> String {
        let (x, y) = (URL_SAFE_NO_PAD.encode(self.x), URL_SAFE_NO_PAD.encode(self.y));
        let members = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        URL_SAFE_NO_PAD.encode(digest(&SHA256, members.as_bytes()))
    }
}

impl TryFrom<RawJwk> for Jwk {
    type Error = InvalidJwk;

    fn try_from(raw: RawJwk) -> Result<Self, InvalidJwk> {
        let alg_fits = raw.alg.is_none_or(|alg| alg == "ES256");
        let use_fits = raw.usage.is_none_or(|usage| usage == "sig");
        if raw.kty != "EC" || raw.crv != "P-256" || !alg_fits || !use_fits {
            return Err(InvalidJwk::Kind);
        }
        if raw.d.is_some() {
            return Err(InvalidJwk::Private);
        }
        if raw.kid.is_empty() || raw.kid.len() > 128 {
            return Err(InvalidJwk::KeyId);
        }
        Ok(Self { kid: raw.kid, x: coordinate(&raw.x)?, y: coordinate(&raw.y)? })
    }
}

fn coordinate(text: &str) -> Result<[u8; 32], InvalidJwk> {
    let mut bytes = [0; 32];
    match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
        Ok(32) => Ok(bytes),
        _ => Err(InvalidJwk::Coordinate),
    }
}

impl From<Jwk> for RawJwk {
    fn from(key: Jwk) -> Self {
        Self {
            kty: "EC".to_owned(),
            usage: Some("sig".to_owned()),
            alg: Some("ES256".to_owned()),
            crv: "P-256".to_owned(),
            x: URL_SAFE_NO_PAD.encode(key.x),
            y: URL_SAFE_NO_PAD.encode(key.y),
            kid: key.kid,
            d: None,
        }
    }
}

/// A set of public keys (RFC 7517 §5).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JwkSet {
    /// The keys; those of other kinds are left out on reading, as RFC 7517 §5 asks.
    #[serde(deserialize_with = "usable_keys")]
    pub keys: Vec<Jwk>,
}

impl JwkSet {
    /// Finds a key by its name.
    #[must_use]
    pub fn find(&self, kid: &str) -> Option<&Jwk> {
        self.keys.iter().find(|key| key.kid == kid)
    }
}

fn usable_keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Jwk>, D::Error> {
    let values = Vec::<Value>::deserialize(deserializer)?;
    Ok(values.into_iter().filter_map(|value| serde_json::from_value(value).ok()).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    // RFC 7517 appendix A.1, first key.
    fn example() -> Value {
        json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "kid": "1",
            "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
            "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
        })
    }

    fn with(field: &str, value: Value) -> Result<Jwk, String> {
        let mut jwk = example();
        jwk[field] = value;
        serde_json::from_value(jwk).map_err(|error| error.to_string())
    }

    #[test]
    fn a_key_reads_back_as_written() {
        let key: Jwk = serde_json::from_value(example()).unwrap();
        let again: Jwk = serde_json::from_str(&serde_json::to_string(&key).unwrap()).unwrap();
        assert_eq!(key, again);
        let named = Jwk::from_point(&key.point()).unwrap();
        assert_eq!((named.kid(), named.point()), (key.thumbprint().as_str(), key.point()));
    }

    #[test]
    fn rs_22_keys_of_another_kind_are_refused() {
        for (field, value) in [
            ("kty", json!("RSA")),
            ("kty", json!("oct")),
            ("crv", json!("P-384")),
            ("crv", json!("secp256k1")),
            ("alg", json!("HS256")),
            ("alg", json!("none")),
            ("use", json!("enc")),
            ("d", json!("secret")),
            ("x", json!("MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D")),
            ("x", json!("MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4=")),
            ("y", json!("")),
            ("kid", json!("")),
            ("kid", json!("k".repeat(129))),
            ("kid", json!(1)),
        ] {
            assert!(with(field, value.clone()).is_err(), "{field} {value}");
        }
    }

    #[test]
    fn a_set_keeps_the_keys_that_can_verify() {
        let set =
            json!({"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "2"}, example(), {"kty": 7}]});
        let set: JwkSet = serde_json::from_value(set).unwrap();
        assert_eq!(set.keys.len(), 1);
        assert!(set.find("1").is_some() && set.find("2").is_none());
    }

    #[test]
    fn points_in_another_form_are_refused() {
        for point in [&[][..], &[4; 64], &[4; 66], &[2; 65]] {
            assert_eq!(Jwk::from_point(point), Err(InvalidJwk::Coordinate));
        }
    }
}
