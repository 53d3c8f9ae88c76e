//! Signing and reading our own JWTs: ES256 only (RFC 7515, RFC 7518 §3.4).

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portico_oauth_types::Jwk;
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// `typ` of access tokens (RFC 9068 §2.1).
pub(crate) const ACCESS_TOKEN: &str = "at+jwt";
/// `typ` of ID tokens.
pub(crate) const ID_TOKEN: &str = "JWT";
/// The only algorithm.
const ES256: &str = "ES256";
/// Longest token that is looked at.
const MAX_BYTES: usize = 16 * 1024;

/// A key could not be made or read, or did not sign.
#[derive(Debug, thiserror::Error)]
#[error("the signing key cannot be used")]
pub(crate) struct KeyFailure;

/// A private key with its public half.
pub(crate) struct SigningKey {
    pair: EcdsaKeyPair,
    jwk: Jwk,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.jwk.kid()).finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
    #[serde(default, skip_serializing)]
    crit: Option<serde_json::Value>,
}

impl SigningKey {
    /// Makes a key and returns it with its PKCS #8 form, which must be sealed.
    pub(crate) fn generate() -> Result<(Self, Zeroizing<Vec<u8>>), KeyFailure> {
        // The library's own generator: a private key is nothing that a test has to foresee.
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map_err(|_| KeyFailure)?;
        let pkcs8 = Zeroizing::new(document.as_ref().to_vec());
        Ok((Self::from_pkcs8(&pkcs8)?, pkcs8))
    }

    pub(crate) fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, KeyFailure> {
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).map_err(|_| KeyFailure)?;
        let jwk = Jwk::from_point(pair.public_key().as_ref()).map_err(|_| KeyFailure)?;
        Ok(Self { pair, jwk })
    }

    pub(crate) const fn jwk(&self) -> &Jwk {
        &self.jwk
    }

    /// Signs claims (RFC 7515 §7.1).
    pub(crate) fn sign(&self, typ: &str, claims: &impl Serialize) -> Result<SecretString, KeyFailure> {
        let header =
            Header { alg: ES256.into(), typ: typ.into(), kid: self.jwk.kid().to_owned(), crit: None };
        let encode = |json: Result<Vec<u8>, serde_json::Error>| {
            json.map(|json| URL_SAFE_NO_PAD.encode(json)).map_err(|_| KeyFailure)
        };
        let mut token =
            format!("{}.{}", encode(serde_json::to_vec(&header))?, encode(serde_json::to_vec(claims))?);
        let signature = self.pair.sign(&SystemRandom::new(), token.as_bytes()).map_err(|_| KeyFailure)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature.as_ref(), &mut token);
        Ok(SecretString::from(token))
    }
}

/// Reads the claims of a token that one of `keys` signed with the expected `typ`; nothing else is checked.
pub(crate) fn open<C: DeserializeOwned>(token: &str, typ: &str, keys: &[Jwk]) -> Option<C> {
    if token.len() > MAX_BYTES {
        return None;
    }
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
    if header.alg != ES256 || !header.typ.eq_ignore_ascii_case(typ) || header.crit.is_some() {
        return None;
    }
    let key = keys.iter().find(|key| key.kid() == header.kid)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.point())
        .verify(signed.as_bytes(), &signature)
        .ok()?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
}

/// Reads a client's assertion, whose `typ` is free and whose `kid` may be absent (RFC 7523 §3).
pub(crate) fn open_assertion<C: DeserializeOwned>(token: &str, keys: &[Jwk]) -> Option<C> {
    #[derive(Deserialize)]
    struct AssertionHeader {
        alg: String,
        #[serde(default)]
        kid: Option<String>,
        #[serde(default)]
        crit: Option<serde_json::Value>,
    }
    if token.len() > MAX_BYTES {
        return None;
    }
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let header: AssertionHeader = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
    if header.alg != ES256 || header.crit.is_some() {
        return None;
    }
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    keys.iter().filter(|key| header.kid.as_deref().is_none_or(|kid| kid == key.kid())).find(|key| {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.point())
            .verify(signed.as_bytes(), &signature)
            .is_ok()
    })?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn s2_15_what_is_signed_is_read_back_with_its_type_and_key_only() {
        let (key, pkcs8) = SigningKey::generate().unwrap();
        let (other, _) = SigningKey::generate().unwrap();
        let token = key.sign(ACCESS_TOKEN, &json!({"sub": "x"})).unwrap();
        let token = token.expose_secret();
        let keys = [SigningKey::from_pkcs8(&pkcs8).unwrap().jwk().clone()];
        assert_eq!(open::<Value>(token, ACCESS_TOKEN, &keys), Some(json!({"sub": "x"})));
        assert_eq!(open::<Value>(token, ID_TOKEN, &keys), None);
        assert_eq!(open::<Value>(token, ACCESS_TOKEN, &[other.jwk().clone()]), None);
        assert_eq!(open_assertion::<Value>(token, &keys), Some(json!({"sub": "x"})));
    }

    #[test]
    fn altered_tokens_and_other_algorithms_are_not_read() {
        let (key, _) = SigningKey::generate().unwrap();
        let keys = [key.jwk().clone()];
        let token = key.sign(ACCESS_TOKEN, &json!({"sub": "x"})).unwrap();
        let parts: Vec<&str> = token.expose_secret().split('.').collect();
        let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = |alg: &str, more: Value| {
            let mut header = json!({"alg": alg, "typ": ACCESS_TOKEN, "kid": key.jwk().kid()});
            header.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            encode(header)
        };
        for forged in [
            format!("{}.{}.{}", parts[0], encode(json!({"sub": "y"})), parts[2]),
            format!("{}.{}.", header("none", json!({})), parts[1]),
            format!("{}.{}.{}", header("HS256", json!({})), parts[1], parts[2]),
            format!("{}.{}.{}", header("ES256", json!({"crit": ["exp"]})), parts[1], parts[2]),
            format!("{}.{}", parts[0], parts[1]),
            String::new(),
        ] {
            assert_eq!(open::<Value>(&forged, ACCESS_TOKEN, &keys), None, "{forged}");
            assert_eq!(open_assertion::<Value>(&forged, &keys), None, "{forged}");
        }
    }
}
