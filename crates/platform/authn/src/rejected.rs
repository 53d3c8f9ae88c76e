//! Why a token is refused: one small table of stable codes.

use std::fmt;

/// Why an access token is refused.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub struct TokenRejected {
    /// The stable code that programs read.
    pub code: &'static str,
    /// What is wrong and what to do, for a person; the text of the whole says it more precisely where it can.
    pub message: &'static str,
    /// Whether nothing is wrong with the token: this verifier cannot decide now (503 instead of 401).
    pub unavailable: bool,
    /// By how many seconds clocks differ, for [`Self::NOT_YET_VALID`] and [`Self::CLOCKS_DIFFER`]: positive if the
    /// clock of the auth-server is ahead. The text names them.
    pub skew_seconds: Option<i64>,
}

/// By the reason alone: how far clocks differ makes no other one.
impl PartialEq for TokenRejected {
    fn eq(&self, other: &Self) -> bool {
        (self.code, self.unavailable) == (other.code, other.unavailable)
    }
}

impl Eq for TokenRejected {}

impl fmt::Display for TokenRejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.skew_seconds {
            Some(seconds) if self.unavailable => write!(
                f,
                "the clock of the auth-server is {} s {} the clock of this service: set them right, then try again",
                seconds.unsigned_abs(),
                if seconds < 0 { "behind" } else { "ahead of" }
            ),
            Some(seconds) => write!(
                f,
                "the access token was issued {seconds} s in the future: check the clocks of gateway and auth-server"
            ),
            None => f.write_str(self.message),
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $message:literal;)+) => {
        impl TokenRejected {
            $($(#[$doc])* pub const $name: Self = Self { code: $code, message: $message, unavailable: false, skew_seconds: None };)+
        }
    };
}

reasons! {
    /// No Authorization header.
    MISSING = "token_missing", "the request has no access token: send Authorization: Bearer TOKEN";
    /// The Authorization header is not one `Bearer` token (RFC 6750 §2.1).
    CREDENTIALS = "credentials_malformed", "the Authorization header is not one Bearer token";
    /// Not three parts of base64url (RFC 7515 §3.1), or far too long.
    MALFORMED = "token_malformed", "the access token is not a signed JWT: ask the authorization server for one";
    /// The header is not JSON or names a key, a certificate or an extension of its own (RFC 8725 §3.10).
    HEADER = "token_header_refused", "the header of the access token has fields that are not accepted";
    /// `alg` is not what the key is for (RFC 8725 §3.1).
    ALGORITHM = "token_algorithm_refused", "the access token is not signed with ES256";
    /// `typ` is not `at+jwt` (RFC 9068 §4).
    TYPE = "token_type_wrong", "this is not an access token: send neither an ID token nor a refresh token";
    /// Nobody trusted has a key of this name.
    KEY = "token_key_unknown", "the access token is signed with a key that is not trusted here: get a new token";
    /// The signature does not fit.
    SIGNATURE = "token_signature_invalid", "the signature of the access token is invalid: get a new token";
    /// A claim is missing or has the wrong type (RFC 9068 §2.2).
    CLAIMS = "token_claims_invalid", "a claim of the access token is missing or malformed: get a new token";
    /// Another issuer (RFC 9068 §4).
    ISSUER = "token_issuer_wrong", "the access token comes from another issuer: get one from this deployment";
    /// Another resource (RFC 8707 §2).
    AUDIENCE = "token_audience_wrong", "the access token is for another resource: ask for one for this URL";
    /// Its time is over.
    EXPIRED = "token_expired", "the access token has expired: get a new one";
    /// Its time has not come.
    NOT_YET_VALID = "clock_skew", "the access token is not valid yet: check the clocks of gateway and auth-server";
    /// It, its grant or its subject's older tokens were revoked.
    REVOKED = "token_revoked", "the access token was revoked: sign in again";
    /// It is bound to a key that a bearer does not prove (RFC 9449 §7.1).
    SENDER_CONSTRAINED = "token_sender_constrained", "the access token is bound to a key: it cannot be used as a Bearer";
}

impl TokenRejected {
    /// What is known of keys and revocations is too old to decide.
    pub const TRUST_STALE: Self = Self {
        code: "trust_stale",
        message: "the authorization server has not been heard of for too long: try again later",
        unavailable: true,
        skew_seconds: None,
    };

    /// The clock of the auth-server is so far from this one that no time of a token means anything.
    pub const CLOCKS_DIFFER: Self = Self {
        code: Self::NOT_YET_VALID.code,
        message: "the clocks of this service and of the auth-server differ by too much: set them right, then try again",
        unavailable: true,
        skew_seconds: None,
    };

    pub(crate) const fn by(self, skew_seconds: i64) -> Self {
        Self { skew_seconds: Some(skew_seconds), ..self }
    }
}
