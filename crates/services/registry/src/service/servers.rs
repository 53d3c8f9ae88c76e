//! Server definitions (S4-20): create, read, list, change, delete.

use portico_authz::{Action, Resource};
use portico_ids::{EndpointName, ServerId};
use portico_proto_registry as proto;

use super::Service;
use super::access::{self, Actor};
use super::change::{Change, Once};
use super::events;
use super::paging::{Asked, Page, Scan, Weight};
use crate::convert;
use crate::domain::json_spec::JsonSpec;
use crate::domain::names::Visibility;
use crate::domain::server::{Server, ServerDraft, ServerField, ServerInput};
use crate::errors::RegistryError;
use crate::store::servers::ServerPage;
use crate::store::{Position, Session, endpoints, instances, servers};

/// What an error calls it.
pub(super) const KIND: &str = "server";

/// How a caller names a server.
#[derive(Debug, Clone)]
pub(crate) enum ServerKey {
    Id(ServerId),
    Name(EndpointName),
}

/// What is to change, and from which revision.
#[derive(Debug)]
pub(crate) struct ServerUpdate {
    pub(crate) id: ServerId,
    pub(crate) input: ServerInput,
    pub(crate) fields: Vec<ServerField>,
    pub(crate) expected: i64,
}

impl Service {
    pub(crate) async fn create_server(
        &self,
        actor: &Actor,
        draft: ServerDraft,
        once: Option<Once>,
    ) -> Result<proto::CreateServerResponse, RegistryError> {
        self.require(actor, Action::ServerCreate, &Resource::Deployment)?;
        let mut change = self.change(actor).await?;
        if let Some(answer) = change.earlier(once.as_ref()).await? {
            return Ok(answer);
        }
        let server = self.add_server(&mut change, actor, draft).await?;
        let answer = proto::CreateServerResponse { server: Some(convert::server(server)) };
        change.keep(once.as_ref(), &answer).await?;
        change.commit().await?;
        Ok(answer)
    }

    pub(super) async fn add_server(
        &self,
        change: &mut Change<'_>,
        actor: &Actor,
        draft: ServerDraft,
    ) -> Result<Server, RegistryError> {
        let server = Server {
            id: ServerId::generate(&*self.clock, &*self.rng),
            name: draft.name,
            details: draft.details,
            owner: actor.id(),
            created_at: change.now(),
            updated_at: change.now(),
            revision: change.revision(),
        };
        servers::insert(change.conn(), &server)
            .await
            .map_err(|error| RegistryError::storing(KIND, server.name.as_str(), error))?;
        change.audit("server.create", &target(&server)).await?;
        Ok(server)
    }

    pub(crate) async fn get_server(&self, actor: &Actor, key: &ServerKey) -> Result<Server, RegistryError> {
        let mut session = self.session().await?;
        let found = match key {
            ServerKey::Id(id) => servers::get(session.conn(), *id).await?,
            ServerKey::Name(name) => servers::by_name(session.conn(), name).await?,
        };
        let server = found.ok_or(RegistryError::NotFound { kind: KIND })?;
        if self.may(actor, Action::ServerRead, &access::server(&server)) {
            Ok(server)
        } else {
            Err(RegistryError::Hidden { kind: KIND })
        }
    }

    pub(crate) async fn list_servers(
        &self,
        actor: &Actor,
        asked: &Asked,
        tag: Option<String>,
    ) -> Result<Page<Server>, RegistryError> {
        let list = format!("servers tag={}", tag.as_deref().unwrap_or_default());
        let mut scan = Scan::new(asked.size()?, self.open_token(actor, &list, asked)?);
        let mut session = self.session().await?;
        loop {
            let page = ServerPage { after: scan.after(), limit: scan.batch(), tag: tag.clone() };
            let rows = servers::list(session.conn(), &page).await?;
            if scan
                .take(rows, position, |server| self.may(actor, Action::ServerRead, &access::server(server)))
            {
                break;
            }
        }
        Ok(self.page(actor, &list, scan.finish()))
    }

    pub(crate) async fn update_server(
        &self,
        actor: &Actor,
        update: ServerUpdate,
    ) -> Result<Server, RegistryError> {
        let mut change = self.change(actor).await?;
        let mut server = self.changeable_server(&mut change, actor, update.id, Action::ServerUpdate).await?;
        if server.revision != update.expected {
            return Err(RegistryError::Stale { kind: KIND, current: server.revision });
        }
        let was_public = server.details.visibility == Visibility::Public;
        server.details = server.details.with(update.input, &update.fields)?;
        if was_public && server.details.visibility == Visibility::Private {
            self.leave_endpoints_of_others(&mut change, &server).await?;
        }
        if update.fields.contains(&ServerField::EnvSchema) {
            for instance in instances::of_server(change.conn(), server.id).await? {
                JsonSpec::parse(instance.details.json_spec, &server.details.env_schema).map_err(
                    |problem| RegistryError::InstanceWouldBreak {
                        instance: instance.details.name,
                        problem: problem.to_string(),
                    },
                )?;
            }
        }
        server.updated_at = change.now();
        server.revision = change.revision();
        servers::update(change.conn(), &server, update.expected)
            .await
            .map_err(|error| RegistryError::storing(KIND, server.name.as_str(), error))?;
        change.audit("server.update", &target(&server)).await?;
        change.commit().await?;
        Ok(server)
    }

    /// Deletes a server, its instances, the endpoints that serve only it, and its place in virtual servers.
    pub(crate) async fn delete_server(
        &self,
        actor: &Actor,
        id: ServerId,
        expected: i64,
    ) -> Result<(), RegistryError> {
        let mut change = self.change(actor).await?;
        let server = self.changeable_server(&mut change, actor, id, Action::ServerDelete).await?;
        if expected != 0 && server.revision != expected {
            return Err(RegistryError::Stale { kind: KIND, current: server.revision });
        }
        for endpoint in endpoints::containing(change.conn(), id).await? {
            self.remove_member(&mut change, endpoint, id).await?;
        }
        for instance in instances::of_server(change.conn(), id).await? {
            self.remove_instance(&mut change, &instance).await?;
        }
        servers::delete(change.conn(), id).await?;
        change.bury(&convert::server_key(id)).await?;
        change.publish(&id.to_string(), events::server_deleted(&server)).await?;
        change.audit("server.delete", &target(&server)).await?;
        change.commit().await
    }

    /// Takes a server that is public no longer from behind the endpoints of others: who joined it because everybody
    /// could may not go on giving it away, under the owner's credential, to whom the owner has not granted it.
    async fn leave_endpoints_of_others(
        &self,
        change: &mut Change<'_>,
        server: &Server,
    ) -> Result<(), RegistryError> {
        for endpoint in endpoints::containing(change.conn(), server.id).await? {
            if endpoint.owner != server.owner {
                self.remove_member(change, endpoint, server.id).await?;
            }
        }
        Ok(())
    }

    /// Reads a server that the actor may see, and requires the right to act on it.
    pub(super) async fn changeable_server(
        &self,
        change: &mut Change<'_>,
        actor: &Actor,
        id: ServerId,
        action: Action,
    ) -> Result<Server, RegistryError> {
        let server = servers::get(change.conn(), id).await?.ok_or(RegistryError::NotFound { kind: KIND })?;
        self.require_visible(actor, &server, action)?;
        Ok(server)
    }

    /// Requires the right to act on a server; one that the actor may not even see is not there.
    pub(super) fn require_visible(
        &self,
        actor: &Actor,
        server: &Server,
        action: Action,
    ) -> Result<(), RegistryError> {
        let resource = access::server(server);
        match self.require(actor, action, &resource) {
            Err(RegistryError::Denied { .. }) if !self.may(actor, Action::ServerRead, &resource) => {
                Err(RegistryError::Hidden { kind: KIND })
            }
            decided => decided,
        }
    }

    /// Reads the server of an instance or capability, whoever asks.
    pub(super) async fn server_of(
        &self,
        session: &mut Session,
        id: ServerId,
    ) -> Result<Server, RegistryError> {
        servers::get(session.conn(), id).await?.ok_or(RegistryError::NotFound { kind: KIND })
    }
}

impl Weight for Server {
    fn weight(&self) -> usize {
        let details = &self.details;
        let variables = details.env_schema.entries().iter().map(|entry| {
            entry.name.len() + entry.description.len() + entry.default.as_ref().map_or(0, String::len)
        });
        let tags = details.tags.iter().map(String::len);
        details.description.len() + details.version.len() + variables.chain(tags).sum::<usize>()
    }
}

fn position(server: &Server) -> Position {
    Position { created_at: server.created_at, id: server.id.as_uuid() }
}

pub(super) fn target(server: &Server) -> String {
    format!("server:{}", server.name)
}
