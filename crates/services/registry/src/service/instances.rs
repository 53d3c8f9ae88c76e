//! Instances (S4-21): create, read, list, change, delete.

use std::collections::BTreeMap;

use portico_authz::{Action, Resource};
use portico_ids::{InstanceId, ServerId};
use portico_proto_registry as proto;

use super::Service;
use super::access::{self, Actor};
use super::change::{Change, Once};
use super::events;
use super::paging::{Asked, Page, Scan, Weight};
use crate::convert;
use crate::domain::env_schema::EnvSchema;
use crate::domain::instance::{Health, Instance, InstanceDetails, InstanceField};
use crate::domain::json_spec::JsonSpec;
use crate::domain::secret::SecretRef;
use crate::domain::server::Server;
use crate::errors::RegistryError;
use crate::store::instances::InstancePage;
use crate::store::{Position, instances, secrets, servers};

const KIND: &str = "instance";

/// An instance that somebody wants to create.
#[derive(Debug)]
pub(crate) struct InstanceDraft {
    pub(crate) server_id: ServerId,
    pub(crate) details: InstanceDetails,
}

/// What is to change, and from which revision.
#[derive(Debug)]
pub(crate) struct InstanceUpdate {
    pub(crate) id: InstanceId,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) json_spec: Option<serde_json::Value>,
    pub(crate) fields: Vec<InstanceField>,
    pub(crate) expected: i64,
}

impl Service {
    pub(crate) async fn create_instance(
        &self,
        actor: &Actor,
        draft: InstanceDraft,
        once: Option<Once>,
    ) -> Result<proto::CreateInstanceResponse, RegistryError> {
        let mut session = self.session().await?;
        let server = self.server_of(&mut session, draft.server_id).await?;
        drop(session);
        self.require_visible(actor, &server, Action::InstanceCreate)?;
        self.vetted(&draft.details, &server.details.env_schema).await?;
        let mut change = self.change(actor).await?;
        if let Some(answer) = change.earlier(once.as_ref()).await? {
            return Ok(answer);
        }
        // The server may have changed while its address was looked up.
        let server = self.changeable_server(&mut change, actor, server.id, Action::InstanceCreate).await?;
        let spec = JsonSpec::parse(draft.details.json_spec.clone(), &server.details.env_schema)?;
        let instance = self.add_instance(&mut change, actor, (&server, draft.details, &spec)).await?;
        let answer = proto::CreateInstanceResponse { instance: Some(convert::instance(instance)) };
        change.keep(once.as_ref(), &answer).await?;
        change.commit().await?;
        Ok(answer)
    }

    /// Parses a document against its server's schema and asks the address guard, which may look names up: so before
    /// the transaction, never inside it.
    pub(super) async fn vetted(
        &self,
        details: &InstanceDetails,
        schema: &EnvSchema,
    ) -> Result<JsonSpec, RegistryError> {
        let spec = JsonSpec::parse(details.json_spec.clone(), schema)?;
        self.outbound.check_url(&spec.url.endpoint).await.map_err(|refused| {
            RegistryError::AddressRefused { reason: refused.reason.as_str(), message: refused.message }
        })?;
        Ok(spec)
    }

    pub(super) async fn add_instance(
        &self,
        change: &mut Change<'_>,
        actor: &Actor,
        (server, details, spec): (&Server, InstanceDetails, &JsonSpec),
    ) -> Result<Instance, RegistryError> {
        self.require_secrets(change, actor, &spec.secrets).await?;
        let instance = Instance {
            id: InstanceId::generate(&*self.clock, &*self.rng),
            server_id: server.id,
            details,
            health: Health::unseen(),
            created_at: change.now(),
            updated_at: change.now(),
            revision: change.revision(),
        };
        instances::insert(change.conn(), &instance, &spec.secrets)
            .await
            .map_err(|error| RegistryError::storing(KIND, &instance.details.name, error))?;
        change.publish(&instance.id.to_string(), events::created(&instance, server)).await?;
        change.audit("instance.create", &target(&instance)).await?;
        Ok(instance)
    }

    /// Requires that the actor may use each secret that exists: whoever names an address and a secret of somebody
    /// else in one document would be sent that secret.
    async fn require_secrets(
        &self,
        change: &mut Change<'_>,
        actor: &Actor,
        references: &[SecretRef],
    ) -> Result<(), RegistryError> {
        for reference in references {
            let Some(secret) = secrets::get(change.conn(), reference).await? else { continue };
            if !self.may(actor, Action::SecretRead, &access::secret(&secret)) {
                return Err(RegistryError::SecretNotYours { reference: reference.to_string() });
            }
        }
        Ok(())
    }

    pub(crate) async fn get_instance(
        &self,
        actor: &Actor,
        id: InstanceId,
    ) -> Result<Instance, RegistryError> {
        let mut session = self.session().await?;
        let found = instances::get(session.conn(), id).await?;
        let instance = found.ok_or(RegistryError::NotFound { kind: KIND })?;
        let server = self.server_of(&mut session, instance.server_id).await?;
        if self.may(actor, Action::InstanceRead, &access::server(&server)) {
            Ok(instance)
        } else {
            Err(RegistryError::Hidden { kind: KIND })
        }
    }

    pub(crate) async fn list_instances(
        &self,
        actor: &Actor,
        asked: &Asked,
        server_id: Option<ServerId>,
    ) -> Result<Page<Instance>, RegistryError> {
        let list = format!("instances server={}", server_id.map(|id| id.to_string()).unwrap_or_default());
        let mut scan = Scan::new(asked.size()?, self.open_token(actor, &list, asked)?);
        let mut session = self.session().await?;
        let mut resources: BTreeMap<ServerId, Resource> = BTreeMap::new();
        loop {
            let page = InstancePage { after: scan.after(), limit: scan.batch(), server_id };
            let rows = instances::list(session.conn(), &page).await?;
            let unknown: Vec<ServerId> =
                rows.iter().map(|row| row.server_id).filter(|id| !resources.contains_key(id)).collect();
            for server in servers::by_ids(session.conn(), &unknown).await? {
                resources.insert(server.id, access::server(&server));
            }
            let visible = |instance: &Instance| {
                resources
                    .get(&instance.server_id)
                    .is_some_and(|server| self.may(actor, Action::InstanceRead, server))
            };
            if scan.take(rows, position, visible) {
                break;
            }
        }
        Ok(self.page(actor, &list, scan.finish()))
    }

    pub(crate) async fn update_instance(
        &self,
        actor: &Actor,
        update: InstanceUpdate,
    ) -> Result<Instance, RegistryError> {
        let mut session = self.session().await?;
        let before =
            instances::get(session.conn(), update.id).await?.ok_or(RegistryError::NotFound { kind: KIND })?;
        let server = self.server_of(&mut session, before.server_id).await?;
        drop(session);
        self.require_visible_instance(actor, &server, Action::InstanceUpdate)?;
        let expected = update.expected;
        if before.revision != expected {
            return Err(RegistryError::Stale { kind: KIND, current: before.revision });
        }
        let mut instance = Instance { details: merged(before.details.clone(), update)?, ..before.clone() };
        let readdressed = instance.details.json_spec != before.details.json_spec;
        if readdressed {
            self.vetted(&instance.details, &server.details.env_schema).await?;
            instance.health = Health::unseen();
        }
        let mut change = self.change(actor).await?;
        // The server may have changed while the address was looked up; the instance is compared below.
        let server =
            servers::get(change.conn(), server.id).await?.ok_or(RegistryError::NotFound { kind: KIND })?;
        self.require_visible_instance(actor, &server, Action::InstanceUpdate)?;
        let spec = JsonSpec::parse(instance.details.json_spec.clone(), &server.details.env_schema)?;
        if readdressed {
            self.require_secrets(&mut change, actor, &spec.secrets).await?;
        }
        instance.updated_at = change.now();
        instance.revision = change.revision();
        instances::update(change.conn(), &instance, &spec.secrets, expected)
            .await
            .map_err(|error| RegistryError::storing(KIND, &instance.details.name, error))?;
        change.publish(&instance.id.to_string(), events::updated(&instance, &server)).await?;
        change.audit("instance.update", &target(&instance)).await?;
        change.commit().await?;
        Ok(instance)
    }

    pub(crate) async fn delete_instance(
        &self,
        actor: &Actor,
        id: InstanceId,
        expected: i64,
    ) -> Result<(), RegistryError> {
        let mut change = self.change(actor).await?;
        let instance =
            instances::get(change.conn(), id).await?.ok_or(RegistryError::NotFound { kind: KIND })?;
        let server = servers::get(change.conn(), instance.server_id)
            .await?
            .ok_or(RegistryError::NotFound { kind: KIND })?;
        self.require_visible_instance(actor, &server, Action::InstanceDelete)?;
        if expected != 0 && instance.revision != expected {
            return Err(RegistryError::Stale { kind: KIND, current: instance.revision });
        }
        self.remove_instance(&mut change, &instance).await?;
        change.commit().await
    }

    pub(super) async fn remove_instance(
        &self,
        change: &mut Change<'_>,
        instance: &Instance,
    ) -> Result<(), RegistryError> {
        instances::delete(change.conn(), instance.id).await?;
        change.bury(&convert::instance_key(instance.id)).await?;
        change.publish(&instance.id.to_string(), events::deleted(instance)).await?;
        change.audit("instance.delete", &target(instance)).await
    }

    /// Like [`Service::require_visible`], but what is not there is the instance.
    fn require_visible_instance(
        &self,
        actor: &Actor,
        server: &Server,
        action: Action,
    ) -> Result<(), RegistryError> {
        let resource = access::server(server);
        match self.require(actor, action, &resource) {
            Err(RegistryError::Denied { .. }) if !self.may(actor, Action::InstanceRead, &resource) => {
                Err(RegistryError::Hidden { kind: KIND })
            }
            decided => decided,
        }
    }
}

fn merged(before: InstanceDetails, update: InstanceUpdate) -> Result<InstanceDetails, RegistryError> {
    let named = |field| update.fields.contains(&field);
    let json_spec = match update.json_spec {
        Some(document) if named(InstanceField::JsonSpec) => document,
        None if named(InstanceField::JsonSpec) => {
            return Err(RegistryError::invalid("instance.json_spec", "is named by update_mask but not set"));
        }
        _ => before.json_spec,
    };
    let name = if named(InstanceField::Name) { update.name } else { before.name };
    let description = if named(InstanceField::Description) { update.description } else { before.description };
    InstanceDetails::parse(&name, description, json_spec)
}

impl Weight for Instance {
    fn weight(&self) -> usize {
        self.details.description.len() + self.health.reason.len() + self.details.json_spec.to_string().len()
    }
}

fn position(instance: &Instance) -> Position {
    Position { created_at: instance.created_at, id: instance.id.as_uuid() }
}

pub(super) fn target(instance: &Instance) -> String {
    format!("instance:{}", instance.id)
}
