//! How a client says which one it is (RFC 6749 §2.3).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use url::form_urlencoded;

use crate::{OAuthError, OAuthErrorCode, Parameters};

/// The one assertion type that is accepted (RFC 7523 §2.2).
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How a client authenticates at the token endpoint (RFC 7591 §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthMethod {
    /// It does not: a public client.
    None,
    /// With a secret in the Authorization header.
    ClientSecretBasic,
    /// With a secret in the body.
    ClientSecretPost,
    /// With a signed assertion (RFC 7523 §2.2).
    PrivateKeyJwt,
}

impl AuthMethod {
    /// Every method.
    pub const ALL: [Self; 4] =
        [Self::None, Self::ClientSecretBasic, Self::ClientSecretPost, Self::PrivateKeyJwt];

    /// Returns the method as metadata names it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ClientSecretBasic => "client_secret_basic",
            Self::ClientSecretPost => "client_secret_post",
            Self::PrivateKeyJwt => "private_key_jwt",
        }
    }

    /// Reads a method.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str() == text)
    }

    /// Tells whether the client gets a secret.
    #[must_use]
    pub const fn has_secret(self) -> bool {
        matches!(self, Self::ClientSecretBasic | Self::ClientSecretPost)
    }
}

/// What a client presented. Nothing of it is verified yet.
#[derive(Debug, Clone)]
pub enum ClientAuthentication {
    /// Only its id.
    Public {
        /// The client.
        client_id: String,
    },
    /// Its id and its secret.
    Secret {
        /// The client.
        client_id: String,
        /// The secret to compare.
        secret: SecretString,
        /// Where the secret was.
        method: AuthMethod,
    },
    /// A signed assertion.
    Assertion {
        /// The client, if the request names it beside the assertion.
        client_id: Option<String>,
        /// The JWT to verify.
        assertion: SecretString,
    },
}

impl ClientAuthentication {
    /// Reads the Authorization header and the body. More than one method is refused (RFC 6749 §2.3).
    pub fn from_request(authorization: Option<&str>, body: &Parameters) -> Result<Self, OAuthError> {
        let client_id = body.get("client_id");
        let secret = body.get("client_secret");
        let assertion = body.get("client_assertion");
        match (authorization, secret, assertion) {
            (Some(header), None, None) => Self::from_basic(header, client_id),
            (None, Some(secret), None) => Ok(Self::Secret {
                client_id: body.require("client_id")?.to_owned(),
                secret: SecretString::from(secret),
                method: AuthMethod::ClientSecretPost,
            }),
            (None, None, Some(assertion)) => {
                if body.get("client_assertion_type") != Some(JWT_BEARER) {
                    return Err(refused("client_assertion_type must be the one of RFC 7523 for JWTs"));
                }
                Ok(Self::Assertion {
                    client_id: client_id.map(str::to_owned),
                    assertion: SecretString::from(assertion),
                })
            }
            (None, None, None) => match client_id {
                Some(client_id) => Ok(Self::Public { client_id: client_id.to_owned() }),
                None => Err(refused("the request names no client: send client_id")),
            },
            _ => Err(OAuthError::invalid_request("the client authenticates in two ways at once: use one")),
        }
    }

    /// Reads Basic credentials; both parts are form-encoded inside the Base64 (RFC 6749 §2.3.1).
    fn from_basic(header: &str, named: Option<&str>) -> Result<Self, OAuthError> {
        const WRONG: &str = "the Authorization header is not Basic with client id and secret";
        let (scheme, credentials) = header.split_once(' ').ok_or_else(|| refused(WRONG))?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err(refused(WRONG));
        }
        let bytes = STANDARD.decode(credentials.trim()).map_err(|_| refused(WRONG))?;
        let text = String::from_utf8(bytes).map_err(|_| refused(WRONG))?;
        let (id, secret) = text.split_once(':').ok_or_else(|| refused(WRONG))?;
        let (id, secret) = (form_decode(id), form_decode(secret));
        if id.is_empty() || secret.is_empty() {
            return Err(refused(WRONG));
        }
        if named.is_some_and(|named| named != id) {
            return Err(OAuthError::invalid_request("client_id differs from the Authorization header"));
        }
        Ok(Self::Secret {
            client_id: id,
            secret: SecretString::from(secret),
            method: AuthMethod::ClientSecretBasic,
        })
    }
}

fn refused(description: &'static str) -> OAuthError {
    OAuthError::new(OAuthErrorCode::InvalidClient, description)
}

/// Decodes one form-encoded value; `&` and `=` cannot be in it unencoded, but are taken as they are.
fn form_decode(text: &str) -> String {
    let escaped = text.replace('&', "%26").replace('=', "%3D");
    form_urlencoded::parse(escaped.as_bytes()).map(|(name, _)| name.into_owned()).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn read(authorization: Option<&str>, body: &str) -> Result<ClientAuthentication, OAuthErrorCode> {
        let body = Parameters::parse(body.as_bytes()).unwrap();
        ClientAuthentication::from_request(authorization, &body).map_err(|error| error.error)
    }

    fn basic(text: &str) -> String {
        format!("Basic {}", STANDARD.encode(text))
    }

    #[test]
    fn as_20_secrets_are_read_from_header_and_body() {
        for (header, body, expected) in [
            (Some(basic("c:s%2B+x%3A")), "", ("c", "s+ x:", AuthMethod::ClientSecretBasic)),
            (Some(basic("c:a=b&c")), "client_id=c", ("c", "a=b&c", AuthMethod::ClientSecretBasic)),
            (None, "client_id=c&client_secret=s", ("c", "s", AuthMethod::ClientSecretPost)),
        ] {
            let Ok(ClientAuthentication::Secret { client_id, secret, method }) =
                read(header.as_deref(), body)
            else {
                panic!("{header:?} {body}");
            };
            assert_eq!((client_id.as_str(), secret.expose_secret(), method), expected);
        }
    }

    #[test]
    fn as_20_a_public_client_names_itself_only() {
        assert!(
            matches!(read(None, "client_id=c"), Ok(ClientAuthentication::Public { client_id }) if client_id == "c")
        );
    }

    #[test]
    fn as_20_two_methods_at_once_and_nonsense_are_refused() {
        let jwt =
            "client_assertion=x&client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        assert!(matches!(read(None, jwt), Ok(ClientAuthentication::Assertion { .. })));
        for (header, body, code) in [
            (None, "", OAuthErrorCode::InvalidClient),
            (None, "client_secret=s", OAuthErrorCode::InvalidRequest),
            (None, "client_id=c&client_assertion=x", OAuthErrorCode::InvalidClient),
            (Some(basic("c:s")), "client_secret=s", OAuthErrorCode::InvalidRequest),
            (Some(basic("c:s")), jwt, OAuthErrorCode::InvalidRequest),
            (Some(basic("c:s")), "client_id=d", OAuthErrorCode::InvalidRequest),
            (Some(basic("c")), "", OAuthErrorCode::InvalidClient),
            (Some(basic(":s")), "", OAuthErrorCode::InvalidClient),
            (Some(basic("c:")), "", OAuthErrorCode::InvalidClient),
            (Some("Basic ???".to_owned()), "", OAuthErrorCode::InvalidClient),
            (Some("Bearer x".to_owned()), "client_id=c", OAuthErrorCode::InvalidClient),
        ] {
            assert_eq!(read(header.as_deref(), body).err(), Some(code), "{header:?} {body}");
        }
    }
}
