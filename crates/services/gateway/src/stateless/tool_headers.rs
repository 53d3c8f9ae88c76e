use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderName;
use moka::sync::Cache;
use portico_ids::ServerId;
use portico_mcp_types::{Envelope, MCP_PARAM_PREFIX, Object, Splice, text_of};
use serde_json::Value;
use serde_json::value::RawValue;

/// How long a list of tools is believed.
const BELIEVED: Duration = Duration::from_mins(5);
/// Most servers whose tools are remembered.
const MAX_SERVERS: u64 = 10_000;
/// Most lists that are remembered while they are read, and for how long one may wait for its next page.
const MAX_BEGUN: u64 = 1_000;
const NEXT_PAGE: Duration = Duration::from_mins(1);
/// Most annotated tools of one list that passes by.
const MAX_TOOLS: usize = 10_000;
/// Deepest property path that is searched for annotations.
const MAX_DEPTH: usize = 16;

/// Which parameters of which tools are mirrored into headers (2026-07-28, Custom Headers from Tool Parameters).
#[derive(Debug)]
pub(crate) struct ToolHeaders {
    whole: Cache<ServerId, Arc<Tools>>,
    /// Lists that pass by page by page: what was read so far, by the cursor of the page that comes next.
    begun: Cache<(ServerId, String), Arc<Tools>>,
}

/// The annotated tools of one server; tools without annotations are not listed.
pub(crate) type Tools = HashMap<String, Vec<Mirrored>>;

/// One parameter and its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mirrored {
    /// Keys from `arguments` down to the value.
    pub(crate) path: Vec<String>,
    pub(crate) header: HeaderName,
    pub(crate) integer: bool,
}

impl Default for ToolHeaders {
    fn default() -> Self {
        Self {
            whole: Cache::builder().max_capacity(MAX_SERVERS).time_to_live(BELIEVED).build(),
            begun: Cache::builder().max_capacity(MAX_BEGUN).time_to_live(NEXT_PAGE).build(),
        }
    }
}

impl ToolHeaders {
    /// What is known of a server's tools; `None` if they were not listed lately.
    pub(crate) fn known(&self, server: ServerId) -> Option<Arc<Tools>> {
        self.whole.get(&server)
    }

    /// The tools will be listed before the next call.
    pub(crate) fn forget(&self, server: ServerId) {
        self.whole.invalidate(&server);
    }

    pub(crate) fn set(&self, server: ServerId, tools: Tools) -> Arc<Tools> {
        let tools = Arc::new(tools);
        self.whole.insert(server, Arc::clone(&tools));
        tools
    }

    /// Takes in one page of a list that passes by; gives it without the tools whose annotations are invalid.
    ///
    /// `cursor` is the server's own, with which the page was asked for. A list counts when its pages were read from the
    /// first to the last: a page alone does not say what the others hold.
    pub(crate) fn learn(&self, server: ServerId, message: &Bytes, cursor: Option<&str>) -> Bytes {
        let Some(page) = Page::read(message) else { return message.clone() };
        if self.known(server).is_some_and(|known| page.contradicts(&known)) {
            self.forget(server);
        }
        let before = match cursor {
            None => Some(Arc::default()),
            Some(cursor) => self.begun.get(&(server, cursor.to_owned())),
        };
        if let Some(before) = before {
            let mut tools = Tools::clone(&before);
            tools.extend(page.annotated.clone());
            match &page.next {
                None => drop(self.set(server, tools)),
                Some(next) if tools.len() <= MAX_TOOLS => {
                    self.begun.insert((server, next.clone()), Arc::new(tools));
                }
                Some(_) => {}
            }
        }
        page.without_invalid(message)
    }

    /// Takes in a list from its first page on, which counts if it was read to its last; gives the pages without the tools
    /// whose annotations are invalid.
    pub(crate) fn learn_all(&self, server: ServerId, pages: &[Bytes], to_last: bool) -> Vec<Bytes> {
        let mut tools = Tools::new();
        let mut sound = Vec::with_capacity(pages.len());
        let mut all_read = to_last;
        for message in pages {
            if let Some(page) = Page::read(message) {
                sound.push(page.without_invalid(message));
                tools.extend(page.annotated);
            } else {
                all_read = false;
                sound.push(message.clone());
            }
        }
        if all_read {
            self.set(server, tools);
        }
        sound
    }
}

/// What one page of `tools/list` says.
pub(crate) struct Page<'a> {
    tools: &'a RawValue,
    valid: Vec<&'a RawValue>,
    any_invalid: bool,
    /// Names of tools without annotations.
    plain: Vec<String>,
    pub(crate) annotated: Tools,
    pub(crate) next: Option<String>,
}

impl<'a> Page<'a> {
    pub(crate) fn read(message: &'a [u8]) -> Option<Self> {
        let envelope = Envelope::parse(message).ok()?;
        let result = Object::parse(envelope.result?.get(), "result").ok()?;
        let tools = result.get("tools")?;
        let all: Vec<&'a RawValue> = serde_json::from_str(tools.get()).ok()?;
        let next = result.get("nextCursor").and_then(text_of).map(std::borrow::Cow::into_owned);
        let (mut valid, mut plain, mut annotated) = (Vec::with_capacity(all.len()), Vec::new(), Tools::new());
        for raw in &all {
            let tool = Object::parse(raw.get(), "tool").ok()?;
            let name = tool.get("name").and_then(text_of).unwrap_or_default();
            match mirrored(tool.get("inputSchema")) {
                Ok(mirrored) => {
                    if mirrored.is_empty() {
                        plain.push(name.into_owned());
                    } else {
                        annotated.insert(name.into_owned(), mirrored);
                    }
                    valid.push(*raw);
                }
                Err(why) => {
                    tracing::warn!(tool = %name, why, "a tool is left out: its x-mcp-header annotations are invalid");
                }
            }
        }
        let any_invalid = valid.len() < all.len();
        Some(Self { tools, valid, any_invalid, plain, annotated, next })
    }

    /// Whether a tool of this page is another than what is known of it.
    fn contradicts(&self, known: &Tools) -> bool {
        self.plain.iter().any(|name| known.contains_key(name))
            || self.annotated.iter().any(|(name, mirrored)| known.get(name) != Some(mirrored))
    }

    fn without_invalid(&self, message: &Bytes) -> Bytes {
        if !self.any_invalid {
            return message.clone();
        }
        let kept: Vec<&str> = self.valid.iter().map(|raw| raw.get()).collect();
        let mut splice = Splice::new(message);
        splice.replace(self.tools, format!("[{}]", kept.join(",")));
        splice.apply()
    }
}

/// The mirrored parameters of one input schema, or why its annotations are invalid.
fn mirrored(schema: Option<&RawValue>) -> Result<Vec<Mirrored>, &'static str> {
    let Some(schema) = schema else { return Ok(Vec::new()) };
    if memchr::memmem::find(schema.get().as_bytes(), ANNOTATION.as_bytes()).is_none() {
        return Ok(Vec::new());
    }
    let Ok(schema) = serde_json::from_str::<Value>(schema.get()) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    collect(&schema, &mut Vec::new(), &mut found)?;
    if count(&schema) != found.len() {
        return Err("an annotation is not reachable by properties alone");
    }
    let mut seen = HashSet::new();
    if !found.iter().all(|mirrored: &Mirrored| seen.insert(mirrored.header.clone())) {
        return Err("two annotations name the same header");
    }
    Ok(found)
}

const ANNOTATION: &str = "x-mcp-header";

fn collect(schema: &Value, path: &mut Vec<String>, found: &mut Vec<Mirrored>) -> Result<(), &'static str> {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return Ok(()) };
    if path.len() >= MAX_DEPTH {
        return Err("properties nest too deep");
    }
    for (key, property) in properties {
        path.push(key.clone());
        if let Some(annotation) = property.get(ANNOTATION) {
            let name =
                annotation.as_str().filter(|name| !name.is_empty()).ok_or("a header name is not a text")?;
            let header = HeaderName::try_from(format!("{MCP_PARAM_PREFIX}{name}"))
                .map_err(|_| "a header name is not a token")?;
            let kind = property.get("type").and_then(Value::as_str);
            if !matches!(kind, Some("string" | "integer" | "boolean")) {
                return Err("only strings, integers and booleans can be mirrored");
            }
            found.push(Mirrored { path: path.clone(), header, integer: kind == Some("integer") });
        }
        collect(property, path, found)?;
        path.pop();
    }
    Ok(())
}

/// How many annotations there are anywhere; a property that is itself called `x-mcp-header` is none.
fn count(value: &Value) -> usize {
    match value {
        Value::Object(members) => members
            .iter()
            .map(|(key, member)| {
                let inner = if key == "properties" {
                    member.as_object().map_or(0, |all| all.values().map(count).sum())
                } else if matches!(key.as_str(), "default" | "const" | "enum" | "examples") {
                    0
                } else {
                    count(member)
                };
                inner + usize::from(key == ANNOTATION)
            })
            .sum(),
        Value::Array(items) => items.iter().map(count).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::testing::server_id;

    fn of(schema: &str) -> Result<Vec<Mirrored>, &'static str> {
        mirrored(Some(&serde_json::from_str::<Box<RawValue>>(schema).unwrap()))
    }

    #[test]
    fn annotations_are_found_along_properties() {
        let found = of(
            r#"{"properties":{"region":{"type":"string","x-mcp-header":"Region"},"o":{"properties":{"n":{"type":"integer","x-mcp-header":"N"}}}}}"#,
        )
        .unwrap();
        assert_eq!(found.len(), 2);
        assert!(found.iter().any(|m| m.path == ["region"] && m.header == "mcp-param-region" && !m.integer));
        assert!(found.iter().any(|m| m.path == ["o", "n"] && m.integer));
    }

    #[test]
    fn invalid_annotations_are_refused() {
        for schema in [
            r#"{"properties":{"a":{"type":"string","x-mcp-header":""}}}"#,
            r#"{"properties":{"a":{"type":"string","x-mcp-header":"a b"}}}"#,
            r#"{"properties":{"a":{"type":"number","x-mcp-header":"A"}}}"#,
            r#"{"properties":{"a":{"type":"array","items":{"type":"string","x-mcp-header":"A"}}}}"#,
            r#"{"oneOf":[{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}]}"#,
            r#"{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}}}"#,
        ] {
            assert!(of(schema).is_err(), "{schema}");
        }
        assert_eq!(of(r#"{"properties":{"x-mcp-header":{"type":"string"}}}"#), Ok(Vec::new()));
    }

    #[test]
    fn a_tool_with_invalid_annotations_is_left_out_of_the_list() {
        let message = Bytes::from_static(
            br#"{"jsonrpc":"2.0","id":1,"result":{"tools":[ {"name":"ok","n":1.10}, {"name":"bad","inputSchema":{"properties":{"a":{"type":"number","x-mcp-header":"A"}}}}],"k":1}}"#,
        );
        let headers = ToolHeaders::default();
        let kept = headers.learn(server_id(1), &message, None);
        assert_eq!(
            kept,
            &br#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"ok","n":1.10}],"k":1}}"#[..]
        );
        assert!(headers.known(server_id(1)).unwrap().is_empty());
    }

    fn page(tool: &str, header: Option<&str>, next: Option<&str>) -> Bytes {
        let header = header.map(|header| format!(r#","x-mcp-header":"{header}""#)).unwrap_or_default();
        let next = next.map(|next| format!(r#","nextCursor":"{next}""#)).unwrap_or_default();
        Bytes::from(format!(
            r#"{{"jsonrpc":"2.0","id":1,"result":{{"tools":[{{"name":"{tool}","inputSchema":{{"properties":{{"a":{{"type":"string"{header}}}}}}}}}]{next}}}}}"#
        ))
    }

    fn names(headers: &ToolHeaders) -> Option<Vec<String>> {
        let mut names: Vec<String> = headers.known(server_id(1))?.keys().cloned().collect();
        names.sort();
        Some(names)
    }

    #[test]
    fn a_list_counts_when_its_pages_were_read_from_the_first_to_the_last() {
        let headers = ToolHeaders::default();
        let learn = |page: &Bytes, cursor: Option<&str>| drop(headers.learn(server_id(1), page, cursor));
        learn(&page("last", Some("L"), None), Some("3"));
        assert_eq!(names(&headers), None, "the last page alone is no list");
        learn(&page("first", Some("F"), Some("2")), None);
        learn(&page("last", Some("L"), None), Some("3"));
        assert_eq!(names(&headers), None, "a page in between is missing");
        learn(&page("plain", None, Some("3")), Some("2"));
        learn(&page("last", Some("L"), None), Some("3"));
        assert_eq!(names(&headers).unwrap(), ["first", "last"]);
        learn(&page("first", Some("F"), Some("2")), None);
        assert_eq!(names(&headers).unwrap(), ["first", "last"], "reading again changes nothing");
        learn(&page("first", Some("Other"), Some("2")), None);
        assert_eq!(names(&headers), None, "what is known is no longer so");
    }

    #[test]
    fn a_list_that_was_cut_short_is_not_taken_as_whole() {
        let headers = ToolHeaders::default();
        headers.learn_all(server_id(1), &[page("a", Some("A"), Some("2"))], false);
        assert_eq!(names(&headers), None);
        headers.learn_all(server_id(1), &[page("a", Some("A"), Some("2")), page("b", Some("B"), None)], true);
        assert_eq!(names(&headers).unwrap(), ["a", "b"]);
    }
}
