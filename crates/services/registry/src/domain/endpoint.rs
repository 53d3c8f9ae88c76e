//! Endpoints: published routes and who stands behind them.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use portico_ids::{EndpointId, EndpointName, PrincipalId, ServerId};

use super::names::{ALIAS_LIMIT, CapabilityKind, Names, Visibility, parse_alias, parse_name};
use super::text::{DESCRIPTION, LINE, bounded};
use crate::errors::RegistryError;

/// Most servers behind one endpoint.
const MEMBER_COUNT: usize = 200;
/// Most names that a member may be restricted to, per kind.
const SELECTION_COUNT: usize = 1000;
/// Most bytes of these names, of all members together. The endpoint has to fit a frame of the catalogue: one that does
/// not would keep it, and every later change, from all gateways.
const SELECTION_BYTES: usize = 128 * 1024;
/// What a name takes in a message beside its bytes.
const NAME_OVERHEAD: usize = 3;

/// An endpoint as stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Endpoint {
    pub(crate) id: EndpointId,
    pub(crate) name: EndpointName,
    pub(crate) details: EndpointDetails,
    pub(crate) owner: PrincipalId,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
    pub(crate) revision: i64,
}

/// What an owner may change about an endpoint.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct EndpointDetails {
    pub(crate) description: String,
    pub(crate) visibility: Visibility,
    pub(crate) names: Names,
    pub(crate) members: Vec<Member>,
}

/// One server behind an endpoint, and what of it is shown. An empty selection is everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) server_id: ServerId,
    pub(crate) alias: String,
    pub(crate) tools: Vec<String>,
    pub(crate) prompts: Vec<String>,
    pub(crate) resources: Vec<String>,
}

impl Member {
    /// A server with all that it offers.
    pub(crate) fn whole(server_id: ServerId, server_name: &EndpointName) -> Self {
        Self {
            server_id,
            alias: cut_alias(server_name.as_str()),
            tools: Vec::new(),
            prompts: Vec::new(),
            resources: Vec::new(),
        }
    }

    fn shows(&self, kind: CapabilityKind, name: &str) -> bool {
        let selection = match kind {
            CapabilityKind::Tool => &self.tools,
            CapabilityKind::Prompt => &self.prompts,
            CapabilityKind::Resource | CapabilityKind::ResourceTemplate => &self.resources,
        };
        selection.is_empty() || selection.iter().any(|chosen| chosen == name)
    }
}

/// An endpoint that may be created, its members not yet looked up.
#[derive(Debug, Clone)]
pub(crate) struct EndpointDraft {
    pub(crate) name: EndpointName,
    pub(crate) description: String,
    pub(crate) visibility: Visibility,
    pub(crate) names: Option<Names>,
    pub(crate) members: Vec<MemberDraft>,
}

/// A member as a caller names it; without an alias it gets its server's name, cut.
#[derive(Debug, Clone)]
pub(crate) struct MemberDraft {
    pub(crate) server_id: ServerId,
    pub(crate) alias: Option<String>,
    pub(crate) tools: Vec<String>,
    pub(crate) prompts: Vec<String>,
    pub(crate) resources: Vec<String>,
}

/// An endpoint as a caller sends it.
#[derive(Debug, Clone)]
pub(crate) struct EndpointInput {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) visibility: Option<Visibility>,
    pub(crate) names: Option<Names>,
    pub(crate) members: Vec<MemberDraft>,
}

impl EndpointDraft {
    /// Accepts a new endpoint; private unless the caller says otherwise.
    pub(crate) fn parse(input: EndpointInput) -> Result<Self, RegistryError> {
        Ok(Self {
            name: parse_name("endpoint.name", &input.name)?,
            description: parse_description(input.description)?,
            visibility: input.visibility.unwrap_or(Visibility::Private),
            names: input.names,
            members: check_members(input.members)?,
        })
    }

    /// How names are shown: what the owner says, else plain for one server and prefixed for several.
    pub(crate) fn names(&self) -> Names {
        self.names.unwrap_or(if self.members.len() == 1 { Names::Plain } else { Names::Prefixed })
    }
}

pub(crate) fn parse_description(text: String) -> Result<String, RegistryError> {
    bounded("endpoint.description", text, DESCRIPTION)
}

/// Accepts the members of an endpoint: at least one, each server once.
pub(crate) fn check_members(members: Vec<MemberDraft>) -> Result<Vec<MemberDraft>, RegistryError> {
    if members.is_empty() || members.len() > MEMBER_COUNT {
        return Err(RegistryError::invalid(
            "endpoint.members",
            format!("an endpoint has between 1 and {MEMBER_COUNT} members"),
        ));
    }
    let mut seen = BTreeSet::new();
    for member in &members {
        if !seen.insert(member.server_id) {
            return Err(RegistryError::invalid(
                "endpoint.members",
                format!("the server {} is named twice", member.server_id),
            ));
        }
        for selection in [&member.tools, &member.prompts, &member.resources] {
            if selection.len() > SELECTION_COUNT
                || selection
                    .iter()
                    .any(|name| name.is_empty() || bounded("", name.clone(), LINE * 4).is_err())
            {
                return Err(RegistryError::invalid(
                    "endpoint.members",
                    format!("a selection has at most {SELECTION_COUNT} names, none empty"),
                ));
            }
        }
    }
    let names =
        members.iter().flat_map(|member| [&member.tools, &member.prompts, &member.resources]).flatten();
    let bytes: usize = names.map(|name| name.len() + NAME_OVERHEAD).sum();
    if bytes > SELECTION_BYTES {
        return Err(RegistryError::invalid(
            "endpoint.members",
            format!(
                "the selections take {bytes} bytes; at most {SELECTION_BYTES} are allowed: choose fewer names"
            ),
        ));
    }
    Ok(members)
}

/// Gives each member its alias. An alias is fixed at joining: a member that stays keeps the one that it has.
pub(crate) fn join(
    drafts: Vec<MemberDraft>,
    current: &[Member],
    server_names: &BTreeMap<ServerId, EndpointName>,
) -> Result<Vec<Member>, RegistryError> {
    let mut taken: BTreeSet<String> = BTreeSet::new();
    let mut fixed: BTreeMap<ServerId, String> = BTreeMap::new();
    for draft in &drafts {
        let present = current.iter().find(|member| member.server_id == draft.server_id);
        let alias = match (present, draft.alias.as_deref()) {
            (Some(member), Some(alias)) if alias != member.alias => {
                return Err(RegistryError::AliasFixed { alias: member.alias.clone() });
            }
            (Some(member), _) => member.alias.clone(),
            (None, Some(alias)) => parse_alias(alias)?,
            (None, None) => continue,
        };
        if !taken.insert(alias.clone()) {
            return Err(RegistryError::AliasTaken { alias });
        }
        fixed.insert(draft.server_id, alias);
    }
    let mut members = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let alias = if let Some(alias) = fixed.remove(&draft.server_id) {
            alias
        } else {
            let name = server_names.get(&draft.server_id);
            let name =
                name.ok_or(RegistryError::UnknownMember { server_id: draft.server_id, exists: false })?;
            free_alias(name.as_str(), &mut taken)
        };
        let MemberDraft { server_id, alias: _, tools, prompts, resources } = draft;
        members.push(Member { server_id, alias, tools, prompts, resources });
    }
    Ok(members)
}

fn cut_alias(name: &str) -> String {
    name.get(..ALIAS_LIMIT).unwrap_or(name).trim_end_matches('-').to_owned()
}

/// The server's name, cut; numbered when another member has that alias already.
fn free_alias(name: &str, taken: &mut BTreeSet<String>) -> String {
    let mut alias = cut_alias(name);
    let mut number = 2;
    while taken.contains(&alias) {
        let suffix = format!("-{number}");
        let kept = name.get(..ALIAS_LIMIT - suffix.len()).unwrap_or(name);
        alias = format!("{kept}{suffix}");
        number += 1;
    }
    taken.insert(alias.clone());
    alias
}

/// Names that more than one member would show under `plain`. A resource URI may be listed twice: the first member has it.
pub(crate) fn collisions(
    members: &[Member],
    seen: &[(ServerId, CapabilityKind, String)],
) -> BTreeSet<String> {
    let mut owners: BTreeMap<(CapabilityKind, &str), ServerId> = BTreeMap::new();
    let mut colliding = BTreeSet::new();
    for (server_id, kind, name) in seen {
        if !matches!(kind, CapabilityKind::Tool | CapabilityKind::Prompt) {
            continue;
        }
        let shown = members.iter().any(|member| member.server_id == *server_id && member.shows(*kind, name));
        if shown && owners.insert((*kind, name), *server_id).is_some_and(|other| other != *server_id) {
            colliding.insert(name.clone());
        }
    }
    colliding
}

/// Which details an update changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndpointField {
    Description,
    Visibility,
    Names,
    Members,
}

impl EndpointField {
    /// Accepts a path of a field mask.
    pub(crate) fn parse(path: &str) -> Result<Self, RegistryError> {
        Ok(match path {
            "description" => Self::Description,
            "visibility" => Self::Visibility,
            "names" => Self::Names,
            "members" => Self::Members,
            "id" | "name" | "owner" | "revision" | "url" | "created_at" | "updated_at" => {
                return Err(RegistryError::ImmutableField { field: format!("endpoint.{path}") });
            }
            _ => {
                return Err(RegistryError::invalid(
                    "update_mask",
                    format!("an endpoint has no field {path:?}"),
                ));
            }
        })
    }
}

#[cfg(test)]
mod tests;
