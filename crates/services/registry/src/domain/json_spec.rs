//! How an instance is reached: the `json_spec` document of an instance, parsed (S4-09).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::env_schema::EnvSchema;
use super::secret::SecretRef;
use crate::errors::RegistryError;

/// Largest document, as JSON text.
const DOCUMENT_LIMIT: usize = 64 * 1024;
/// Longest URL.
const URL_LIMIT: usize = 2048;
/// Bounds of every duration in a document, in seconds.
const SECONDS: std::ops::RangeInclusive<f64> = 0.1..=3600.0;
/// Most failed probes in a row that an owner may ask for.
const MOST_RETRIES: u32 = 100;

/// A document that describes something reachable.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct JsonSpec {
    /// The document as the owner wrote it.
    pub(crate) document: Value,
    pub(crate) url: UrlSpec,
    /// Every secret that the document refers to, each once.
    pub(crate) secrets: Vec<SecretRef>,
}

/// The provider `url`: a server that somebody else runs (S4-14).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct UrlSpec {
    pub(crate) endpoint: Url,
    /// How long it may take to begin an answer; `None`: as long as the gateway allows everybody.
    pub(crate) timeout: Option<Duration>,
    pub(crate) bearer: Option<SecretRef>,
    pub(crate) stateless: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UrlDocument {
    #[serde(rename = "type")]
    _kind: String,
    endpoint: String,
    timeout: Option<f64>,
    health_check: Option<HealthCheck>,
    authentication: Option<Authentication>,
    #[serde(default)]
    stateless: bool,
    #[serde(default)]
    environment: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum HealthCheck {
    Path(String),
    Settings(HealthSettings),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HealthSettings {
    path: Option<String>,
    interval: Option<f64>,
    timeout: Option<f64>,
    retries: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Authentication {
    #[serde(rename = "type")]
    kind: String,
    token: String,
}

impl JsonSpec {
    /// Accepts a document of type `url` whose environment fits the server's `env_schema`.
    pub(crate) fn parse(document: Value, schema: &EnvSchema) -> Result<Self, RegistryError> {
        let kind = document
            .get("type")
            .and_then(Value::as_str)
            .ok_or_else(|| invalid("type", "is missing; the type of a remote server is \"url\""))?;
        if kind != "url" {
            let kind = kind.chars().filter(char::is_ascii_graphic).take(32).collect();
            return Err(RegistryError::ProviderUnavailable { kind });
        }
        refuse_oversized(&document)?;
        refuse_plain_token(&document)?;
        // Serde's messages name the field and the expected type; values of unexpected type are cut out below.
        let parsed: UrlDocument = serde_json::from_value(document.clone())
            .map_err(|error| RegistryError::invalid("json_spec", shape_problem(&error)))?;
        let bearer = parsed.authentication.as_ref().map(parse_authentication).transpose()?;
        let endpoint = parse_endpoint(&parsed.endpoint)?;
        let timeout = seconds("timeout", parsed.timeout)?;
        if let Some(health_check) = parsed.health_check {
            check_health(&endpoint, health_check)?;
        }
        let mut secrets = schema.check(&parsed.environment)?;
        secrets.extend(bearer.clone());
        secrets.sort();
        secrets.dedup();
        Ok(Self {
            document,
            url: UrlSpec { endpoint, timeout, bearer, stateless: parsed.stateless },
            secrets,
        })
    }

    /// Reads the routing part of a stored document; its environment was checked when it was written.
    pub(crate) fn stored(document: &Value) -> Option<UrlSpec> {
        let parsed: UrlDocument = serde_json::from_value(document.clone()).ok()?;
        Some(UrlSpec {
            endpoint: parse_endpoint(&parsed.endpoint).ok()?,
            timeout: seconds("timeout", parsed.timeout).ok()?,
            bearer: parsed.authentication.as_ref().map(parse_authentication).transpose().ok()?,
            stateless: parsed.stateless,
        })
    }
}

fn invalid(field: &str, problem: &str) -> RegistryError {
    RegistryError::invalid(format!("json_spec.{field}"), problem)
}

/// Says what is wrong with the shape of a document without repeating a value of it.
fn shape_problem(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if text.starts_with("missing field") || text.starts_with("unknown field") {
        return text;
    }
    "a value has the wrong type: endpoint is a string, timeout a number of seconds, stateless a boolean, health_check a path or {path, interval, timeout, retries}, authentication {type, token}, environment an object".to_owned()
}

fn refuse_oversized(document: &Value) -> Result<(), RegistryError> {
    let length = document.to_string().len();
    if length <= DOCUMENT_LIMIT {
        return Ok(());
    }
    Err(RegistryError::invalid(
        "json_spec",
        format!("is {length} bytes long; at most {DOCUMENT_LIMIT} are allowed"),
    ))
}

/// Looks at the token before anything else, so that no other complaint hides a leaked value (S4-10).
fn refuse_plain_token(document: &Value) -> Result<(), RegistryError> {
    match document.pointer("/authentication/token").and_then(Value::as_str) {
        Some(token) => SecretRef::parse_field("json_spec.authentication.token", token).map(drop),
        None => Ok(()),
    }
}

fn parse_authentication(authentication: &Authentication) -> Result<SecretRef, RegistryError> {
    if authentication.kind != "bearer" {
        return Err(invalid("authentication.type", "must be \"bearer\""));
    }
    SecretRef::parse_field("json_spec.authentication.token", &authentication.token)
}

fn parse_endpoint(text: &str) -> Result<Url, RegistryError> {
    if text.len() > URL_LIMIT {
        return Err(invalid("endpoint", "is longer than 2048 bytes"));
    }
    // The URL standard drops or rewrites these silently: two readers of the document would see two addresses.
    if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
        return Err(invalid("endpoint", "must not hold spaces, control characters or backslashes"));
    }
    let url = Url::parse(text)
        .map_err(|_| invalid("endpoint", "is not a URL; write it whole, e.g. https://example.com/mcp"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(invalid("endpoint", "must be an http or https URL with a host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(RegistryError::PlainSecret { field: "json_spec.endpoint".to_owned() });
    }
    if url.fragment().is_some() {
        return Err(invalid("endpoint", "must not have a fragment"));
    }
    Ok(url)
}

fn seconds(field: &str, value: Option<f64>) -> Result<Option<Duration>, RegistryError> {
    match value {
        None => Ok(None),
        Some(value) if SECONDS.contains(&value) => Ok(Some(Duration::from_secs_f64(value))),
        Some(_) => Err(invalid(field, "is a number of seconds between 0.1 and 3600")),
    }
}

fn check_health(endpoint: &Url, health_check: HealthCheck) -> Result<(), RegistryError> {
    let settings = match health_check {
        HealthCheck::Path(path) => {
            HealthSettings { path: Some(path), interval: None, timeout: None, retries: None }
        }
        HealthCheck::Settings(settings) => settings,
    };
    seconds("health_check.interval", settings.interval)?;
    seconds("health_check.timeout", settings.timeout)?;
    if settings.retries.is_some_and(|retries| !(1..=MOST_RETRIES).contains(&retries)) {
        return Err(invalid("health_check.retries", "is between 1 and 100"));
    }
    let Some(path) = settings.path else { return Ok(()) };
    // Another origin would make the worker a scanner of whatever the owner names.
    let same_origin = path.len() <= URL_LIMIT
        && endpoint.join(&path).is_ok_and(|url| {
            url.origin() == endpoint.origin() && url.username().is_empty() && url.password().is_none()
        });
    if same_origin {
        return Ok(());
    }
    Err(invalid("health_check", "is a path, or a URL of the same origin as the endpoint"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(document: Value) -> Result<JsonSpec, RegistryError> {
        JsonSpec::parse(document, &EnvSchema::default())
    }

    #[test]
    fn s4_09_a_url_document_with_every_field_is_accepted() {
        let document = json!({
            "type": "url", "endpoint": "https://example.com/mcp", "timeout": 30, "stateless": true,
            "health_check": {"path": "/health", "interval": 15, "timeout": 2.5, "retries": 3},
            "authentication": {"type": "bearer", "token": "secret_ref:instance_X:KEY"},
        });
        let spec = parse(document.clone()).unwrap();
        assert_eq!(spec.document, document);
        assert_eq!(spec.url.timeout, Some(Duration::from_secs(30)));
        assert_eq!(spec.secrets, [SecretRef::parse("instance_X:KEY").unwrap()]);
        assert!(spec.url.stateless);
        assert_eq!(JsonSpec::stored(&document), Some(spec.url));
    }

    #[test]
    fn s4_51_a_url_document_with_nothing_but_its_endpoint_is_accepted() {
        let spec =
            parse(json!({"type": "url", "endpoint": "http://localhost:3333/mcp", "health_check": "/health"}))
                .unwrap();
        assert_eq!((spec.url.bearer, spec.url.timeout, spec.url.stateless), (None, None, false));
    }

    #[test]
    fn s4_10_a_plain_token_is_refused_before_any_other_complaint_and_never_repeated() {
        for document in [
            json!({"type": "url", "endpoint": "https://e.com", "authentication": {"type": "bearer", "token": "canary-1"}}),
            json!({"type": "url", "nonsense": 1, "authentication": {"type": "basic", "token": "canary-1"}}),
            json!({"type": "url", "endpoint": "https://user:canary-1@e.com/mcp"}),
        ] {
            let error = parse(document).unwrap_err();
            assert!(matches!(error, RegistryError::PlainSecret { .. }), "{error}");
            assert!(!error.to_string().contains("canary"));
        }
        let error = parse(json!({"type": "url", "endpoint": "https://e.com", "authentication": "canary-1"}))
            .unwrap_err();
        assert!(!error.to_string().contains("canary"), "{error}");
    }

    #[test]
    fn another_provider_is_unavailable_for_now() {
        for kind in ["docker", "kubernetes", "anything"] {
            assert!(matches!(
                parse(json!({"type": kind, "image": "x"})),
                Err(RegistryError::ProviderUnavailable { .. })
            ));
        }
        assert!(matches!(
            parse(json!({"endpoint": "https://e.com"})),
            Err(RegistryError::InvalidField { .. })
        ));
    }

    #[test]
    fn a_document_outside_the_rules_is_refused() {
        let base = json!({"type": "url", "endpoint": "https://e.com/mcp"});
        let changes = [
            json!({"endpoint": "e.com"}),
            json!({"endpoint": "https://e.com\\@10.0.0.1/"}),
            json!({"endpoint": " https://e.com/"}),
            json!({"endpoint": "file:///etc/passwd"}),
            json!({"endpoint": "https://e.com/#x"}),
            json!({"timeout": 0}),
            json!({"timeout": "30"}),
            json!({"timeout": 1e9}),
            json!({"extra": 1}),
            json!({"health_check": "http://169.254.169.254/latest"}),
            json!({"health_check": {"retries": 0}}),
            json!({"authentication": {"type": "basic", "token": "secret_ref:x"}}),
            json!({"environment": {"UNDECLARED": "x"}}),
            json!({"endpoint": format!("https://e.com/{}", "a".repeat(3000))}),
        ];
        for change in changes {
            let mut document = base.clone();
            document.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            assert!(parse(document).is_err(), "{change}");
        }
    }
}
