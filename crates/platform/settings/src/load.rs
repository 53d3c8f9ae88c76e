//! Puts the layers on top of one another and makes settings of them.

use std::{cmp::Reverse, collections::BTreeMap};

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{
    Origin, SettingsError, Sources, UnknownKey,
    known::Known,
    layers::{self, Entry},
    schema,
    sources::ENV_PREFIX,
};

/// Loads settings: defaults, then the file, then the environment, then the overrides.
///
/// Nothing is read but `sources`. Unknown keys are all reported at once; a value that does not fit is reported with
/// its key and origin.
pub fn load<T>(sources: &Sources) -> Result<T, SettingsError>
where
    T: DeserializeOwned + Serialize + Default + JsonSchema,
{
    let mut merged = Merged {
        known: Known::new(schema::<T>()),
        value: serde_json::to_value(T::default()).map_err(SettingsError::Defaults)?,
        origins: BTreeMap::new(),
        unknown: Vec::new(),
    };
    if let Some(path) = &sources.file {
        merged.lay(layers::file(path)?);
    }
    merged.lay_texts(sources.variables().map(|(name, text)| {
        let sections = name.strip_prefix(ENV_PREFIX).unwrap_or(name).split("__");
        (sections.map(str::to_lowercase).collect(), text, Origin::Variable(name.to_owned()))
    }))?;
    merged.lay_texts(sources.overrides.iter().map(|(key, text)| {
        (key.split('.').map(str::to_owned).collect(), text.as_str(), Origin::CommandLine(key.clone()))
    }))?;
    merged.finish()
}

/// The settings so far.
struct Merged {
    known: Known,
    value: Value,
    origins: BTreeMap<String, Origin>,
    unknown: Vec<UnknownKey>,
}

impl Merged {
    /// Adds texts whose type the schema decides.
    fn lay_texts<'a>(
        &mut self,
        texts: impl Iterator<Item = (Vec<String>, &'a str, Origin)>,
    ) -> Result<(), SettingsError> {
        let mut entries = Vec::new();
        for (path, text, origin) in texts {
            if text.contains(char::REPLACEMENT_CHARACTER) {
                let problem = "the value is not valid UTF-8".to_owned();
                return Err(SettingsError::Invalid { key: path.join("."), origin, problem });
            }
            let slot = self.known.find(path.iter().map(String::as_str));
            let value = slot.map_or(Value::Null, |slot| layers::text(text, &slot));
            entries.push(Entry { path, value, origin });
        }
        self.lay(entries);
        Ok(())
    }

    /// Adds one layer.
    fn lay(&mut self, mut entries: Vec<Entry>) {
        // A tag comes first: it throws away what the layers below said about another variant.
        entries.sort_by_key(|entry| (Reverse(self.is_tag(&entry.path)), entry.path.len()));
        for entry in entries {
            let before = self.unknown.len();
            self.check(&entry.path, &entry.value, &entry.origin);
            if self.unknown.len() == before {
                let is_tag = self.is_tag(&entry.path);
                put(&mut self.value, &entry.path, entry.value, is_tag);
                self.origins.insert(entry.path.join("."), entry.origin);
            }
        }
    }

    fn is_tag(&self, path: &[String]) -> bool {
        path.split_last().is_some_and(|(key, section)| {
            let section = self.known.find(section.iter().map(String::as_str));
            section.is_some_and(|section| section.is_tag(key))
        })
    }

    /// Notes every key at and below `path` that does not exist.
    fn check(&mut self, path: &[String], value: &Value, origin: &Origin) {
        if self.known.find(path.iter().map(String::as_str)).is_none() {
            let key = path.join(".");
            let nearest = self.known.nearest(&key);
            self.unknown.push(UnknownKey { key, origin: origin.clone(), nearest });
            return;
        }
        let inside = |key: String| [path, &[key]].concat();
        match value {
            Value::Object(table) => {
                for (key, value) in table {
                    self.check(&inside(key.clone()), value, origin);
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate().filter(|(_, item)| item.is_object()) {
                    self.check(&inside(index.to_string()), item, origin);
                }
            }
            _ => {}
        }
    }

    fn finish<T: DeserializeOwned>(self) -> Result<T, SettingsError> {
        if !self.unknown.is_empty() {
            return Err(SettingsError::UnknownKeys(self.unknown));
        }
        serde_path_to_error::deserialize(&self.value).map_err(|error| {
            let key = error.path().to_string().replace('[', ".").replace(']', "");
            let origin = self.origin_of(&key);
            let problem = without_value(&error.into_inner().to_string());
            SettingsError::Invalid { key, origin, problem }
        })
    }

    /// Finds who set `key`, a section around it, or something inside it.
    fn origin_of(&self, key: &str) -> Origin {
        let mut around = Some(key);
        while let Some(path) = around {
            if let Some(origin) = self.origins.get(path) {
                return origin.clone();
            }
            around = path.rsplit_once('.').map(|(section, _)| section);
        }
        let inside = format!("{key}.");
        let below = self.origins.iter().find(|(path, _)| path.starts_with(&inside));
        below.map_or(Origin::Default, |(_, origin)| origin.clone())
    }
}

/// Says what was expected and not what was found: any value may be a secret, be it in the wrong place.
fn without_value(problem: &str) -> String {
    match problem.rsplit_once(", expected ") {
        // serde's words for a section whose place a plain value has taken.
        Some((_, expected)) if expected.starts_with("struct ") => {
            "expected a section: set the keys inside it, not the section itself".to_owned()
        }
        Some((_, expected)) => format!("expected {expected}"),
        None => problem.to_owned(),
    }
}

/// Sets `path` to `value`. A tag that changes empties its section, which then belongs to another variant.
fn put(root: &mut Value, path: &[String], value: Value, is_tag: bool) {
    let Some((key, section)) = path.split_last() else { return };
    let mut place = root;
    for name in section {
        place = table(place).entry(name.clone()).or_insert(Value::Null);
    }
    let place = table(place);
    if is_tag && place.get(key).is_some_and(|current| *current != value) {
        place.clear();
    }
    place.insert(key.clone(), value);
}

/// Returns the table at `place`, which becomes one if it is not.
fn table(place: &mut Value) -> &mut Map<String, Value> {
    if !place.is_object() {
        *place = Value::Object(Map::new());
    }
    match place {
        Value::Object(table) => table,
        _ => unreachable!("it was just made a table"),
    }
}

#[cfg(test)]
mod tests;
