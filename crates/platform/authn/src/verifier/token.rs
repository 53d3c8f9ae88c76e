//! The compact form of a signed JWT (RFC 7515 §3.1), read strictly.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portico_oauth_types::AccessTokenClaims;
use serde::Deserialize;

use crate::TokenRejected;

/// Several times what the auth-server issues.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// An ES256 signature (RFC 7518 §3.4).
const SIGNATURE_BYTES: usize = 64;

/// The parts of a token. Nothing of it is verified.
pub(super) struct Compact<'a> {
    header: &'a str,
    payload: &'a str,
    signature: &'a str,
    /// What the signature is over: header and payload with the dot.
    pub(super) signed: &'a str,
}

/// The header fields that are accepted; any other one (`jku`, `jwk`, `x5u`, `x5c`, `crit`, `zip` …) makes the token
/// refused, because a token must not choose its own key (RFC 8725 §3.10) and `crit` may not be ignored
/// (RFC 7515 §4.1.11).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(borrow, default)]
    typ: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    kid: Option<Cow<'a, str>>,
}

impl<'a> Compact<'a> {
    /// Finds the three parts.
    pub(super) fn split(token: &'a str) -> Result<Self, TokenRejected> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenRejected::MALFORMED);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenRejected::MALFORMED)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenRejected::MALFORMED)?;
        if payload.contains('.') || header.is_empty() || payload.is_empty() {
            return Err(TokenRejected::MALFORMED);
        }
        Ok(Self { header, payload, signature, signed })
    }

    /// Checks the header and returns the name of the key.
    pub(super) fn check_header(&self) -> Result<String, TokenRejected> {
        let json = decode(self.header)?;
        let header: Header<'_> = serde_json::from_slice(&json).map_err(|_| TokenRejected::HEADER)?;
        if header.alg != "ES256" {
            return Err(TokenRejected::ALGORITHM);
        }
        let typ = header.typ.as_deref().unwrap_or_default();
        // RFC 9068 §4: with or without the prefix of the media type, which RFC 7515 §4.1.9 lets a sender omit.
        if !["at+jwt", "application/at+jwt"].iter().any(|known| typ.eq_ignore_ascii_case(known)) {
            return Err(TokenRejected::TYPE);
        }
        header.kid.map(Cow::into_owned).ok_or(TokenRejected::KEY)
    }

    /// Decodes the signature.
    pub(super) fn signature(&self) -> Result<[u8; SIGNATURE_BYTES], TokenRejected> {
        let mut bytes = [0; SIGNATURE_BYTES];
        match URL_SAFE_NO_PAD.decode_slice(self.signature, &mut bytes) {
            Ok(SIGNATURE_BYTES) => Ok(bytes),
            _ => Err(TokenRejected::SIGNATURE),
        }
    }

    /// Reads the claims; a claim that is missing, doubled or of the wrong type makes the token refused.
    pub(super) fn claims(&self) -> Result<AccessTokenClaims, TokenRejected> {
        let json = decode(self.payload)?;
        serde_json::from_slice(&json).map_err(|_| TokenRejected::CLAIMS)
    }
}

fn decode(part: &str) -> Result<Vec<u8>, TokenRejected> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenRejected::MALFORMED)
}
