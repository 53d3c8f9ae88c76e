use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::code;

/// Why bytes were not taken as a message; [`ParseError::code`] is what JSON-RPC calls it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The bytes are not UTF-8 (RFC 8259 §8.1).
    #[error("the body is not UTF-8")]
    NotUtf8,
    /// The bytes are not JSON.
    #[error("the body is not valid JSON: {0}")]
    Syntax(String),
    /// Objects and arrays nest deeper than [`crate::MAX_DEPTH`].
    #[error("the body nests deeper than 64 levels")]
    TooDeep,
    /// A key stands twice in one object: two parsers could read two different messages.
    #[error("the key {0:?} stands twice in one object")]
    DuplicateKey(String),
    /// A key differs only by case from one that is read: a parser that does not look at case would take it instead.
    #[error("the key {0:?} is spelled with other upper or lower case than the protocol has it")]
    Lookalike(String),
    /// A level that must be an object is something else.
    #[error("{0} must be a JSON object")]
    NotAnObject(&'static str),
    /// The message breaks a rule of JSON-RPC 2.0.
    #[error("{0}")]
    Invalid(&'static str),
    /// A member of `params` has the wrong type.
    #[error("params.{0} must be {1}")]
    Param(&'static str, &'static str),
}

impl ParseError {
    /// The JSON-RPC error code of this refusal.
    #[must_use]
    pub fn code(&self) -> i32 {
        match self {
            Self::NotUtf8 | Self::Syntax(_) => code::PARSE_ERROR,
            Self::TooDeep
            | Self::DuplicateKey(_)
            | Self::Lookalike(_)
            | Self::NotAnObject(_)
            | Self::Invalid(_) => code::INVALID_REQUEST,
            Self::Param(..) => code::INVALID_PARAMS,
        }
    }

    /// The stable reason of this refusal, for `data.reason`.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotUtf8 | Self::Syntax(_) => "malformed_json",
            Self::TooDeep => "body_too_deep",
            Self::DuplicateKey(_) | Self::Lookalike(_) => "duplicate_key",
            Self::NotAnObject(_) | Self::Invalid(_) => "invalid_message",
            Self::Param(..) => "invalid_params",
        }
    }
}

/// One JSON object, read one level deep: unescaped keys, raw values, no key twice.
#[derive(Debug, Clone, Default)]
pub struct Object<'a> {
    fields: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Object<'a> {
    /// Reads the object that `json` is; `what` names it in errors.
    pub fn parse(json: &'a str, what: &'static str) -> Result<Self, ParseError> {
        if !json.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{') {
            // JSON that is no object and text that is no JSON get different codes.
            return match serde_json::from_str::<&RawValue>(json) {
                Ok(_) => Err(ParseError::NotAnObject(what)),
                Err(error) => Err(ParseError::Syntax(error.to_string())),
            };
        }
        let fields =
            serde_json::from_str::<Fields<'a>>(json).map_err(|e| ParseError::Syntax(e.to_string()))?;
        match fields.duplicate {
            Some(key) => Err(ParseError::DuplicateKey(key)),
            None => Ok(Self { fields: fields.all }),
        }
    }

    /// The raw value under `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&'a RawValue> {
        self.fields.iter().find(|(name, _)| name == key).map(|&(_, value)| value)
    }

    /// Refuses a key that is one of `read` but for its case.
    ///
    /// Servers that do not look at case, as all that use Go's `encoding/json`, take the last of `name` and `Name`: they would
    /// call another tool than the one that was decided on.
    pub fn refuse_lookalikes(&self, read: &[&str]) -> Result<(), ParseError> {
        let is_lookalike =
            |key: &str| !read.contains(&key) && read.iter().any(|name| equal_folded(key, name));
        match self.fields.iter().find(|(key, _)| is_lookalike(key)) {
            Some((key, _)) => Err(ParseError::Lookalike(bounded(key))),
            None => Ok(()),
        }
    }

    /// All members in the order in which they stand.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.fields.iter().map(|(key, value)| (key.as_ref(), *value))
    }

    /// Whether the object has no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}

/// The text of a raw JSON string, borrowed unless it has escapes; `None` if it is no string.
#[must_use]
pub fn text_of(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str(raw.get()).ok().map(Cow::Owned)
}

/// Whether two keys are equal by simple case folding; besides ASCII letters only two fold to letters of ASCII
/// (Unicode, `CaseFolding.txt`).
fn equal_folded(one: &str, other: &str) -> bool {
    let fold = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    };
    one.chars().map(fold).eq(other.chars().map(fold))
}

/// A key for an error message: it comes from the caller.
fn bounded(key: &str) -> String {
    key.chars().take(64).collect()
}

/// Members up to this number are compared one by one; a set is only worth it above.
const LINEAR: usize = 24;

struct Fields<'a> {
    all: Vec<(Cow<'a, str>, &'a RawValue)>,
    duplicate: Option<String>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut all: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::with_capacity(6);
        let mut many: HashSet<Cow<'de, str>> = HashSet::new();
        let mut duplicate = None;
        while let Some(Key(key)) = map.next_key::<Key<'de>>()? {
            let seen = if all.len() < LINEAR {
                all.iter().any(|(other, _)| *other == key)
            } else {
                if many.is_empty() {
                    many.extend(all.iter().map(|(other, _)| other.clone()));
                }
                !many.insert(key.clone())
            };
            if seen && duplicate.is_none() {
                duplicate = Some(bounded(&key));
            }
            all.push((key, map.next_value()?));
        }
        Ok(Fields { all, duplicate })
    }
}

struct Key<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(KeyVisitor)
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Key<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
        Ok(Key(Cow::Borrowed(key)))
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(Key(Cow::Owned(key.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s3_02_duplicate_keys_are_refused_also_when_spelled_with_escapes() {
        for json in [r#"{"a":1,"a":2}"#, r#"{"name":1,"n\u0061me":2}"#, r#"{"x":{},"y":1,"x":{}}"#] {
            assert!(matches!(Object::parse(json, "params"), Err(ParseError::DuplicateKey(_))), "{json}");
        }
    }

    #[test]
    fn a_duplicate_among_many_keys_is_found() {
        let mut keys: Vec<String> = (0..200).map(|n| format!("\"k{n}\":{n}")).collect();
        assert!(Object::parse(&format!("{{{}}}", keys.join(",")), "x").is_ok());
        keys.push("\"k3\":0".to_owned());
        assert!(Object::parse(&format!("{{{}}}", keys.join(",")), "x").is_err());
    }

    #[test]
    fn s3_02_a_key_that_only_differs_by_case_is_refused_where_it_is_read() {
        let read = ["name", "task"];
        for json in
            [r#"{"name":1,"Name":2}"#, r#"{"NAM\u0045":1}"#, "{\"ta\u{17f}k\":1}", "{\"tas\u{212a}\":1}"]
        {
            let object = Object::parse(json, "params").unwrap();
            let refused = object.refuse_lookalikes(&read).unwrap_err();
            assert_eq!(
                (refused.reason(), refused.code()),
                ("duplicate_key", code::INVALID_REQUEST),
                "{json}"
            );
        }
        for json in [r#"{"name":1,"task":2,"names":3,"nam":4,"\u00e4":5}"#, "{}"] {
            assert_eq!(Object::parse(json, "params").unwrap().refuse_lookalikes(&read), Ok(()), "{json}");
        }
    }

    #[test]
    fn an_array_or_a_scalar_is_no_object() {
        for json in [r#"[1,"a",{}]"#, "1", "null", "\"x\""] {
            assert_eq!(
                Object::parse(json, "params").unwrap_err(),
                ParseError::NotAnObject("params"),
                "{json}"
            );
        }
        for json in ["", "{", "{\"a\":1}x", "nul", "{\"a\" 1}", "{'a':1}"] {
            assert!(matches!(Object::parse(json, "params"), Err(ParseError::Syntax(_))), "{json}");
        }
    }

    #[test]
    fn strings_are_borrowed_unless_escaped() {
        let object = Object::parse(r#"{"a":"plain","b":"\u0062","c":1,"d":"\ud800"}"#, "x").unwrap();
        assert!(matches!(text_of(object.get("a").unwrap()), Some(Cow::Borrowed("plain"))));
        assert_eq!(text_of(object.get("b").unwrap()).unwrap(), "b");
        assert!(text_of(object.get("c").unwrap()).is_none());
        assert!(text_of(object.get("d").unwrap()).is_none());
    }
}
