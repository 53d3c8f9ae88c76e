//! Endpoints: create, read, list, change, delete; who may stand behind one, and under which names.

use std::collections::BTreeMap;

use portico_authz::{Action, Resource};
use portico_ids::{EndpointId, EndpointName, ServerId};
use portico_proto_registry as proto;

use super::Service;
use super::access::{self, Actor};
use super::change::{Change, Once};
use super::paging::{Asked, Page, Scan, Weight};
use crate::convert;
use crate::domain::endpoint::{
    Endpoint, EndpointDetails, EndpointDraft, EndpointField, EndpointInput, Member, check_members,
    collisions, join, parse_description,
};
use crate::domain::names::Names;
use crate::errors::RegistryError;
use crate::store::{Position, capabilities, endpoints, servers};

const KIND: &str = "endpoint";

/// How a caller names an endpoint.
#[derive(Debug, Clone)]
pub(crate) enum EndpointKey {
    Id(EndpointId),
    Name(EndpointName),
}

/// What is to change, and from which revision.
#[derive(Debug)]
pub(crate) struct EndpointUpdate {
    pub(crate) id: EndpointId,
    pub(crate) input: EndpointInput,
    pub(crate) fields: Vec<EndpointField>,
    pub(crate) expected: i64,
}

impl Service {
    pub(crate) async fn create_endpoint(
        &self,
        actor: &Actor,
        draft: EndpointDraft,
        once: Option<Once>,
    ) -> Result<proto::CreateEndpointResponse, RegistryError> {
        self.require(actor, Action::EndpointCreate, &Resource::Deployment)?;
        let mut change = self.change(actor).await?;
        if let Some(answer) = change.earlier(once.as_ref()).await? {
            return Ok(answer);
        }
        let names = draft.names();
        let wanted: Vec<ServerId> = draft.members.iter().map(|member| member.server_id).collect();
        let server_names = self.joinable(&mut change, actor, &wanted).await?;
        let members = join(draft.members, &[], &server_names)?;
        let details =
            EndpointDetails { description: draft.description, visibility: draft.visibility, names, members };
        let endpoint = self.add_endpoint(&mut change, actor, draft.name, details).await?;
        let answer = proto::CreateEndpointResponse {
            endpoint: Some(convert::endpoint(endpoint, &self.public_origin)),
        };
        change.keep(once.as_ref(), &answer).await?;
        change.commit().await?;
        Ok(answer)
    }

    pub(super) async fn add_endpoint(
        &self,
        change: &mut Change<'_>,
        actor: &Actor,
        name: EndpointName,
        details: EndpointDetails,
    ) -> Result<Endpoint, RegistryError> {
        refuse_collisions(change, details.names, &details.members).await?;
        let endpoint = Endpoint {
            id: EndpointId::generate(&*self.clock, &*self.rng),
            name,
            details,
            owner: actor.id(),
            created_at: change.now(),
            updated_at: change.now(),
            revision: change.revision(),
        };
        endpoints::insert(change.conn(), &endpoint)
            .await
            .map_err(|error| RegistryError::storing(KIND, endpoint.name.as_str(), error))?;
        change.audit("endpoint.create", &target(&endpoint)).await?;
        Ok(endpoint)
    }

    /// Names the servers that the actor may put behind an endpoint: those that it may change, and public ones.
    ///
    /// Seeing a server is not enough: an endpoint gives it to others.
    async fn joinable(
        &self,
        change: &mut Change<'_>,
        actor: &Actor,
        ids: &[ServerId],
    ) -> Result<BTreeMap<ServerId, EndpointName>, RegistryError> {
        let mut names = BTreeMap::new();
        let mut foreign = Vec::new();
        for server in servers::by_ids(change.conn(), ids).await? {
            let resource = access::server(&server);
            let public = server.details.visibility == crate::domain::names::Visibility::Public;
            let action = if public { Action::ServerRead } else { Action::ServerUpdate };
            if self.may(actor, action, &resource) {
                names.insert(server.id, server.name);
            } else {
                foreign.push(server.id);
            }
        }
        match ids.iter().find(|id| !names.contains_key(id)) {
            Some(id) => Err(RegistryError::UnknownMember { server_id: *id, exists: foreign.contains(id) }),
            None => Ok(names),
        }
    }

    pub(crate) async fn get_endpoint(
        &self,
        actor: &Actor,
        key: &EndpointKey,
    ) -> Result<Endpoint, RegistryError> {
        let mut session = self.session().await?;
        let found = match key {
            EndpointKey::Id(id) => endpoints::get(session.conn(), *id).await?,
            EndpointKey::Name(name) => endpoints::by_name(session.conn(), name).await?,
        };
        let endpoint = found.ok_or(RegistryError::NotFound { kind: KIND })?;
        if self.may(actor, Action::EndpointRead, &access::endpoint(&endpoint)) {
            Ok(endpoint)
        } else {
            Err(RegistryError::Hidden { kind: KIND })
        }
    }

    pub(crate) async fn list_endpoints(
        &self,
        actor: &Actor,
        asked: &Asked,
    ) -> Result<Page<Endpoint>, RegistryError> {
        let mut scan = Scan::new(asked.size()?, self.open_token(actor, "endpoints", asked)?);
        let mut session = self.session().await?;
        loop {
            let rows = endpoints::list(session.conn(), scan.after(), scan.batch()).await?;
            let visible =
                |endpoint: &Endpoint| self.may(actor, Action::EndpointRead, &access::endpoint(endpoint));
            if scan.take(rows, position, visible) {
                break;
            }
        }
        Ok(self.page(actor, "endpoints", scan.finish()))
    }

    pub(crate) async fn update_endpoint(
        &self,
        actor: &Actor,
        update: EndpointUpdate,
    ) -> Result<Endpoint, RegistryError> {
        let mut change = self.change(actor).await?;
        let mut endpoint =
            self.changeable_endpoint(&mut change, actor, update.id, Action::EndpointUpdate).await?;
        if endpoint.revision != update.expected {
            return Err(RegistryError::Stale { kind: KIND, current: endpoint.revision });
        }
        let EndpointUpdate { input, fields, expected, .. } = update;
        let unset = |field: &str| RegistryError::invalid(field, "is named by update_mask but not set");
        if fields.contains(&EndpointField::Description) {
            endpoint.details.description = parse_description(input.description)?;
        }
        if fields.contains(&EndpointField::Visibility) {
            endpoint.details.visibility = input.visibility.ok_or_else(|| unset("endpoint.visibility"))?;
        }
        if fields.contains(&EndpointField::Names) {
            endpoint.details.names = input.names.ok_or_else(|| unset("endpoint.names"))?;
        }
        if fields.contains(&EndpointField::Members) {
            let drafts = check_members(input.members)?;
            let present = |id: ServerId| endpoint.details.members.iter().any(|member| member.server_id == id);
            let joining: Vec<ServerId> =
                drafts.iter().map(|draft| draft.server_id).filter(|id| !present(*id)).collect();
            let server_names = self.joinable(&mut change, actor, &joining).await?;
            endpoint.details.members = join(drafts, &endpoint.details.members, &server_names)?;
        }
        if fields.iter().any(|field| matches!(field, EndpointField::Names | EndpointField::Members)) {
            refuse_collisions(&mut change, endpoint.details.names, &endpoint.details.members).await?;
        }
        endpoint.updated_at = change.now();
        endpoint.revision = change.revision();
        endpoints::update(change.conn(), &endpoint, expected)
            .await
            .map_err(|error| RegistryError::storing(KIND, endpoint.name.as_str(), error))?;
        change.audit("endpoint.update", &target(&endpoint)).await?;
        change.commit().await?;
        Ok(endpoint)
    }

    pub(crate) async fn delete_endpoint(
        &self,
        actor: &Actor,
        id: EndpointId,
        expected: i64,
    ) -> Result<(), RegistryError> {
        let mut change = self.change(actor).await?;
        let endpoint = self.changeable_endpoint(&mut change, actor, id, Action::EndpointDelete).await?;
        if expected != 0 && endpoint.revision != expected {
            return Err(RegistryError::Stale { kind: KIND, current: endpoint.revision });
        }
        self.remove_endpoint(&mut change, &endpoint).await?;
        change.commit().await
    }

    /// Takes a server from behind an endpoint, and the endpoint with it if nothing is left.
    pub(super) async fn remove_member(
        &self,
        change: &mut Change<'_>,
        mut endpoint: Endpoint,
        server: ServerId,
    ) -> Result<(), RegistryError> {
        endpoint.details.members.retain(|member| member.server_id != server);
        if endpoint.details.members.is_empty() {
            return self.remove_endpoint(change, &endpoint).await;
        }
        let before = endpoint.revision;
        endpoint.updated_at = change.now();
        endpoint.revision = change.revision();
        endpoints::update(change.conn(), &endpoint, before).await?;
        change.audit("endpoint.update", &target(&endpoint)).await
    }

    pub(super) async fn remove_endpoint(
        &self,
        change: &mut Change<'_>,
        endpoint: &Endpoint,
    ) -> Result<(), RegistryError> {
        endpoints::delete(change.conn(), endpoint.id).await?;
        change.bury(&convert::endpoint_key(endpoint.id)).await?;
        change.audit("endpoint.delete", &target(endpoint)).await
    }

    async fn changeable_endpoint(
        &self,
        change: &mut Change<'_>,
        actor: &Actor,
        id: EndpointId,
        action: Action,
    ) -> Result<Endpoint, RegistryError> {
        let found = endpoints::get(change.conn(), id).await?;
        let endpoint = found.ok_or(RegistryError::NotFound { kind: KIND })?;
        let resource = access::endpoint(&endpoint);
        match self.require(actor, action, &resource) {
            Ok(()) => Ok(endpoint),
            Err(RegistryError::Denied { .. }) if !self.may(actor, Action::EndpointRead, &resource) => {
                Err(RegistryError::Hidden { kind: KIND })
            }
            Err(error) => Err(error),
        }
    }
}

/// Under plain names no two members may offer the same tool or prompt, as far as discovery has seen them.
async fn refuse_collisions(
    change: &mut Change<'_>,
    names: Names,
    members: &[Member],
) -> Result<(), RegistryError> {
    if names == Names::Prefixed || members.len() < 2 {
        return Ok(());
    }
    let ids: Vec<ServerId> = members.iter().map(|member| member.server_id).collect();
    let seen = capabilities::names(change.conn(), &ids).await?;
    let names = collisions(members, &seen);
    if names.is_empty() { Ok(()) } else { Err(RegistryError::NameCollision { names }) }
}

impl Weight for Endpoint {
    fn weight(&self) -> usize {
        let members = &self.details.members;
        let names = members.iter().flat_map(|member| [&member.tools, &member.prompts, &member.resources]);
        self.details.description.len() + members.len() * 64 + names.flatten().map(String::len).sum::<usize>()
    }
}

fn position(endpoint: &Endpoint) -> Position {
    Position { created_at: endpoint.created_at, id: endpoint.id.as_uuid() }
}

pub(super) fn target(endpoint: &Endpoint) -> String {
    format!("endpoint:{}", endpoint.name)
}
