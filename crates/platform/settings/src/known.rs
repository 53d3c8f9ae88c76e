//! Which keys exist, by the JSON schema of the settings type.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// Deepest nesting of sections that is looked at for suggestions.
const MAX_DEPTH: usize = 8;

/// The schema of a settings type.
#[derive(Debug)]
pub(crate) struct Known(Value);

/// What a key may hold: every alternative that the schema gives for it.
#[derive(Debug, Clone)]
pub(crate) struct Slot<'a> {
    root: &'a Value,
    alternatives: Vec<&'a Value>,
}

impl Known {
    pub(crate) fn new(schema: Value) -> Self {
        Self(schema)
    }

    /// Returns the whole settings.
    pub(crate) fn root(&self) -> Slot<'_> {
        Slot::new(&self.0, [&self.0])
    }

    /// Returns what `path` may hold, if it exists.
    pub(crate) fn find<'p>(&self, path: impl IntoIterator<Item = &'p str>) -> Option<Slot<'_>> {
        path.into_iter().try_fold(self.root(), |slot, key| slot.child(key))
    }

    /// Returns the existing key that looks most like `key`, unless nothing is close.
    pub(crate) fn nearest(&self, key: &str) -> Option<String> {
        let mut paths = Vec::new();
        self.root().paths("", MAX_DEPTH, &mut paths);
        let scored = paths.into_iter().map(|path| (distance(key, &path), path));
        let (distance, path) = scored.min()?;
        (distance <= key.len().max(path.len()) / 2).then_some(path)
    }
}

impl<'a> Slot<'a> {
    fn new(root: &'a Value, schemas: impl IntoIterator<Item = &'a Value>) -> Self {
        let mut alternatives = Vec::new();
        for schema in schemas {
            flatten(root, schema, MAX_DEPTH, &mut alternatives);
        }
        Self { root, alternatives }
    }

    /// Returns what `key` inside this slot may hold; a number is an index where a list may stand.
    pub(crate) fn child(&self, key: &str) -> Option<Self> {
        let is_index = key.bytes().all(|byte| byte.is_ascii_digit());
        let found: Vec<&Value> = self
            .alternatives
            .iter()
            .filter_map(|schema| {
                let named = schema.get("properties").and_then(|properties| properties.get(key));
                let item = schema.get("items").filter(|_| is_index);
                let free = match schema.get("additionalProperties") {
                    Some(Value::Bool(false)) => None,
                    Some(values) => Some(values),
                    // `true` is the schema of "anything".
                    None => (**schema == Value::Bool(true)).then_some(*schema),
                };
                named.or(item).or(free)
            })
            .collect();
        (!found.is_empty()).then(|| Self::new(self.root, found))
    }

    /// Tells whether a value of JSON type `name` may stand here.
    pub(crate) fn allows(&self, name: &str) -> bool {
        self.alternatives.iter().any(|schema| match schema.get("type") {
            Some(Value::String(kind)) => kind == name,
            Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == name),
            _ => schema.get("enum").or(schema.get("const")).is_some() && name == "string",
        })
    }

    /// Tells whether `key` says which of several variants an object is.
    pub(crate) fn is_tag(&self, key: &str) -> bool {
        self.alternatives.iter().any(|schema| {
            schema
                .get("properties")
                .and_then(|properties| properties.get(key))
                .is_some_and(|property| property.get("const").is_some())
        })
    }

    fn properties(&self) -> impl Iterator<Item = &'a Map<String, Value>> {
        self.alternatives.iter().filter_map(|schema| schema.get("properties")?.as_object())
    }

    fn paths(&self, prefix: &str, depth: usize, found: &mut Vec<String>) {
        let keys: BTreeSet<&String> = self.properties().flat_map(Map::keys).collect();
        for key in keys {
            let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            if let Some(child) = self.child(key).filter(|_| depth > 0) {
                child.paths(&path, depth - 1, found);
            }
            found.push(path);
        }
    }
}

/// Resolves references and unions, so that what remains are plain schemas.
fn flatten<'a>(root: &'a Value, schema: &'a Value, depth: usize, found: &mut Vec<&'a Value>) {
    found.push(schema);
    if depth == 0 {
        return;
    }
    if let Some(target) = schema.get("$ref").and_then(Value::as_str)
        && let Some(target) = target.strip_prefix('#').and_then(|pointer| root.pointer(pointer))
    {
        flatten(root, target, depth - 1, found);
    }
    for union in ["anyOf", "oneOf", "allOf"] {
        for alternative in schema.get(union).and_then(Value::as_array).into_iter().flatten() {
            flatten(root, alternative, depth - 1, found);
        }
    }
}

/// Counts the insertions, deletions and replacements that make `one` into `two`.
fn distance(one: &str, two: &str) -> usize {
    let two: Vec<char> = two.chars().collect();
    let mut row: Vec<usize> = (0..=two.len()).collect();
    for (i, left) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in two.iter().enumerate() {
            let replaced = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[two.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("listen", "listen"), 0);
        assert_eq!(distance("lisen", "listen"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
