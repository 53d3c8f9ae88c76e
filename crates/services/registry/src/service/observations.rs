//! What the worker saw: health and capabilities (S4-30).

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use portico_ids::{InstanceId, ServerId};

use super::Service;
use super::access::Actor;
use super::events;
use super::instances::target;
use super::paging::{Asked, Page, Scan, Weight};
use crate::domain::capability::{COUNT_LIMIT, Capability, CapabilityInput};
use crate::domain::instance::{Health, Instance};
use crate::domain::names::InstanceStatus;
use crate::domain::server::Server;
use crate::domain::text::{LINE, clipped};
use crate::errors::RegistryError;
use crate::store::instances::InstancePage;
use crate::store::{Position, capabilities, instances, servers};

/// Most protocol versions of one instance.
const VERSION_COUNT: usize = 16;
/// Longest protocol version.
const VERSION_LIMIT: usize = 32;

const KIND: &str = "instance";

/// A probe's outcome.
#[derive(Debug)]
pub(crate) struct Observation {
    pub(crate) instance_id: InstanceId,
    pub(crate) status: InstanceStatus,
    pub(crate) reason: String,
    pub(crate) protocol_versions: Vec<String>,
    pub(crate) checked_at: Option<DateTime<Utc>>,
    /// The revision of the spec that was probed; 0: whatever it is now.
    pub(crate) spec_revision: i64,
}

impl Service {
    /// Writes what a probe saw. One of an older spec, or older than the last one, changes nothing.
    pub(crate) async fn report_instance(
        &self,
        actor: &Actor,
        seen: Observation,
    ) -> Result<(), RegistryError> {
        let mut session = self.session().await?;
        let known = instances::get(session.conn(), seen.instance_id).await?;
        drop(session);
        let known = known.ok_or(RegistryError::NotFound { kind: KIND })?;
        let health = self.health(&seen);
        if is_outdated(&known, &health, seen.spec_revision) {
            return Ok(());
        }
        if says_the_same(&known, &health) {
            // Most reports change nothing but the time: they need neither a revision nor an event.
            let mut tx = self.db.begin_write().await?;
            instances::set_health((&mut tx).into(), seen.instance_id, &health, None).await?;
            return Ok(tx.commit().await?);
        }
        let mut change = self.change(actor).await?;
        let found = instances::get(change.conn(), seen.instance_id).await?;
        let mut instance = found.ok_or(RegistryError::NotFound { kind: KIND })?;
        if is_outdated(&instance, &health, seen.spec_revision) {
            return Ok(());
        }
        let status_changed = instance.health.status != health.status;
        instance.health = health;
        let revision = change.revision();
        instances::set_health(change.conn(), instance.id, &instance.health, Some(revision)).await?;
        if status_changed {
            change.publish(&instance.id.to_string(), events::status_changed(&instance)).await?;
            change.audit("instance.status", &target(&instance)).await?;
        }
        change.commit().await
    }

    fn health(&self, seen: &Observation) -> Health {
        let versions =
            seen.protocol_versions.iter().take(VERSION_COUNT).map(|version| clipped(version, VERSION_LIMIT));
        let now = self.clock.now();
        Health {
            status: seen.status,
            // Also while healthy: what answers probes may still have lists that cannot be read.
            reason: clipped(&seen.reason, LINE),
            protocol_versions: versions.collect(),
            // A worker with a clock ahead of ours must not lock later reports out.
            checked_at: Some(seen.checked_at.map_or(now, |checked_at| checked_at.min(now))),
        }
    }

    /// Replaces what is known of a server's capabilities; a thing reported twice is kept once, as first reported.
    pub(crate) async fn report_capabilities(
        &self,
        server_id: ServerId,
        reported: Vec<CapabilityInput>,
    ) -> Result<(), RegistryError> {
        if reported.len() > COUNT_LIMIT {
            return Err(RegistryError::invalid(
                "capabilities",
                format!("{} of them; at most {COUNT_LIMIT} are kept", reported.len()),
            ));
        }
        let seen_at = self.clock.now();
        let mut kept = BTreeMap::new();
        for input in reported {
            let capability = Capability::parse(server_id, input, seen_at)?;
            kept.entry((capability.kind, capability.name.clone())).or_insert(capability);
        }
        let kept: Vec<Capability> = kept.into_values().collect();
        let mut tx = self.db.begin_write().await?;
        if servers::get((&mut tx).into(), server_id).await?.is_none() {
            return Err(RegistryError::NotFound { kind: "server" });
        }
        capabilities::replace((&mut tx).into(), server_id, &kept).await?;
        Ok(tx.commit().await?)
    }

    /// Lists every instance with its server, for the worker's resync.
    pub(crate) async fn list_instance_specs(
        &self,
        actor: &Actor,
        asked: &Asked,
    ) -> Result<Page<(Instance, Server)>, RegistryError> {
        let mut scan = Scan::new(asked.size()?, self.open_token(actor, "specs", asked)?);
        let mut session = self.session().await?;
        let page = InstancePage { after: scan.after(), limit: scan.batch(), server_id: None };
        let rows = instances::list(session.conn(), &page).await?;
        let ids: Vec<ServerId> = rows.iter().map(|row| row.server_id).collect();
        let servers: BTreeMap<ServerId, Server> = servers::by_ids(session.conn(), &ids)
            .await?
            .into_iter()
            .map(|server| (server.id, server))
            .collect();
        // An instance whose server went between the two statements is gone as well.
        let pairs = rows.into_iter().map(|row| (servers.get(&row.server_id).cloned(), row)).collect();
        let position = |(_, row): &(Option<Server>, Instance)| Position {
            created_at: row.created_at,
            id: row.id.as_uuid(),
        };
        scan.take(pairs, position, |_| true);
        let (items, next) = scan.finish();
        let items = items.into_iter().filter_map(|(server, row)| Some((row, server?))).collect();
        Ok(self.page(actor, "specs", (items, next)))
    }
}

impl Weight for (Option<Server>, Instance) {
    fn weight(&self) -> usize {
        self.1.weight()
    }
}

fn is_outdated(instance: &Instance, health: &Health, spec_revision: i64) -> bool {
    let older_spec = spec_revision != 0 && spec_revision != instance.revision;
    older_spec || instance.health.checked_at > health.checked_at
}

fn says_the_same(instance: &Instance, health: &Health) -> bool {
    let Health { status, reason, protocol_versions, .. } = &instance.health;
    (status, reason, protocol_versions) == (&health.status, &health.reason, &health.protocol_versions)
}
