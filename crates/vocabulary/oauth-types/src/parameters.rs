//! Parameters of requests, in a query or in a form body.

use std::collections::HashMap;

use url::form_urlencoded;

use crate::{InvalidScope, OAuthError, OAuthErrorCode, ResourceUri, ScopeSet};

/// More parameters than any request has.
const MAX_PARAMETERS: usize = 64;

/// Decoded parameters. One without a value counts as absent, one that comes twice is refused (RFC 6749 §3.1, §3.2);
/// only `resource` may be repeated (RFC 8707 §2).
#[derive(Default)]
pub struct Parameters {
    values: HashMap<String, String>,
    resources: Vec<String>,
}

impl Parameters {
    /// Reads `application/x-www-form-urlencoded` text: a query without its `?`, or a body.
    pub fn parse(encoded: &[u8]) -> Result<Self, OAuthError> {
        let mut parameters = Self::default();
        for (position, (name, value)) in form_urlencoded::parse(encoded).enumerate() {
            if position >= MAX_PARAMETERS {
                return Err(OAuthError::invalid_request(
                    "the request has more than 64 parameters: remove some",
                ));
            }
            if value.is_empty() {
                continue;
            }
            if name == "resource" {
                parameters.resources.push(value.into_owned());
            } else if parameters.values.contains_key(&*name) {
                let message = format!("the parameter {name:.40} comes twice: send it once");
                return Err(OAuthError::invalid_request(message));
            } else {
                parameters.values.insert(name.into_owned(), value.into_owned());
            }
        }
        Ok(parameters)
    }

    /// Returns a parameter if it is there.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Returns a parameter that must be there.
    pub fn require(&self, name: &'static str) -> Result<&str, OAuthError> {
        self.get(name).ok_or_else(|| OAuthError::invalid_request(format!("the parameter {name} is missing")))
    }

    /// Returns the resources that the token shall be for (RFC 8707 §2), canonical.
    pub fn resources(&self) -> Result<Vec<ResourceUri>, OAuthError> {
        self.resources
            .iter()
            .map(|text| {
                ResourceUri::parse(text)
                    .map_err(|error| OAuthError::new(OAuthErrorCode::InvalidTarget, error.to_string()))
            })
            .collect()
    }

    /// Returns the scopes that are asked for, without those unknown here; `None` if the request names none, so that
    /// the default applies (RFC 6749 §3.3).
    pub fn scope(&self) -> Result<Option<ScopeSet>, OAuthError> {
        let Some(text) = self.get("scope") else { return Ok(None) };
        let refuse = |error: InvalidScope| OAuthError::new(OAuthErrorCode::InvalidScope, error.to_string());
        let known = ScopeSet::parse_known(text).map_err(refuse)?;
        if known.is_empty() {
            return Err(refuse(InvalidScope::Unknown(text.chars().take(80).collect())));
        }
        Ok(Some(known))
    }
}

/// Shows names only: values are codes, secrets and tokens.
impl std::fmt::Debug for Parameters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut names: Vec<_> = self.values.keys().collect();
        names.sort();
        f.debug_struct("Parameters").field("names", &names).field("resources", &self.resources).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn code(result: Result<Parameters, OAuthError>) -> Option<OAuthErrorCode> {
        result.err().map(|error| error.error)
    }

    #[test]
    fn a_parameter_without_a_value_counts_as_absent() {
        let parameters = Parameters::parse(b"state=&code=a%20b+c&state=").unwrap();
        assert_eq!(parameters.get("state"), None);
        assert_eq!(parameters.require("code").unwrap(), "a b c");
        assert_eq!(parameters.require("state").unwrap_err().error, OAuthErrorCode::InvalidRequest);
    }

    #[test]
    fn a_doubled_parameter_is_refused_but_resource_may_repeat() {
        assert_eq!(code(Parameters::parse(b"code=a&code=a")), Some(OAuthErrorCode::InvalidRequest));
        let parameters = Parameters::parse(b"resource=https://H/a&resource=https://h/b").unwrap();
        let resources: Vec<_> = parameters.resources().unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(resources, ["https://h/a", "https://h/b"]);
    }

    #[test]
    fn as_13_a_malformed_resource_is_an_invalid_target() {
        let parameters = Parameters::parse(b"resource=https://h/a%23x").unwrap();
        assert_eq!(parameters.resources().unwrap_err().error, OAuthErrorCode::InvalidTarget);
    }

    #[test]
    fn as_14_no_scope_is_no_error_and_only_unknown_ones_are() {
        let scope = |text: &[u8]| Parameters::parse(text).unwrap().scope().map_err(|error| error.error);
        assert_eq!(scope(b""), Ok(None));
        assert_eq!(scope(b"scope=mcp+fly"), Ok(Some(crate::Scope::Mcp.into())));
        assert_eq!(scope(b"scope=fly"), Err(OAuthErrorCode::InvalidScope));
        assert_eq!(scope(b"scope=mcp++admin"), Err(OAuthErrorCode::InvalidScope));
    }

    #[test]
    fn values_do_not_show_in_debug_output() {
        let parameters = Parameters::parse(b"code=top-secret").unwrap();
        let shown = format!("{parameters:?}");
        assert!(shown.contains("code") && !shown.contains("top-secret"));
    }

    #[test]
    fn too_many_parameters_are_refused() {
        let many: Vec<String> = (0..65).map(|n| format!("p{n}=x")).collect();
        assert_eq!(code(Parameters::parse(many.join("&").as_bytes())), Some(OAuthErrorCode::InvalidRequest));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Parameters::parse(&bytes);
        }
    }
}
