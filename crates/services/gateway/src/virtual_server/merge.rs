use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use portico_ids::ServerId;
use portico_mcp_types::SERVER_INFO;

use super::asker::{Asker, Gathered};
use super::listed::{Listed, What};
use super::names;
use super::scope::Scope;
use super::warning::{Warning, meta_member};
use crate::catalogue::Member;
use crate::front::Inbound;
use crate::handles::{Bound, Handle};
use crate::refusal::{Reason, Refusal};

/// Most definitions of one page.
const PAGE_ITEMS: usize = 500;
/// A page ends behind the definition that makes it larger than this.
const PAGE_BYTES: usize = 1024 * 1024;

/// Where a page starts: at this member, at this one of what it listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    server: ServerId,
    index: usize,
}

impl Position {
    fn to_text(self) -> String {
        format!("{}:{}", self.server, self.index)
    }

    fn parse(text: &str) -> Option<Self> {
        let (server, index) = text.split_once(':')?;
        Some(Self { server: server.parse().ok()?, index: index.parse().ok()? })
    }
}

/// Whether the endpoint's owner chose this of the member (RS-35).
pub(super) fn is_chosen(member: &Member, what: What, key: &str) -> bool {
    let chosen = match what {
        What::Tools => &member.tools,
        What::Prompts => &member.prompts,
        What::Resources | What::Templates => &member.resources,
        What::Capabilities => return true,
    };
    chosen.as_ref().is_none_or(|names| names.contains(key))
}

/// The `result` of a list: one page of what all members have, and what is missing.
pub(super) async fn list(
    asker: &Asker,
    scope: &Scope,
    inbound: &Inbound<'_>,
    what: What,
) -> Result<String, Refusal> {
    let bound = Bound::new(&asker.agent, what.method());
    let start = match inbound.params.cursor()? {
        Some(sealed) => {
            let position = Position::parse(&asker.engine.handles.open(Handle::Cursor, &bound, &sealed)?);
            Some(position.filter(|p| scope.find(p.server).is_some()).ok_or_else(list_again)?)
        }
        None => None,
    };
    let mut gathered = asker.ask_all(scope, what).await;
    if let Some(refusal) = gathered.why_empty() {
        return Err(refusal);
    }
    let page = Page::of(scope, &gathered, what, start);
    gathered.warnings.extend(page.collisions());
    let next = match page.next {
        Some(next) => {
            format!(
                ",\"nextCursor\":\"{}\"",
                asker.engine.handles.seal(Handle::Cursor, &bound, &next.to_text())
            )
        }
        None => String::new(),
    };
    let hints = if asker.is_stateless() { caching(holds_for(&gathered)) } else { String::new() };
    let meta = meta(asker.is_stateless(), &gathered.warnings);
    Ok(format!("{{\"{}\":[{}]{next}{hints}{meta}}}", what.field(), page.json))
}

/// What a result of the stateless era says of itself: no list that Portico merges is anybody else's.
pub(super) fn caching(ttl: Duration) -> String {
    format!(",\"resultType\":\"complete\",\"ttlMs\":{},\"cacheScope\":\"private\"", ttl.as_millis())
}

/// The `_meta` member of a result, with a comma in front; empty if there is nothing to say.
pub(super) fn meta(stateless: bool, warnings: &[Warning]) -> String {
    let info = stateless.then(|| format!("\"{SERVER_INFO}\":{}", server_info()));
    let members: Vec<String> = info.into_iter().chain(meta_member(warnings)).collect();
    if members.is_empty() { String::new() } else { format!(",\"_meta\":{{{}}}", members.join(",")) }
}

pub(super) fn server_info() -> String {
    format!("{{\"name\":\"portico\",\"title\":\"Portico\",\"version\":\"{}\"}}", env!("CARGO_PKG_VERSION"))
}

/// How long the merged list holds: as long as each part of it, and not at all while one is missing.
fn holds_for(gathered: &Gathered<'_>) -> Duration {
    if !gathered.refusals.is_empty() {
        return Duration::ZERO;
    }
    let rest = |listed: &Arc<Listed>| listed.ttl.unwrap_or_default().saturating_sub(listed.fetched.elapsed());
    gathered.members.iter().map(|(_, listed)| rest(listed)).min().unwrap_or_default()
}

fn list_again() -> Refusal {
    Refusal::new(Reason::UnknownHandle, "what this cursor points to is gone; list again from the start")
}

/// One page of the merged list.
struct Page<'a> {
    json: String,
    next: Option<Position>,
    /// What earlier members have already, by member.
    hidden: Vec<(&'a Member, Vec<String>)>,
}

impl<'a> Page<'a> {
    fn of(scope: &'a Scope, gathered: &Gathered<'a>, what: What, start: Option<Position>) -> Self {
        let by_server: HashMap<ServerId, &Listed> =
            gathered.members.iter().map(|(member, listed)| (member.server, &**listed)).collect();
        let mut page = Self { json: String::new(), next: None, hidden: Vec::new() };
        let mut seen = HashSet::new();
        let mut written = 0;
        let mut started = start.is_none();
        for member in scope.members() {
            let from = start.filter(|start| start.server == member.server).map(|start| start.index);
            let mut hidden = Vec::new();
            for (index, item) in
                by_server.get(&member.server).map_or(&[][..], |l| &l.items).iter().enumerate()
            {
                started |= from.is_some_and(|from| index >= from);
                if !is_chosen(member, what, &item.key) {
                    continue;
                }
                let exposed = exposed(member, scope, what, &item.key);
                if !seen.insert(exposed.clone()) {
                    hidden.push(item.key.clone());
                    continue;
                }
                if !started {
                    continue;
                }
                if written == PAGE_ITEMS || page.json.len() > PAGE_BYTES {
                    page.next = Some(Position { server: member.server, index });
                    return page;
                }
                if written > 0 {
                    page.json.push(',');
                }
                item.write(&exposed, &mut page.json);
                written += 1;
            }
            // A member that vanished or shrank since the last page: what follows it comes now.
            started |= from.is_some();
            if !hidden.is_empty() {
                page.hidden.push((member, hidden));
            }
        }
        page
    }

    fn collisions(&self) -> impl Iterator<Item = Warning> {
        self.hidden.iter().map(|(member, names)| Warning::collision(member, names.clone()))
    }
}

/// What agents call an item: URIs are never rewritten.
pub(super) fn exposed(member: &Member, scope: &Scope, what: What, key: &str) -> String {
    match what {
        What::Tools | What::Prompts => names::exposed(member, scope.prefixed(), key).into_owned(),
        What::Capabilities | What::Resources | What::Templates => key.to_owned(),
    }
}
