//! What environment a server needs, and whether an instance gives it (S4-06, S4-07).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::secret::SecretRef;
use super::text::{DESCRIPTION, LINE, bounded};
use crate::errors::RegistryError;

/// Most variables of one server.
const ENTRY_COUNT: usize = 128;
/// Longest value of a variable.
const VALUE_LIMIT: usize = 32 * 1024;

/// The type of a variable's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EnvType {
    String,
    Integer,
    Number,
    Boolean,
}

impl EnvType {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "" | "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            _ => return None,
        })
    }

    /// Whether `text`, as it would stand in an environment, is a value of this type.
    fn reads(self, text: &str) -> bool {
        match self {
            Self::String => true,
            Self::Integer => text.parse::<i64>().is_ok(),
            Self::Number => text.parse::<f64>().is_ok_and(f64::is_finite),
            Self::Boolean => matches!(text, "true" | "false"),
        }
    }

    /// Whether a JSON value is of this type. Struct carries every number as a double, so 3.0 is an integer.
    fn fits(self, value: &Value) -> bool {
        match (self, value) {
            (_, Value::String(text)) => self.reads(text),
            (Self::Integer, Value::Number(number)) => {
                number.is_i64() || number.as_f64().is_some_and(|n| n.fract() == 0.0)
            }
            (Self::Number, Value::Number(_)) | (Self::Boolean, Value::Bool(_)) => true,
            _ => false,
        }
    }
}

/// One variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EnvEntry {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: EnvType,
    pub(crate) description: String,
    pub(crate) required: bool,
    pub(crate) secret: bool,
    pub(crate) default: Option<String>,
}

/// A variable as a caller sends it.
#[derive(Debug, Clone)]
pub(crate) struct EnvEntryInput {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) description: String,
    pub(crate) required: bool,
    pub(crate) secret: bool,
    pub(crate) default: Option<String>,
}

/// All variables of a server, each name once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EnvSchema(Vec<EnvEntry>);

impl EnvSchema {
    /// Accepts the variables of a server; a default must be of the variable's type, and a secret has none.
    pub(crate) fn parse(entries: Vec<EnvEntryInput>) -> Result<Self, RegistryError> {
        if entries.len() > ENTRY_COUNT {
            return Err(RegistryError::invalid(
                "env_schema",
                format!("{} variables; at most {ENTRY_COUNT} are allowed", entries.len()),
            ));
        }
        let mut accepted: Vec<EnvEntry> = Vec::with_capacity(entries.len());
        for entry in entries {
            let entry = parse_entry(entry)?;
            if accepted.iter().any(|other| other.name == entry.name) {
                return Err(RegistryError::invalid(
                    "env_schema",
                    format!("the variable {} is declared twice", entry.name),
                ));
            }
            accepted.push(entry);
        }
        Ok(Self(accepted))
    }

    pub(crate) fn entries(&self) -> &[EnvEntry] {
        &self.0
    }

    /// Checks the environment of an instance and answers the secrets that it refers to.
    ///
    /// A variable that is not declared is refused: nobody could tell whether its value is a secret.
    pub(crate) fn check(
        &self,
        environment: &BTreeMap<String, Value>,
    ) -> Result<Vec<SecretRef>, RegistryError> {
        if let Some(name) = environment.keys().find(|name| !self.0.iter().any(|entry| entry.name == **name)) {
            let field = format!("json_spec.environment.{}", printable(name));
            return Err(RegistryError::EnvMismatch {
                field,
                problem: "the server's env_schema does not declare it".to_owned(),
            });
        }
        let mut refs = Vec::new();
        for entry in &self.0 {
            let field = format!("json_spec.environment.{}", entry.name);
            let Some(value) = environment.get(&entry.name) else {
                if entry.required && entry.default.is_none() {
                    let problem = "is required by the server's env_schema and missing".to_owned();
                    return Err(RegistryError::EnvMismatch { field, problem });
                }
                continue;
            };
            if entry.secret {
                refs.push(SecretRef::parse_field(&field, value.as_str().unwrap_or_default())?);
            } else if too_long(value) || !entry.kind.fits(value) {
                let problem = format!("must be of type {}, at most {VALUE_LIMIT} bytes", entry.kind.as_str());
                return Err(RegistryError::EnvMismatch { field, problem });
            }
        }
        Ok(refs)
    }
}

fn parse_entry(entry: EnvEntryInput) -> Result<EnvEntry, RegistryError> {
    let EnvEntryInput { name, kind, description, required, secret, default } = entry;
    let legal = name.bytes().next().is_some_and(|c| c.is_ascii_alphabetic() || c == b'_')
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_');
    if !legal || name.len() > 128 {
        return Err(RegistryError::invalid("env_schema.name", "a variable is [A-Za-z_][A-Za-z0-9_]{0,127}"));
    }
    let field = format!("env_schema.{name}");
    let Some(kind) = EnvType::parse(&kind) else {
        return Err(RegistryError::invalid(&field, "type is string, integer, number or boolean"));
    };
    let default = default.map(|value| bounded(&field, value, LINE)).transpose()?;
    if secret && default.is_some() {
        // A default is readable by everyone who may read the server.
        return Err(RegistryError::PlainSecret { field: format!("{field}.default") });
    }
    if default.as_deref().is_some_and(|value| !kind.reads(value)) {
        return Err(RegistryError::EnvMismatch {
            field: format!("{field}.default"),
            problem: format!("must be of type {}", kind.as_str()),
        });
    }
    Ok(EnvEntry {
        description: bounded(&field, description, DESCRIPTION)?,
        name,
        kind,
        required,
        secret,
        default,
    })
}

fn too_long(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.len() > VALUE_LIMIT || text.contains('\0'))
}

/// A name that failed the rules, short enough and harmless enough for an error message.
fn printable(name: &str) -> String {
    name.chars().filter(char::is_ascii_graphic).take(64).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(name: &str, kind: &str) -> EnvEntryInput {
        EnvEntryInput {
            name: name.to_owned(),
            kind: kind.to_owned(),
            description: String::new(),
            required: false,
            secret: false,
            default: None,
        }
    }

    fn environment(value: Value) -> BTreeMap<String, Value> {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn s4_06_a_missing_required_variable_or_a_wrong_type_is_refused() {
        let schema = EnvSchema::parse(vec![
            EnvEntryInput { required: true, ..entry("DIRS", "string") },
            entry("LIMIT", "integer"),
            entry("RATIO", "number"),
            entry("ON", "boolean"),
        ])
        .unwrap();
        schema.check(&environment(json!({"DIRS": "/data", "LIMIT": 3.0, "RATIO": 0.5, "ON": true}))).unwrap();
        schema
            .check(&environment(json!({"DIRS": "/data", "LIMIT": "3", "RATIO": "1e3", "ON": "false"})))
            .unwrap();
        for bad in [
            json!({}),
            json!({"DIRS": 1}),
            json!({"DIRS": "x", "LIMIT": 1.5}),
            json!({"DIRS": "x", "ON": "yes"}),
            json!({"DIRS": "x", "OTHER": "y"}),
        ] {
            assert!(
                matches!(schema.check(&environment(bad.clone())), Err(RegistryError::EnvMismatch { .. })),
                "{bad}"
            );
        }
    }

    #[test]
    fn s4_07_a_default_stands_in_for_a_required_variable() {
        let schema = EnvSchema::parse(vec![EnvEntryInput {
            required: true,
            default: Some("10MB".to_owned()),
            ..entry("MAX", "")
        }])
        .unwrap();
        schema.check(&BTreeMap::new()).unwrap();
        let wrong = EnvEntryInput { default: Some("ten".to_owned()), ..entry("MAX", "integer") };
        assert!(matches!(EnvSchema::parse(vec![wrong]), Err(RegistryError::EnvMismatch { .. })));
        assert!(EnvSchema::parse(vec![entry("A", "list")]).is_err());
        assert!(EnvSchema::parse(vec![entry("A", ""), entry("A", "")]).is_err());
        assert!(EnvSchema::parse(vec![entry("A=B", "")]).is_err());
    }

    #[test]
    fn s4_10_a_secret_variable_takes_references_only() {
        let secret = EnvEntryInput { secret: true, ..entry("TOKEN", "string") };
        let schema = EnvSchema::parse(vec![secret.clone()]).unwrap();
        let refs = schema.check(&environment(json!({"TOKEN": "secret_ref:a:TOKEN"}))).unwrap();
        assert_eq!(refs, [SecretRef::parse("a:TOKEN").unwrap()]);
        assert!(matches!(
            schema.check(&environment(json!({"TOKEN": "hunter2"}))),
            Err(RegistryError::PlainSecret { .. })
        ));
        assert!(matches!(
            EnvSchema::parse(vec![EnvEntryInput { default: Some("hunter2".to_owned()), ..secret }]),
            Err(RegistryError::PlainSecret { .. })
        ));
    }
}
