//! A server's tools, prompts, resources and templates, with their definitions as they were written.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use portico_mcp_types::{Object, code, method, text_of};
use portico_proto_registry::{Capability, CapabilityKind};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::greeting::{Greeting, Offers};
use super::peer::{CallError, Peer, Voice};

/// Most things that the registry keeps of one server.
const COUNT_LIMIT: usize = 10_000;
/// Most pages of one list.
const PAGE_LIMIT: usize = 1_000;
/// Most bytes of everything together; one report has to hold it.
const TOTAL_LIMIT: usize = 24 * 1024 * 1024;
/// Largest definition that the registry keeps.
const DEFINITION_LIMIT: usize = 256 * 1024;
/// Longest name or URI that the registry keeps.
const NAME_LIMIT: usize = 2048;
/// How much of a title and a description the registry keeps; the definition has the whole.
const TITLE_LIMIT: usize = 512;
const DESCRIPTION_LIMIT: usize = 4096;

/// One of the lists that MCP has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct List {
    kind: CapabilityKind,
    method: &'static str,
    /// The member of the result that holds the list.
    member: &'static str,
    /// The member of an item that names it.
    name: &'static str,
}

pub(crate) const TOOLS: List =
    List { kind: CapabilityKind::Tool, method: method::TOOLS_LIST, member: "tools", name: "name" };
const PROMPTS: List =
    List { kind: CapabilityKind::Prompt, method: method::PROMPTS_LIST, member: "prompts", name: "name" };
const RESOURCES: List =
    List { kind: CapabilityKind::Resource, method: method::RESOURCES_LIST, member: "resources", name: "uri" };
const TEMPLATES: List = List {
    kind: CapabilityKind::ResourceTemplate,
    method: method::RESOURCE_TEMPLATES_LIST,
    member: "resourceTemplates",
    name: "uriTemplate",
};

/// Everything that a server listed.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) capabilities: Vec<Capability>,
    /// How many things could not be kept: no usable name, duplicate keys, too large.
    pub(crate) left_out: usize,
    size: usize,
}

impl Listing {
    /// Asks for every list that the server says it has, in the era that it was greeted in.
    pub(crate) async fn of(peer: &Peer, greeting: &Greeting, deadline: Duration) -> Result<Self, CallError> {
        let mut listing = Self::default();
        match (&greeting.stateless, &greeting.session) {
            (Some(discovered), _) => {
                listing.read_all(peer, Voice::Stateless, discovered.offers, deadline).await?;
            }
            (None, Some(session)) => {
                session.begin(deadline).await?;
                listing.read_all(peer, session.voice(), session.offers, deadline).await?;
            }
            (None, None) => {}
        }
        Ok(listing)
    }

    /// Tells what the server's owner should know of it.
    pub(crate) fn trouble(&self) -> Option<String> {
        (self.left_out > 0).then(|| {
            format!(
                "{} of the things that it lists are left out: they have no usable name, duplicate keys, or more than 256 KiB",
                self.left_out
            )
        })
    }

    /// A number that differs when the listing does.
    pub(crate) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for capability in &self.capabilities {
            (capability.kind, &capability.name, &capability.definition_json).hash(&mut hasher);
        }
        hasher.finish()
    }

    async fn read_all(
        &mut self,
        peer: &Peer,
        voice: Voice<'_>,
        offers: Offers,
        deadline: Duration,
    ) -> Result<(), CallError> {
        let lists = [
            (offers.tools, TOOLS),
            (offers.prompts, PROMPTS),
            (offers.resources, RESOURCES),
            (offers.resources, TEMPLATES),
        ];
        for (offered, list) in lists {
            if !offered {
                continue;
            }
            match self.read(peer, voice, list, deadline).await {
                // A capability is one flag for several methods; a server need not have all of them.
                Err(CallError::Rpc(code::METHOD_NOT_FOUND)) => {}
                read => read?,
            }
        }
        Ok(())
    }

    async fn read(
        &mut self,
        peer: &Peer,
        voice: Voice<'_>,
        list: List,
        deadline: Duration,
    ) -> Result<(), CallError> {
        let mut cursor: Option<String> = None;
        for _ in 0..PAGE_LIMIT {
            let mut params = Map::new();
            if let Some(cursor) = &cursor {
                params.insert("cursor".to_owned(), Value::String(cursor.clone()));
            }
            let answer = peer.ask(voice, list.method, params, deadline).await?;
            let next = self.take(&answer.object()?, list)?;
            // An empty string is a cursor like any other (2026-07-28, Pagination).
            match next {
                None => return Ok(()),
                Some(next) if cursor.as_ref() == Some(&next) => {
                    return Err(CallError::NotMcp("a page names itself as the next one"));
                }
                next => cursor = next,
            }
        }
        Err(CallError::TooMuch("more than 1000 pages in one list"))
    }

    /// Takes one page; answers with the cursor of the next one.
    pub(crate) fn take(&mut self, page: &Object<'_>, list: List) -> Result<Option<String>, CallError> {
        let items = page.get(list.member).ok_or(CallError::NotMcp("a page without its list"))?;
        let items: Vec<&RawValue> = serde_json::from_str(items.get())
            .map_err(|_| CallError::NotMcp("a page whose list is not an array"))?;
        for item in items {
            match capability(item, list) {
                Some(capability) => {
                    let Capability { name, title, description, definition_json, .. } = &capability;
                    let sent = name.len() + title.len() + description.len() + definition_json.len();
                    self.size = self.size.saturating_add(sent);
                    self.capabilities.push(capability);
                }
                None => self.left_out += 1,
            }
        }
        if self.capabilities.len() > COUNT_LIMIT {
            return Err(CallError::TooMuch("more than 10000 things"));
        }
        if self.size > TOTAL_LIMIT {
            return Err(CallError::TooMuch("more than 24 MiB of definitions"));
        }
        match page.get("nextCursor") {
            None => Ok(None),
            Some(raw) if raw.get() == "null" => Ok(None),
            Some(raw) => match text_of(raw) {
                Some(cursor) => Ok(Some(cursor.into_owned())),
                None => Err(CallError::NotMcp("nextCursor must be a string")),
            },
        }
    }
}

/// Reads the few members that people search by; the definition stays as it was written.
fn capability(item: &RawValue, list: List) -> Option<Capability> {
    if item.get().len() > DEFINITION_LIMIT {
        return None;
    }
    let object = Object::parse(item.get(), "an item").ok()?;
    let text = |key: &str| object.get(key).and_then(text_of).map(std::borrow::Cow::into_owned);
    let name = text(list.name)
        .filter(|name| !name.is_empty() && name.len() <= NAME_LIMIT && !name.contains('\0'))?;
    let label = text("title").or_else(|| if list.name == "name" { None } else { text("name") });
    Some(Capability {
        server_id: String::new(),
        kind: list.kind.into(),
        name,
        title: cut(label, TITLE_LIMIT),
        description: cut(text("description"), DESCRIPTION_LIMIT),
        definition_json: item.get().to_owned(),
        seen_at: None,
    })
}

fn cut(text: Option<String>, limit: usize) -> String {
    let mut text = text.unwrap_or_default();
    text.truncate(text.floor_char_boundary(limit));
    text
}
