use std::collections::HashSet;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use portico_mcp_types::{Envelope, Object, method, text_of};
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::refusal::{Reason, Refusal};
use crate::upstream::{is_unknown_method, not_mcp};

/// What a member is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum What {
    /// The result of `initialize` or `server/discover`.
    Capabilities,
    Tools,
    Prompts,
    Resources,
    Templates,
}

impl What {
    /// The list that a method asks for.
    pub(super) fn of(name: &str) -> Option<Self> {
        match name {
            method::TOOLS_LIST => Some(Self::Tools),
            method::PROMPTS_LIST => Some(Self::Prompts),
            method::RESOURCES_LIST => Some(Self::Resources),
            method::RESOURCE_TEMPLATES_LIST => Some(Self::Templates),
            _ => None,
        }
    }

    /// The lists that a notification says have changed.
    pub(super) fn changed_by(name: &str) -> &'static [Self] {
        match name {
            method::TOOLS_CHANGED => &[Self::Tools],
            method::PROMPTS_CHANGED => &[Self::Prompts],
            method::RESOURCES_CHANGED => &[Self::Resources, Self::Templates],
            _ => &[],
        }
    }

    pub(super) fn method(self) -> &'static str {
        match self {
            Self::Capabilities => method::DISCOVER,
            Self::Tools => method::TOOLS_LIST,
            Self::Prompts => method::PROMPTS_LIST,
            Self::Resources => method::RESOURCES_LIST,
            Self::Templates => method::RESOURCE_TEMPLATES_LIST,
        }
    }

    /// The member of a result that holds the list.
    pub(super) fn field(self) -> &'static str {
        match self {
            Self::Capabilities => "capabilities",
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::Templates => "resourceTemplates",
        }
    }

    /// What tells one item of the list from another.
    fn key(self) -> &'static str {
        match self {
            Self::Capabilities | Self::Tools | Self::Prompts => "name",
            Self::Resources => "uri",
            Self::Templates => "uriTemplate",
        }
    }
}

/// One definition, byte for byte as its server wrote it.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) json: Bytes,
    /// Its name, URI or URI template.
    pub(super) key: String,
    /// Where `key` stands in `json`.
    at: Range<usize>,
}

impl Item {
    /// Appends the definition, under another name if that differs.
    pub(super) fn write(&self, exposed: &str, out: &mut String) {
        let json = std::str::from_utf8(&self.json).unwrap_or("{}");
        if exposed == self.key {
            out.push_str(json);
            return;
        }
        out.push_str(&json[..self.at.start]);
        out.push_str(&serde_json::Value::from(exposed).to_string());
        out.push_str(&json[self.at.end..]);
    }
}

/// What a member answered, all pages of it.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub(super) items: Vec<Item>,
    /// The result itself where there is no list.
    pub(super) result: Bytes,
    pub(super) fetched: Instant,
    /// How long the server says that it holds.
    pub(super) ttl: Option<Duration>,
    /// There was more than Portico takes.
    pub(super) cut_short: bool,
    bytes: usize,
}

impl Listed {
    fn empty() -> Self {
        Self {
            items: Vec::new(),
            result: Bytes::new(),
            fetched: Instant::now(),
            ttl: None,
            cut_short: false,
            bytes: 0,
        }
    }

    /// What says no list but a result, such as that of `initialize`.
    pub(super) fn of_result(result: Bytes) -> Self {
        let ttl = std::str::from_utf8(&result).ok().and_then(|json| Object::parse(json, "result").ok());
        let ttl = ttl.as_ref().and_then(ttl_of);
        Self { bytes: result.len(), result, ttl, ..Self::empty() }
    }

    /// Bytes that it keeps in memory.
    pub(super) fn weight(&self) -> u32 {
        let keys: usize = self.items.iter().map(|item| item.key.len() + size_of::<Item>()).sum();
        u32::try_from(self.bytes + keys + size_of::<Self>()).unwrap_or(u32::MAX)
    }
}

/// A list that is being read, page by page.
#[derive(Debug)]
pub(super) struct Reading {
    what: What,
    listed: Listed,
    seen: HashSet<String>,
}

impl Reading {
    pub(super) fn new(what: What) -> Self {
        Self { what, listed: Listed::empty(), seen: HashSet::new() }
    }

    pub(super) fn bytes(&self) -> usize {
        self.listed.bytes
    }

    /// Takes in one page and gives the cursor of the next one.
    pub(super) fn add(&mut self, message: &Bytes) -> Result<Option<String>, Refusal> {
        let Some(page) = Page::read(self.what, message)? else { return Ok(None) };
        let listed = &mut self.listed;
        listed.bytes += message.len();
        for raw in page.items {
            let item = item_of(self.what, message, raw);
            // What has no name cannot be called, and a second one of the same name neither.
            if let Some(item) = item.filter(|item| self.seen.insert(item.key.clone())) {
                listed.items.push(item);
            }
        }
        listed.ttl = match (listed.ttl, page.ttl) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (known, page) => known.or(page),
        };
        Ok(page.next)
    }

    /// The list as far as it was read; `cut_short` if there was more.
    pub(super) fn finish(self, cut_short: bool) -> Listed {
        Listed { cut_short, fetched: Instant::now(), ..self.listed }
    }
}

/// The cursor of the page after this one.
pub(super) fn next_cursor(what: What, message: &Bytes) -> Result<Option<String>, Refusal> {
    Ok(Page::read(what, message)?.and_then(|page| page.next))
}

struct Page<'a> {
    items: Vec<&'a RawValue>,
    next: Option<String>,
    ttl: Option<Duration>,
}

impl<'a> Page<'a> {
    /// `None` if the server does not have such a list at all.
    fn read(what: What, message: &'a Bytes) -> Result<Option<Self>, Refusal> {
        let envelope = Envelope::parse(message).map_err(|_| not_mcp())?;
        let Some(result) = envelope.result else {
            return if is_unknown_method(&envelope) { Ok(None) } else { Err(failed(what)) };
        };
        let result = Object::parse(result.get(), "result").map_err(|_| not_mcp())?;
        let items = result.get(what.field()).ok_or_else(not_mcp)?;
        let items = serde_json::from_str::<Vec<&RawValue>>(items.get()).map_err(|_| not_mcp())?;
        let next = result.get("nextCursor").and_then(text_of).map(std::borrow::Cow::into_owned);
        Ok(Some(Self { items, next, ttl: ttl_of(&result) }))
    }
}

fn failed(what: What) -> Refusal {
    Refusal::new(Reason::UpstreamFailed, format!("the server answered {} with an error", what.method()))
}

fn ttl_of(result: &Object<'_>) -> Option<Duration> {
    result.get("ttlMs")?.get().parse().ok().map(Duration::from_millis)
}

fn item_of(what: What, message: &Bytes, raw: &RawValue) -> Option<Item> {
    let object = Object::parse(raw.get(), "item").ok()?;
    let key = object.get(what.key())?;
    let text = text_of(key)?.into_owned();
    let start = key.get().as_ptr().addr() - raw.get().as_ptr().addr();
    Some(Item {
        json: message.slice_ref(raw.get().as_bytes()),
        key: text,
        at: start..start + key.get().len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(result: &str) -> Bytes {
        Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#))
    }

    #[test]
    fn definitions_keep_their_bytes_and_only_the_name_changes() {
        let mut listed = Reading::new(What::Tools);
        let message = page(
            r#"{"tools":[{"n":1.10,"inputSchema":{"$defs":{"name":1}, "big":12345678901234567890123},"name" : "e\u0063ho" ,"x":"name"}]}"#,
        );
        assert_eq!(listed.add(&message).unwrap(), None);
        let mut out = String::new();
        listed.listed.items[0].write("one__echo", &mut out);
        assert_eq!(
            out,
            r#"{"n":1.10,"inputSchema":{"$defs":{"name":1}, "big":12345678901234567890123},"name" : "one__echo" ,"x":"name"}"#
        );
        out.clear();
        listed.listed.items[0].write("echo", &mut out);
        assert!(out.contains(r"e\u0063ho"), "an unchanged name is not written anew: {out}");
    }

    #[test]
    fn pages_add_up_and_what_cannot_be_called_is_left_out() {
        let mut listed = Reading::new(What::Tools);
        let first = page(r#"{"tools":[{"name":"a"},{"title":"nameless"},7],"nextCursor":"","ttlMs":9000}"#);
        assert_eq!(listed.add(&first).unwrap().as_deref(), Some(""));
        let second = page(r#"{"tools":[{"name":"a","again":1},{"name":"b"}],"ttlMs":1000}"#);
        assert_eq!(listed.add(&second).unwrap(), None);
        let keys: Vec<&str> = listed.listed.items.iter().map(|item| item.key.as_str()).collect();
        assert_eq!((keys, listed.listed.ttl), (vec!["a", "b"], Some(Duration::from_secs(1))));
    }

    #[test]
    fn a_server_without_the_list_has_an_empty_one_and_another_error_is_one() {
        let error = |code: i32| {
            Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":{code},"message":"no"}}}}"#))
        };
        let mut listed = Reading::new(What::Prompts);
        assert_eq!(listed.add(&error(-32601)).unwrap(), None);
        assert_eq!(listed.add(&error(-32603)).unwrap_err().reason, Reason::UpstreamFailed);
        assert_eq!(listed.add(&page("{}")).unwrap_err().reason, Reason::UpstreamNotMcp);
    }
}
