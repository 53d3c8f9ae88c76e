//! Reads each source into plain values with their origins.

use std::{fs, path::Path};

use serde_json::{Map, Number, Value};
use toml::de::{DeTable, DeValue};

use crate::{Origin, SettingsError, known::Slot};

/// One value and where it was set.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: Vec<String>,
    pub(crate) value: Value,
    pub(crate) origin: Origin,
}

/// Reads a TOML file; every leaf and every list becomes an entry.
pub(crate) fn file(path: &Path) -> Result<Vec<Entry>, SettingsError> {
    let text = fs::read_to_string(path)
        .map_err(|source| SettingsError::Unreadable { path: path.to_owned(), source })?;
    let table = DeTable::parse(&text).map_err(|error| SettingsError::NotToml {
        path: path.to_owned(),
        line: line_at(&text, error.span().map_or(0, |span| span.start)),
        problem: error.message().to_owned(),
    })?;
    let mut reader = FileReader { path, text: &text, entries: Vec::new() };
    reader.table(&[], table.get_ref())?;
    Ok(reader.entries)
}

struct FileReader<'a> {
    path: &'a Path,
    text: &'a str,
    entries: Vec<Entry>,
}

impl FileReader<'_> {
    fn table(&mut self, section: &[String], table: &DeTable<'_>) -> Result<(), SettingsError> {
        for (key, value) in table {
            let mut path = section.to_vec();
            path.push(key.get_ref().to_string());
            match value.get_ref() {
                DeValue::Table(inner) if !inner.is_empty() => self.table(&path, inner)?,
                leaf => {
                    let line = line_at(self.text, key.span().start);
                    let origin = Origin::File { path: self.path.to_owned(), line };
                    let value = json(leaf).map_err(|problem| SettingsError::Invalid {
                        key: path.join("."),
                        origin: origin.clone(),
                        problem,
                    })?;
                    self.entries.push(Entry { path, value, origin });
                }
            }
        }
        Ok(())
    }
}

/// Converts a TOML value; what JSON cannot hold is refused.
fn json(value: &DeValue<'_>) -> Result<Value, String> {
    Ok(match value {
        DeValue::String(text) => Value::from(&**text),
        DeValue::Integer(number) => {
            let parsed = i64::from_str_radix(number.as_str(), number.radix());
            Value::from(parsed.map_err(|error| error.to_string())?)
        }
        DeValue::Float(number) => {
            let parsed: f64 = number.as_str().parse().map_err(|_| "not a number".to_owned())?;
            Number::from_f64(parsed).map(Value::Number).ok_or("the number must be finite")?
        }
        DeValue::Boolean(flag) => Value::from(*flag),
        DeValue::Datetime(time) => Value::from(time.to_string()),
        DeValue::Array(items) => {
            Value::Array(items.iter().map(|item| json(item.get_ref())).collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => {
            let entries =
                table.iter().map(|(key, value)| Ok((key.get_ref().to_string(), json(value.get_ref())?)));
            Value::Object(entries.collect::<Result<Map<_, _>, String>>()?)
        }
    })
}

fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// Reads a text from the environment or the command line as what its setting may hold.
///
/// A text that does not fit stays a text: the settings type then says what it wants.
pub(crate) fn text(text: &str, slot: &Slot<'_>) -> Value {
    let parsed: Option<Value> = serde_json::from_str(text).ok();
    match parsed {
        Some(table @ Value::Object(_)) if slot.allows("object") && fits(&table, slot) => return table,
        Some(list @ Value::Array(_)) if slot.allows("array") => return list,
        // A text is a text, even if it looks like a number: a password of digits, for example.
        _ if slot.allows("string") => return Value::from(text),
        Some(number @ Value::Number(_)) if slot.allows("integer") || slot.allows("number") => return number,
        Some(flag @ Value::Bool(_)) if slot.allows("boolean") => return flag,
        _ => {}
    }
    if slot.allows("array") {
        return list(text, slot);
    }
    if text.is_empty() && slot.allows("null") {
        return Value::Null;
    }
    Value::from(text)
}

/// Reads `a, b`; an empty text is an empty list.
fn list(items: &str, slot: &Slot<'_>) -> Value {
    let Some(item) = slot.child("0") else { return Value::from(items) };
    let parts = items.split(',').map(str::trim).filter(|part| !part.is_empty());
    Value::Array(parts.map(|part| text(part, &item)).collect())
}

/// Tells whether every key of a table is known here, so that a secret which looks like JSON stays a secret.
fn fits(table: &Value, slot: &Slot<'_>) -> bool {
    table.as_object().is_some_and(|table| table.keys().all(|key| slot.child(key).is_some()))
}
