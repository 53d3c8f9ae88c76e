//! What discovery has seen, over all servers that a caller may read (S1-05).

use std::collections::BTreeMap;

use portico_authz::{Action, Resource};
use portico_ids::ServerId;
use uuid::Uuid;

use super::Service;
use super::access::{self, Actor};
use super::paging::{Asked, Page, Scan, Weight};
use crate::domain::capability::Capability;
use crate::domain::names::CapabilityKind;
use crate::errors::RegistryError;
use crate::store::capabilities::{self, CapabilityPage};
use crate::store::servers;

/// Where the list goes on.
type Place = (Uuid, String, String);

impl Service {
    pub(crate) async fn list_capabilities(
        &self,
        actor: &Actor,
        asked: &Asked,
        server_id: Option<ServerId>,
        kind: Option<CapabilityKind>,
    ) -> Result<Page<Capability>, RegistryError> {
        let list = format!("capabilities server={server_id:?} kind={kind:?}");
        let mut scan: Scan<Capability, Place> =
            Scan::new(asked.size()?, self.open_token(actor, &list, asked)?);
        let mut session = self.session().await?;
        let mut resources: BTreeMap<ServerId, Resource> = BTreeMap::new();
        loop {
            let after = scan.after().map(parse_place).transpose()?;
            let rows = capabilities::list(
                session.conn(),
                &CapabilityPage { after, limit: scan.batch(), server_id, kind },
            )
            .await?;
            let mut unknown: Vec<ServerId> =
                rows.iter().map(|row| row.server_id).filter(|id| !resources.contains_key(id)).collect();
            unknown.dedup();
            for server in servers::by_ids(session.conn(), &unknown).await? {
                resources.insert(server.id, access::server(&server));
            }
            let visible = |capability: &Capability| {
                resources
                    .get(&capability.server_id)
                    .is_some_and(|server| self.may(actor, Action::ServerRead, server))
            };
            if scan.take(rows, place, visible) {
                break;
            }
        }
        Ok(self.page(actor, &list, scan.finish()))
    }
}

impl Weight for Capability {
    fn weight(&self) -> usize {
        self.name.len() + self.title.len() + self.description.len() + self.definition.len()
    }
}

fn place(capability: &Capability) -> Place {
    (capability.server_id.as_uuid(), capability.kind.as_str().to_owned(), capability.name.clone())
}

fn parse_place((server_id, kind, name): Place) -> Result<(ServerId, CapabilityKind, String), RegistryError> {
    Ok((ServerId::from(server_id), kind.parse().map_err(|_| RegistryError::PageToken)?, name))
}
