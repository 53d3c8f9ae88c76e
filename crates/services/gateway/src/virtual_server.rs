//! Endpoints of several servers, and `/mcp`: merged lists, names that find their server, streams of all members.
//!
//! An endpoint with one member, plain names and nothing chosen never comes here: its bytes pass through.
//!
//! - [`scope`]: which members a caller has, and under which prefix.
//! - [`names`]: what agents call a tool or prompt of a member, and back.
//! - [`lists`]: what members list, fetched together with a deadline each, kept within a byte budget.
//! - [`merge`]: one page out of all members' lists; definitions keep their bytes, only the name is spliced.
//! - [`route`]: which member a name or URI belongs to. What was not chosen does not exist (RS-35);
//!   [`template`] says what a chosen template covers.
//! - [`capabilities`]: what `initialize` and `server/discover` say of the members that answered.
//! - [`session`], [`mod@stateless`]: the two eras.
//! - [`streams`], [`listen`]: standing streams of all members as one, in either era.
//! - [`queue`]: what waits for a slow agent, bounded.
//! - [`relabel`]: what changes in a member's messages; [`emitted`]: who showed which resource.
//!
//! A member that is dead, slow or of the other era is left out, and `_meta` says so under `portico/warnings`.

mod asker;
mod capabilities;
mod emitted;
mod listed;
mod listen;
mod lists;
mod merge;
mod names;
mod queue;
mod relabel;
mod route;
mod scope;
mod session;
mod stateless;
mod streams;
mod template;
mod warning;

pub(crate) use relabel::Relabel;
pub(crate) use session::{initialize, message};
pub(crate) use stateless::stateless;
pub(crate) use streams::get;

use portico_ids::ServerId;

use emitted::Emitted;
use listed::What;
use lists::Lists;
use scope::Roots;

/// What all virtual servers of a gateway remember.
#[derive(Debug)]
pub(crate) struct VirtualServers {
    lists: Lists,
    emitted: Emitted,
    roots: Roots,
}

impl VirtualServers {
    /// Keeps lists within `list_cache_bytes` of memory.
    pub(crate) fn new(list_cache_bytes: u64) -> Self {
        Self { lists: Lists::new(list_cache_bytes), emitted: Emitted::default(), roots: Roots::default() }
    }

    /// The server that last showed a resource here to this caller at this endpoint.
    pub(crate) fn showed(&self, subject: &str, endpoint: &str, uri: &str) -> Option<ServerId> {
        self.emitted.last_to(subject, endpoint, uri)
    }

    /// A server told by this notification that one of its lists changed.
    pub(crate) fn list_changed(&self, server: ServerId, name: &str) {
        for what in What::changed_by(name) {
            self.lists.changed(server, *what);
        }
    }
}

#[cfg(test)]
mod tests;
