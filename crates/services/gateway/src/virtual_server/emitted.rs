use std::time::Duration;

use moka::sync::Cache;
use portico_ids::ServerId;
use portico_mcp_types::{Object, text_of};
use serde_json::value::RawValue;

use crate::access::Agent;

/// How long it is remembered who showed a URI.
const REMEMBERED: Duration = Duration::from_hours(1);
/// Bytes of memory for that.
const BUDGET: u64 = 16 * 1024 * 1024;
/// Longer URIs are not remembered.
const MAX_URI: usize = 2048;
/// Most URIs that are taken from one message.
const MAX_URIS: usize = 256;

/// Which server last showed a resource's URI to whom, where; what is shown need not be listed (2025-11-25, Resource
/// Links).
#[derive(Debug)]
pub(super) struct Emitted(Cache<Shown, ServerId>);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Shown {
    subject: String,
    endpoint: String,
    uri: String,
}

impl Default for Emitted {
    fn default() -> Self {
        let weigh = |shown: &Shown, _: &ServerId| {
            u32::try_from(shown.subject.len() + shown.endpoint.len() + shown.uri.len() + 128)
                .unwrap_or(u32::MAX)
        };
        Self(Cache::builder().max_capacity(BUDGET).weigher(weigh).time_to_live(REMEMBERED).build())
    }
}

impl Emitted {
    fn key(agent: &Agent, uri: &str) -> Shown {
        Shown { subject: agent.subject.clone(), endpoint: agent.place.id().to_owned(), uri: uri.to_owned() }
    }

    pub(super) fn last(&self, agent: &Agent, uri: &str) -> Option<ServerId> {
        self.0.get(&Self::key(agent, uri))
    }

    /// The same for a caller of another replica.
    pub(super) fn last_to(&self, subject: &str, endpoint: &str, uri: &str) -> Option<ServerId> {
        let (subject, endpoint, uri) = (subject.to_owned(), endpoint.to_owned(), uri.to_owned());
        self.0.get(&Shown { subject, endpoint, uri })
    }

    pub(super) fn note(&self, agent: &Agent, uri: &str, server: ServerId) {
        if uri.len() <= MAX_URI {
            self.0.insert(Self::key(agent, uri), server);
        }
    }

    /// Takes note of the resources that a result shows: links and embedded ones, in tool results and in prompts.
    pub(super) fn note_result(&self, agent: &Agent, result: &RawValue, server: ServerId) {
        for uri in uris(result) {
            self.note(agent, &uri, server);
        }
    }

    /// Takes note of the resource that a notification is about.
    pub(super) fn note_params(&self, agent: &Agent, params: &RawValue, server: ServerId) {
        let params = Object::parse(params.get(), "params").ok();
        if let Some(uri) = params.and_then(|params| params.get("uri")).and_then(text_of) {
            self.note(agent, &uri, server);
        }
    }
}

fn uris(result: &RawValue) -> Vec<String> {
    let mut found = Vec::new();
    let Ok(result) = Object::parse(result.get(), "result") else { return found };
    let array = |raw: &RawValue| serde_json::from_str::<Vec<Box<RawValue>>>(raw.get()).unwrap_or_default();
    for list in ["content", "contents"] {
        for block in result.get(list).map(array).unwrap_or_default() {
            uri_of(&block, &mut found);
        }
    }
    for message in result.get("messages").map(array).unwrap_or_default() {
        let message = Object::parse(message.get(), "message").ok();
        if let Some(content) = message.and_then(|message| message.get("content").map(ToOwned::to_owned)) {
            uri_of(&content, &mut found);
        }
    }
    found.truncate(MAX_URIS);
    found
}

/// The URI of a resource link or of an embedded resource.
fn uri_of(block: &RawValue, found: &mut Vec<String>) {
    let Ok(block) = Object::parse(block.get(), "content") else { return };
    let inner = block.get("resource").and_then(|raw| Object::parse(raw.get(), "resource").ok());
    let uri = block.get("uri").or_else(|| inner.and_then(|inner| inner.get("uri")));
    found.extend(uri.and_then(text_of).map(std::borrow::Cow::into_owned));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_embedded_resources_are_found_in_results_of_every_kind() {
        let of = |json: &str| uris(&serde_json::from_str::<Box<RawValue>>(json).unwrap());
        assert_eq!(
            of(
                r#"{"content":[{"type":"text","text":"\"uri\""},{"type":"resource_link","uri":"a:1","name":"n"},{"type":"resource","resource":{"uri":"a:2","text":""}}]}"#
            ),
            ["a:1", "a:2"]
        );
        assert_eq!(of(r#"{"contents":[{"uri":"a:3","text":""}]}"#), ["a:3"]);
        assert_eq!(
            of(r#"{"messages":[{"role":"user","content":{"type":"resource","resource":{"uri":"a:4"}}}]}"#),
            ["a:4"]
        );
        assert!(of(r#"{"content":"x","messages":{}}"#).is_empty());
    }
}
