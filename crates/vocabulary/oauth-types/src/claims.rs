//! Claims of access tokens (RFC 9068 §2.2) and of ID tokens (OpenID Connect Core §2).

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portico_ids::PrincipalId;
use serde::{Deserialize, Serialize};

use crate::ScopeSet;

/// What an access token says. Times are seconds since 1970 (RFC 7519 §2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessTokenClaims {
    /// Who issued it.
    pub iss: String,
    /// Who acts.
    pub sub: PrincipalId,
    /// The one resource that it is for: a list is not accepted.
    pub aud: String,
    /// When it ends.
    pub exp: i64,
    /// When it was issued.
    pub iat: i64,
    /// Before when it is not valid yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// Its own name.
    pub jti: String,
    /// The client that it was issued to.
    pub client_id: String,
    /// What it allows.
    #[serde(default)]
    pub scope: ScopeSet,
    /// Roles of the subject: `ROLE_UUID` everywhere, `ROLE_UUID@ENDPOINT_NAME` on one endpoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// The grant that it came from; revoking the grant ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant_id: Option<String>,
    /// The login session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// The key that a sender has to prove (RFC 7800 §3.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cnf: Option<Confirmation>,
    /// Who acts for the subject (RFC 8693 §4.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Actor>,
}

/// The key that binds a token to its sender.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmation {
    /// Thumbprint of a `DPoP` key (RFC 9449 §6.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jkt: Option<String>,
    /// Thumbprint of a client certificate (RFC 8705 §3.1).
    #[serde(rename = "x5t#S256", default, skip_serializing_if = "Option::is_none")]
    pub x5t_s256: Option<String>,
}

/// Who acts for the subject, and for whom that one acts in turn (RFC 8693 §4.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The actor.
    pub sub: String,
    /// The one before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Box<Actor>>,
}

/// What an ID token says about the login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdTokenClaims {
    /// Who issued it.
    pub iss: String,
    /// Who logged in.
    pub sub: PrincipalId,
    /// The client that it is for.
    pub aud: String,
    /// When it ends.
    pub exp: i64,
    /// When it was issued.
    pub iat: i64,
    /// When the person logged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<i64>,
    /// The nonce of the authorization request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// Binds the access token that came along (OpenID Connect Core §3.1.3.6): see [`left_half_hash`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_hash: Option<String>,
    /// The login session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// Scope `profile`: the full name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Scope `profile`: the user name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_username: Option<String>,
    /// Scope `email`: the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Scope `email`: whether the address was checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email_verified: Option<bool>,
}

/// Hashes a token for `at_hash`: the left half of its SHA-256 in base64url (OpenID Connect Core §3.1.3.6).
#[must_use]
pub fn left_half_hash(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(&digest(&SHA256, token.as_bytes()).as_ref()[..16])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn example() -> Value {
        json!({
            "iss": "https://h", "sub": "user:01890a5d-ac96-774b-bcce-b302099a8057", "aud": "https://h/mcp",
            "exp": 1_800_000_600, "iat": 1_800_000_000, "jti": "t", "client_id": "c", "scope": "mcp",
        })
    }

    fn read(value: Value) -> Result<AccessTokenClaims, serde_json::Error> {
        serde_json::from_value(value)
    }

    #[test]
    fn claims_read_back_as_written() {
        let claims = read(example()).unwrap();
        assert_eq!(serde_json::to_value(&claims).unwrap(), example());
    }

    #[test]
    fn rs_20_rs_23_absent_and_mistyped_claims_are_refused() {
        for name in ["iss", "sub", "aud", "exp", "iat", "jti", "client_id"] {
            let mut claims = example();
            claims.as_object_mut().unwrap().remove(name);
            assert!(read(claims).is_err(), "{name} absent");
        }
        for (name, value) in [
            ("exp", json!("1800000600")),
            ("exp", json!(1.5)),
            ("exp", Value::Null),
            ("iat", json!(true)),
            ("nbf", json!("0")),
            ("aud", json!(["https://h/mcp"])),
            ("sub", json!("bob")),
            ("jti", json!(1)),
            ("scope", json!(["mcp"])),
            ("roles", json!("admin")),
        ] {
            let mut claims = example();
            claims[name] = value.clone();
            assert!(read(claims).is_err(), "{name} = {value}");
        }
    }

    #[test]
    fn the_access_token_hash_is_that_of_openid_connect() {
        // OpenID Connect Core appendix A.3.
        assert_eq!(left_half_hash("jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y"), "77QmUPtjPfzWtF2AnpK9RQ");
    }
}
