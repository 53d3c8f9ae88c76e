use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use serde_json::value::RawValue;

/// Changes of a few values in a body; every other byte stays as it was written.
#[derive(Debug)]
pub struct Splice<'a> {
    body: &'a [u8],
    edits: Vec<(Range<usize>, Cow<'a, str>)>,
}

impl<'a> Splice<'a> {
    /// Starts with no change to `body`.
    #[must_use]
    pub fn new(body: &'a [u8]) -> Self {
        Self { body, edits: Vec::new() }
    }

    /// Puts `json` in the place of `raw`, which must be borrowed from the body; otherwise nothing changes.
    pub fn replace(&mut self, raw: &RawValue, json: impl Into<Cow<'a, str>>) {
        if let Some(range) = self.range_of(raw.get()) {
            self.edits.push((range, json.into()));
        }
    }

    /// Puts the string `text`, quoted and escaped, in the place of `raw`.
    pub fn replace_text(&mut self, raw: &RawValue, text: &str) {
        self.replace(raw, quote(text));
    }

    /// Adds the member `key: json` in front of the others of `object`, which must not have it yet.
    pub fn insert(&mut self, object: &RawValue, key: &str, json: &str) {
        let Some(range) = self.range_of(object.get()) else { return };
        let Some(inner) = object.get().strip_prefix('{') else { return };
        let comma = if inner.trim_start().starts_with('}') { "" } else { "," };
        let at = range.start + 1;
        self.edits.push((at..at, Cow::Owned(format!("{}:{json}{comma}", quote(key)))));
    }

    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// The changed body; edits must not overlap.
    #[must_use]
    pub fn apply(mut self) -> Bytes {
        self.edits.sort_by_key(|(range, _)| range.start);
        let added: usize = self.edits.iter().map(|(_, json)| json.len()).sum();
        let mut out = Vec::with_capacity(self.body.len() + added);
        let mut copied = 0;
        for (range, json) in &self.edits {
            debug_assert!(range.start >= copied, "edits overlap");
            out.extend_from_slice(&self.body[copied..range.start]);
            out.extend_from_slice(json.as_bytes());
            copied = range.end;
        }
        out.extend_from_slice(&self.body[copied..]);
        Bytes::from(out)
    }

    /// Where `part` lies in the body, if it is borrowed from it.
    fn range_of(&self, part: &str) -> Option<Range<usize>> {
        let start = part.as_ptr().addr().checked_sub(self.body.as_ptr().addr())?;
        let range = start..start.checked_add(part.len())?;
        (range.end <= self.body.len()).then_some(range)
    }
}

/// A JSON string; writing one cannot fail.
pub(crate) fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CallParams, Envelope};

    #[test]
    fn only_the_named_values_change() {
        let body =
            br#"{ "id":1.0 ,"jsonrpc":"2.0","method":"tools/call", "params":{"name":"a__echo","n":1.10,"_meta":{ }} }"#;
        let envelope = Envelope::parse(body).unwrap();
        let params = CallParams::parse(envelope.params).unwrap();
        let mut splice = Splice::new(body);
        splice.insert(params.meta.raw.unwrap(), "k", "{\"x\":1}");
        splice.replace_text(params.get("name").unwrap(), "echo \"x\"");
        assert_eq!(
            splice.apply(),
            &br#"{ "id":1.0 ,"jsonrpc":"2.0","method":"tools/call", "params":{"name":"echo \"x\"","n":1.10,"_meta":{"k":{"x":1} }} }"#[..]
        );
    }

    #[test]
    fn a_member_goes_in_front_of_the_others() {
        let body = br#"{"jsonrpc":"2.0","id":1,"result":{"a":1}}"#;
        let envelope = Envelope::parse(body).unwrap();
        let mut splice = Splice::new(body);
        splice.insert(envelope.result.unwrap(), "resultType", "\"complete\"");
        assert_eq!(
            splice.apply(),
            &br#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","a":1}}"#[..]
        );
    }

    #[test]
    fn a_value_from_elsewhere_changes_nothing() {
        let body = br#"{"jsonrpc":"2.0","method":"x"}"#;
        let elsewhere: Box<RawValue> = serde_json::from_str("1").unwrap();
        let mut splice = Splice::new(body);
        splice.replace(&elsewhere, "2");
        assert!(splice.is_empty());
        assert_eq!(splice.apply(), &body[..]);
    }
}
