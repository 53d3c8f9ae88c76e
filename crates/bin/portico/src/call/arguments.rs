//! From words on the command line to a tool's arguments, read by the tool's own schema.

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value};

/// Reads `key=value` by the schema of `key`, and `key:=JSON` as it is.
///
/// # Errors
/// A word is neither, or its value does not fit the schema.
pub(super) fn parse(words: &[String], schema: &Value) -> Result<Map<String, Value>> {
    let mut arguments = Map::new();
    for word in words {
        let Some((key, text)) = word.split_once('=') else {
            bail!("{word} is no argument: write key=value, or key:=JSON");
        };
        let (key, value) = match key.strip_suffix(':') {
            Some(key) => {
                let value =
                    serde_json::from_str(text).with_context(|| format!("the value of {key} is not JSON"))?;
                (key, value)
            }
            None => (key, by_schema(key, text, &schema["properties"][key])?),
        };
        if arguments.insert(key.to_owned(), value).is_some() {
            bail!("{key} is given twice");
        }
    }
    Ok(arguments)
}

fn by_schema(key: &str, text: &str, schema: &Value) -> Result<Value> {
    let value = match schema["type"].as_str() {
        Some("integer") => {
            serde_json::from_str(text).ok().filter(|value: &Value| value.is_i64() || value.is_u64())
        }
        Some("number") => serde_json::from_str(text).ok().filter(Value::is_number),
        Some("boolean") => serde_json::from_str(text).ok().filter(Value::is_boolean),
        Some("array") => serde_json::from_str(text).ok().filter(Value::is_array),
        Some("object") => serde_json::from_str(text).ok().filter(Value::is_object),
        _ => Some(Value::String(text.to_owned())),
    };
    value.with_context(|| {
        format!("{key} has to be of type {}; `{text}` is not", schema["type"].as_str().unwrap_or_default())
    })
}

/// Tells a tool's arguments in one line: required ones plain, optional ones in brackets.
pub(super) fn signature(schema: &Value) -> String {
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let Some(properties) = schema["properties"].as_object() else { return String::new() };
    let names = properties.iter().map(|(name, property)| {
        let kind = property["type"].as_str().unwrap_or("any");
        if required.contains(&name.as_str()) { format!("{name}={kind}") } else { format!("[{name}={kind}]") }
    });
    names.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn values_are_read_by_the_schema_of_the_tool() {
        let schema = json!({ "properties": { "n": { "type": "integer" }, "on": { "type": "boolean" }, "s": { "type": "string" } } });
        let parsed = parse(&words(&["n=3", "on=true", "s=3", "free=x=y", "raw:=[1,2]"]), &schema).unwrap();
        assert_eq!(
            Value::Object(parsed),
            json!({ "n": 3, "on": true, "s": "3", "free": "x=y", "raw": [1, 2] })
        );
    }

    #[test]
    fn a_value_of_the_wrong_type_is_refused_with_the_type_it_needs() {
        let schema = json!({ "properties": { "n": { "type": "integer" } } });
        let error = parse(&words(&["n=three"]), &schema).unwrap_err();
        assert_eq!(error.to_string(), "n has to be of type integer; `three` is not");
    }

    #[test]
    fn a_word_without_an_equals_sign_and_a_repeated_key_are_refused() {
        assert!(parse(&words(&["zone"]), &Value::Null).unwrap_err().to_string().contains("key=value"));
        assert!(parse(&words(&["a=1", "a=2"]), &Value::Null).unwrap_err().to_string().contains("twice"));
    }

    #[test]
    fn the_signature_brackets_optional_arguments() {
        let schema = json!({ "properties": { "a": { "type": "string" }, "b": { "type": "integer" } }, "required": ["a"] });
        assert_eq!(signature(&schema), "a=string [b=integer]");
    }
}
