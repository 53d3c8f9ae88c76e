//! Secrets: written by people, opened for services of this deployment only.

use std::collections::BTreeSet;

use portico_authz::{Action, Resource};
use portico_db::sealed::admit;
use portico_ids::InstanceId;
use portico_sealing::Aad;
use secrecy::{ExposeSecret as _, SecretSlice};

use super::Service;
use super::access::{self, Actor};
use super::change::Change;
use super::events;
use super::paging::{Asked, Page, Scan, Weight};
use crate::domain::secret::{Secret, SecretRef, VALUE_LIMIT};
use crate::errors::RegistryError;
use crate::store::{audit, instances, secrets, servers};

const KIND: &str = "secret";

/// A secret with its value.
pub(crate) struct Opened {
    pub(crate) reference: SecretRef,
    pub(crate) version: i64,
    pub(crate) value: SecretSlice<u8>,
}

/// What a service gets: the values, and which references have none for it.
pub(crate) struct Resolved {
    pub(crate) secrets: Vec<Opened>,
    pub(crate) missing: Vec<SecretRef>,
}

pub(crate) fn aad(reference: &SecretRef, version: i64) -> Aad<'_> {
    Aad { table: "secrets", row: reference.as_str(), field: "sealed", version }
}

impl Service {
    /// Seals a value and writes it; who serves or watches instances that refer to it learns of it.
    pub(crate) async fn set_secret(
        &self,
        actor: &Actor,
        reference: SecretRef,
        value: SecretSlice<u8>,
    ) -> Result<Secret, RegistryError> {
        let length = value.expose_secret().len();
        if length == 0 || length > VALUE_LIMIT {
            return Err(RegistryError::invalid(
                "value",
                format!("has {length} bytes; between 1 and {VALUE_LIMIT} are allowed"),
            ));
        }
        let mut change = self.change(actor).await?;
        let current = secrets::get(change.conn(), &reference).await?;
        if let Some(secret) = &current {
            self.require(actor, Action::SecretWrite, &access::secret(secret))?;
        } else {
            self.require(actor, Action::SecretWrite, &Resource::Deployment)?;
            self.refuse_claimed(&mut change, actor, &reference).await?;
        }
        let version = secrets::next_version(change.conn(), &reference).await?;
        let (owner, created_at) =
            current.map_or_else(|| (actor.id(), change.now()), |secret| (secret.owner, secret.created_at));
        let secret = Secret { reference, version, owner, created_at, updated_at: change.now() };
        let sealed = self.sealer.seal(&aad(&secret.reference, version), value.expose_secret());
        admit(change.conn(), &sealed).await?;
        secrets::put(change.conn(), &secret, &sealed).await?;
        tell_users_of(&mut change, &secret.reference).await?;
        change.audit("secret.set", &target(&secret.reference)).await?;
        change.commit().await?;
        Ok(secret)
    }

    /// Refuses a new secret that an instance of somebody else waits for already: it would be sent there.
    async fn refuse_claimed(
        &self,
        change: &mut Change<'_>,
        actor: &Actor,
        reference: &SecretRef,
    ) -> Result<(), RegistryError> {
        let users = instances::referring_to(change.conn(), reference).await?;
        let ids: BTreeSet<_> = users.iter().map(|instance| instance.server_id).collect();
        let ids: Vec<_> = ids.into_iter().collect();
        for server in servers::by_ids(change.conn(), &ids).await? {
            if !self.may(actor, Action::InstanceUpdate, &access::server(&server)) {
                return Err(RegistryError::SecretClaimed { reference: reference.to_string() });
            }
        }
        Ok(())
    }

    pub(crate) async fn list_secrets(
        &self,
        actor: &Actor,
        asked: &Asked,
    ) -> Result<Page<Secret>, RegistryError> {
        let mut scan: Scan<Secret, String> =
            Scan::new(asked.size()?, self.open_token(actor, "secrets", asked)?);
        let mut session = self.session().await?;
        loop {
            let rows = secrets::list(session.conn(), scan.after().as_deref(), scan.batch()).await?;
            let visible = |secret: &Secret| self.may(actor, Action::SecretRead, &access::secret(secret));
            if scan.take(rows, |secret| secret.reference.as_str().to_owned(), visible) {
                break;
            }
        }
        Ok(self.page(actor, "secrets", scan.finish()))
    }

    pub(crate) async fn delete_secret(
        &self,
        actor: &Actor,
        reference: &SecretRef,
    ) -> Result<(), RegistryError> {
        let mut change = self.change(actor).await?;
        let found = secrets::get(change.conn(), reference).await?;
        let secret = found.ok_or(RegistryError::NotFound { kind: KIND })?;
        let resource = access::secret(&secret);
        match self.require(actor, Action::SecretDelete, &resource) {
            Err(RegistryError::Denied { .. }) if !self.may(actor, Action::SecretRead, &resource) => {
                return Err(RegistryError::Hidden { kind: KIND });
            }
            decided => decided?,
        }
        let now = change.now();
        secrets::delete(change.conn(), reference, now).await?;
        tell_users_of(&mut change, reference).await?;
        change.audit("secret.delete", &target(reference)).await?;
        change.commit().await
    }

    /// Opens the secrets that an instance refers to; any other reference is missing, whether it exists or not.
    pub(crate) async fn resolve_secrets(
        &self,
        actor: &Actor,
        references: &[SecretRef],
        (purpose, spec_revision): (InstanceId, Option<i64>),
    ) -> Result<Resolved, RegistryError> {
        let mut session = self.session().await?;
        let wanted: BTreeSet<&SecretRef> = references.iter().collect();
        let mut used = Vec::new();
        for reference in wanted.iter().copied() {
            let users = instances::referring_to(session.conn(), reference).await?;
            if let Some(user) = users.iter().find(|instance| instance.id == purpose) {
                // An older spec may name an address that the owner has left since.
                if spec_revision.is_some_and(|revision| revision != user.revision) {
                    return Err(RegistryError::SpecSuperseded { current: user.revision });
                }
                used.push(reference.clone());
            }
        }
        let sealed = secrets::sealed(session.conn(), &used).await?;
        drop(session);
        let missing = wanted
            .into_iter()
            .filter(|reference| !sealed.iter().any(|found| found.reference == **reference))
            .cloned()
            .collect();
        let mut opened = Vec::with_capacity(sealed.len());
        for secret in sealed {
            let value = self
                .sealer
                .open(&aad(&secret.reference, secret.version), &secret.sealed)
                .map_err(|error| RegistryError::Sealing(Box::new(error)))?;
            opened.push(Opened { reference: secret.reference, version: secret.version, value });
        }
        self.record_resolution(actor, &opened, purpose).await?;
        Ok(Resolved { secrets: opened, missing })
    }

    /// Writes who got which secret, before it is handed out.
    async fn record_resolution(
        &self,
        actor: &Actor,
        opened: &[Opened],
        purpose: InstanceId,
    ) -> Result<(), RegistryError> {
        let record = |secret: &Opened| {
            let mut record = self.record(actor, "secret.resolve", &target(&secret.reference));
            record.name = format!("instance:{purpose}");
            record
        };
        let records: Vec<_> = opened.iter().map(record).collect();
        if records.is_empty() {
            return Ok(());
        }
        let mut tx = self.db.begin_write().await?;
        audit::append((&mut tx).into(), &records).await?;
        Ok(tx.commit().await?)
    }
}

/// Gives the instances that refer to a secret a new place in the catalogue, and has them looked at again.
async fn tell_users_of(change: &mut Change<'_>, reference: &SecretRef) -> Result<(), RegistryError> {
    let revision = change.revision();
    instances::touch_users_of(change.conn(), reference, revision).await?;
    let users = instances::referring_to(change.conn(), reference).await?;
    let ids: BTreeSet<_> = users.iter().map(|instance| instance.server_id).collect();
    let ids: Vec<_> = ids.into_iter().collect();
    let servers = servers::by_ids(change.conn(), &ids).await?;
    for instance in &users {
        if let Some(server) = servers.iter().find(|server| server.id == instance.server_id) {
            change.publish(&instance.id.to_string(), events::secret_changed(instance, server)).await?;
        }
    }
    Ok(())
}

impl Weight for Secret {
    fn weight(&self) -> usize {
        self.reference.as_str().len()
    }
}

fn target(reference: &SecretRef) -> String {
    format!("secret:{reference}")
}
