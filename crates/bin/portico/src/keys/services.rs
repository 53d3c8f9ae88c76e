//! The two services that keep sealed rows, asked the same way.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use portico_proto_auth as auth;
use portico_proto_auth::sealing_service_client::SealingServiceClient as AuthClient;
use portico_proto_registry as registry;
use portico_proto_registry::sealing_service_client::SealingServiceClient as RegistryClient;
use portico_sealing::KeyRing;
use tonic::Status;

use crate::connection::api::{Api, Signed};

/// A replica may answer for its service: asked this often, the others had their turn too.
const QUESTIONS: usize = 8;

/// A service with sealed rows.
pub(super) enum Keeper {
    AuthServer(AuthClient<Signed>),
    Registry(RegistryClient<Signed>),
}

/// What a replica knows of the ring.
#[derive(Debug)]
pub(super) struct Sealing {
    pub(super) deployment_id: String,
    /// The key that seals.
    pub(super) current: String,
    /// Rows that each known key holds.
    pub(super) rows: BTreeMap<String, i64>,
    pub(super) unknown_rows: i64,
}

/// What one batch did.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) rewrapped: i32,
    pub(super) unreadable: i32,
    /// Empty at the end.
    pub(super) next: String,
}

pub(super) fn keepers(api: &Api) -> [Keeper; 2] {
    [Keeper::AuthServer(api.auth_sealing()), Keeper::Registry(api.registry_sealing())]
}

impl Keeper {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::AuthServer(_) => "auth-server",
            Self::Registry(_) => "registry",
        }
    }

    pub(super) async fn sealing(&self) -> Result<Sealing, Status> {
        Ok(match self {
            Self::AuthServer(client) => {
                let found = client.clone().get_sealing(auth::GetSealingRequest {}).await?.into_inner();
                Sealing {
                    deployment_id: found.deployment_id,
                    current: found.sealing_key_id,
                    rows: found.keys.into_iter().map(|key| (key.id, key.rows)).collect(),
                    unknown_rows: found.unknown_rows,
                }
            }
            Self::Registry(client) => {
                let found = client.clone().get_sealing(registry::GetSealingRequest {}).await?.into_inner();
                Sealing {
                    deployment_id: found.deployment_id,
                    current: found.sealing_key_id,
                    rows: found.keys.into_iter().map(|key| (key.id, key.rows)).collect(),
                    unknown_rows: found.unknown_rows,
                }
            }
        })
    }

    pub(super) async fn rewrap(&self, key: &str, position: &str) -> Result<Batch, Status> {
        let (sealing_key_id, position) = (key.to_owned(), position.to_owned());
        Ok(match self {
            Self::AuthServer(client) => {
                let request = auth::RewrapRequest { sealing_key_id, position, batch_size: 0 };
                let done = client.clone().rewrap(request).await?.into_inner();
                Batch { rewrapped: done.rewrapped, unreadable: done.unreadable, next: done.next_position }
            }
            Self::Registry(client) => {
                let request = registry::RewrapRequest { sealing_key_id, position, batch_size: 0 };
                let done = client.clone().rewrap(request).await?.into_inner();
                Batch { rewrapped: done.rewrapped, unreadable: done.unreadable, next: done.next_position }
            }
        })
    }

    /// Tells whether whatever replica answers is as far as it should be.
    pub(super) async fn every_replica(&self, is_there: impl Fn(&Sealing) -> bool) -> Result<bool, Status> {
        for _ in 0..QUESTIONS {
            if !is_there(&self.sealing().await?) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Asks every service, and refuses a ring that is not theirs.
pub(super) async fn ask_all(keepers: &[Keeper], ring: &KeyRing) -> Result<Vec<Sealing>> {
    let mut all = Vec::new();
    for keeper in keepers {
        let found = keeper.sealing().await?;
        if found.deployment_id != ring.deployment_id() {
            bail!(
                "the key ring belongs to deployment {}, the {} to {}: name the ring that its settings name",
                ring.deployment_id(),
                keeper.name(),
                found.deployment_id
            );
        }
        all.push(found);
    }
    Ok(all)
}
