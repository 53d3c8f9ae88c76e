//! Proof key for code exchange (RFC 7636). Only S256: `plain` proves nothing to whoever saw the request.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why a challenge or a verifier cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPkce {
    /// The request has no challenge.
    #[error("code_challenge is missing: this server requires PKCE (RFC 7636) of every client")]
    ChallengeMissing,
    /// The method is absent, which means `plain` (RFC 7636 §4.3), or another one than S256.
    #[error("code_challenge_method must be S256")]
    Method,
    /// The challenge is not a SHA-256 hash (RFC 7636 §4.2).
    #[error("code_challenge must be 43 base64url characters without padding, the SHA-256 of the verifier")]
    Challenge,
    /// The verifier breaks the grammar of RFC 7636 §4.1.
    #[error("code_verifier must be 43 to 128 characters out of A-Z a-z 0-9 - . _ ~")]
    Verifier,
}

/// The SHA-256 of a verifier, sent with the authorization request.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CodeChallenge([u8; 32]);

impl CodeChallenge {
    /// Reads a challenge of method S256 (RFC 7636 §4.2).
    pub fn parse(text: &str) -> Result<Self, InvalidPkce> {
        let mut hash = [0; 32];
        match URL_SAFE_NO_PAD.decode_slice(text, &mut hash) {
            Ok(32) => Ok(Self(hash)),
            _ => Err(InvalidPkce::Challenge),
        }
    }

    /// Reads the two parameters of an authorization request (RFC 7636 §4.3).
    pub fn from_request(challenge: Option<&str>, method: Option<&str>) -> Result<Self, InvalidPkce> {
        let challenge = challenge.ok_or(InvalidPkce::ChallengeMissing)?;
        if method != Some("S256") {
            return Err(InvalidPkce::Method);
        }
        Self::parse(challenge)
    }

    /// Tells whether `verifier` belongs to this challenge, in constant time (RFC 7636 §4.6).
    #[must_use]
    pub fn verify(&self, verifier: &CodeVerifier) -> bool {
        verify_slices_are_equal(&self.0, &verifier.challenge().0).is_ok()
    }
}

impl fmt::Display for CodeChallenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for CodeChallenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CodeChallenge({self})")
    }
}

impl Serialize for CodeChallenge {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CodeChallenge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// The secret that proves that whoever redeems a code also asked for it.
#[derive(Debug, Clone)]
pub struct CodeVerifier(SecretString);

impl CodeVerifier {
    /// Reads a verifier (RFC 7636 §4.1).
    pub fn parse(text: &str) -> Result<Self, InvalidPkce> {
        let unreserved = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
        if !(43..=128).contains(&text.len()) || !text.bytes().all(unreserved) {
            return Err(InvalidPkce::Verifier);
        }
        Ok(Self(SecretString::from(text)))
    }

    /// Returns the challenge that belongs to this verifier (RFC 7636 §4.2).
    #[must_use]
    pub fn challenge(&self) -> CodeChallenge {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, self.0.expose_secret().as_bytes()).as_ref());
        CodeChallenge(hash)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // RFC 7636 appendix B.
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    #[test]
    fn as_10_the_example_of_the_rfc_verifies_and_another_verifier_does_not() {
        let challenge = CodeChallenge::parse(CHALLENGE).unwrap();
        assert!(challenge.verify(&CodeVerifier::parse(VERIFIER).unwrap()));
        assert!(!challenge.verify(&CodeVerifier::parse(&VERIFIER.replace('d', "e")).unwrap()));
        assert_eq!(challenge.to_string(), CHALLENGE);
    }

    #[test]
    fn as_10_only_s256_is_accepted() {
        for method in [None, Some("plain"), Some("s256"), Some("")] {
            assert_eq!(CodeChallenge::from_request(Some(CHALLENGE), method), Err(InvalidPkce::Method));
        }
        assert_eq!(CodeChallenge::from_request(None, Some("S256")), Err(InvalidPkce::ChallengeMissing));
        assert!(CodeChallenge::from_request(Some(CHALLENGE), Some("S256")).is_ok());
    }

    #[test]
    fn as_10_lengths_and_characters_are_checked() {
        for text in [
            "",
            &CHALLENGE[1..],
            &format!("{CHALLENGE}A"),
            &format!("{CHALLENGE}="),
            &CHALLENGE.replace('-', "+"),
        ] {
            assert_eq!(CodeChallenge::parse(text), Err(InvalidPkce::Challenge), "{text}");
        }
        for text in ["", &VERIFIER[1..], &"a".repeat(129), &format!("{VERIFIER} "), &format!("{VERIFIER}é")]
        {
            assert!(CodeVerifier::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_verifier_does_not_show_in_debug_output() {
        assert!(!format!("{:?}", CodeVerifier::parse(VERIFIER)).contains(VERIFIER));
    }

    proptest! {
        #[test]
        fn every_verifier_verifies_against_its_own_challenge_only(one in "[A-Za-z0-9._~-]{43,128}", two in "[A-Za-z0-9._~-]{43,128}") {
            let (first, second) = (CodeVerifier::parse(&one).unwrap(), CodeVerifier::parse(&two).unwrap());
            prop_assert!(first.challenge().verify(&first));
            prop_assert_eq!(first.challenge().verify(&second), one == two);
        }
    }
}
