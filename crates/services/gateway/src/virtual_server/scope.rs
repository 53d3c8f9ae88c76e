use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use portico_ids::ServerId;

use super::names;
use crate::access::{Agent, Place};
use crate::catalogue::{Endpoint, Member, Snapshot, same_members};
use crate::engine::Engine;

/// How long it is believed what a caller may use through `/mcp`.
const BELIEVED: Duration = Duration::from_secs(1);
/// Most callers of `/mcp` whose members are remembered.
const MAX_CALLERS: u64 = 10_000;

/// The members that a caller has at the place it came to, in their fixed order.
#[derive(Debug, Clone)]
pub(super) enum Scope {
    Endpoint(Arc<Endpoint>),
    /// `/mcp`: the servers of all endpoints that the caller may use.
    Root(Arc<[Member]>),
}

impl Scope {
    pub(super) fn of(engine: &Engine, agent: &Agent) -> Self {
        match &agent.place {
            Place::Endpoint(endpoint) => Self::Endpoint(Arc::clone(endpoint)),
            Place::Root { .. } => {
                let token = agent.principal.token_id.clone();
                Self::Root(
                    engine
                        .virtual_servers
                        .roots
                        .0
                        .get_with(token, || root_members(engine, agent, &agent.snapshot)),
                )
            }
        }
    }

    /// What the caller has there by now; `None` if the endpoint is gone or no longer for this caller.
    pub(super) fn now(engine: &Engine, agent: &Agent, snapshot: &Snapshot) -> Option<Self> {
        match &agent.place {
            Place::Endpoint(endpoint) => {
                let now = snapshot.endpoint(&endpoint.name).filter(|now| now.id == endpoint.id)?;
                engine.access.may_use(&agent.principal, now).then(|| Self::Endpoint(Arc::clone(now)))
            }
            Place::Root { .. } => Some(Self::Root(root_members(engine, agent, snapshot))),
        }
    }

    /// Whether the same is chosen of the same servers.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        same_members(self.members(), other.members())
    }

    pub(super) fn members(&self) -> &[Member] {
        match self {
            Self::Endpoint(endpoint) => &endpoint.members,
            Self::Root(members) => members,
        }
    }

    pub(super) fn prefixed(&self) -> bool {
        match self {
            Self::Endpoint(endpoint) => endpoint.prefixed,
            Self::Root(_) => true,
        }
    }

    pub(super) fn description(&self) -> &str {
        match self {
            Self::Endpoint(endpoint) => &endpoint.description,
            Self::Root(_) => "",
        }
    }

    pub(super) fn find(&self, server: ServerId) -> Option<&Member> {
        self.members().iter().find(|member| member.server == server)
    }
}

/// What callers of `/mcp` have, remembered for a moment so that a call need not ask about every endpoint.
///
/// Roles are part of the token, so its id decides.
#[derive(Debug)]
pub(super) struct Roots(Cache<String, Arc<[Member]>>);

impl Default for Roots {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(MAX_CALLERS).time_to_live(BELIEVED).build())
    }
}

/// Every server behind an endpoint that the caller may use; what several endpoints choose of one server adds up.
fn root_members(engine: &Engine, agent: &Agent, snapshot: &Snapshot) -> Arc<[Member]> {
    let mut found: BTreeMap<(String, ServerId), Member> = BTreeMap::new();
    for endpoint in snapshot.endpoints() {
        if !engine.access.may_use(&agent.principal, endpoint) {
            continue;
        }
        for member in &endpoint.members {
            let Some(server) = snapshot.server(member.server).filter(|server| server.enabled) else {
                continue;
            };
            found
                .entry((server.name.clone(), server.id))
                .and_modify(|known| widen(known, member))
                .or_insert_with(|| Member {
                    alias: names::root_alias(&server.name, server.id),
                    ..member.clone()
                });
        }
    }
    found.into_values().collect()
}

fn widen(known: &mut Member, more: &Member) {
    let join =
        |known: &mut Option<HashSet<String>>, more: &Option<HashSet<String>>| match (known.as_mut(), more) {
            (Some(names), Some(more)) => names.extend(more.iter().cloned()),
            _ => *known = None,
        };
    join(&mut known.tools, &more.tools);
    join(&mut known.prompts, &more.prompts);
    join(&mut known.resources, &more.resources);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::testing::server_id;

    #[test]
    fn what_two_endpoints_choose_of_a_server_adds_up() {
        let chosen = |names: &[&str]| Some(names.iter().map(|n| (*n).to_owned()).collect::<HashSet<_>>());
        let mut known = Member {
            server: server_id(1),
            alias: "a".into(),
            tools: chosen(&["x"]),
            prompts: chosen(&["p"]),
            resources: None,
        };
        let more =
            Member { tools: chosen(&["y"]), prompts: None, resources: chosen(&["r"]), ..known.clone() };
        widen(&mut known, &more);
        assert_eq!((known.tools, known.prompts, known.resources), (chosen(&["x", "y"]), None, None));
    }
}
