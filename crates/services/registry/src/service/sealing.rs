//! Rotating the keys that secrets are sealed with.

use portico_authz::{Action, Resource};
use portico_db::sealed::{KeyColumn, KeyPart, KeyUse, Position, Rewrapped, SealedColumn, key_use, rewrap};

use super::Service;
use super::access::Actor;
use crate::errors::RegistryError;
use crate::store::audit;

/// What this service keeps sealed.
pub(crate) const COLUMNS: [SealedColumn; 1] = [SealedColumn {
    table: "secrets",
    column: "sealed",
    key: &[KeyColumn::Text("ref")],
    version: Some("version"),
    row: reference,
}];

fn reference(key: &[KeyPart]) -> String {
    match key {
        [KeyPart::Text(reference)] => reference.clone(),
        _ => String::new(),
    }
}

impl Service {
    /// Counts the secrets that each key holds.
    pub(crate) async fn key_use(&self, actor: &Actor) -> Result<KeyUse, RegistryError> {
        self.require(actor, Action::KeyRead, &Resource::Deployment)?;
        let mut session = self.session().await?;
        Ok(key_use(session.conn(), &COLUMNS, &self.sealer.ring().key_ids()).await?)
    }

    /// Wraps a batch of secrets with `key_id`, which has to be the key that this replica seals with.
    ///
    /// Values and versions stay the same, so that nobody who follows the catalogue hears of it.
    pub(crate) async fn rewrap(
        &self,
        actor: &Actor,
        key_id: &str,
        batch: (Position, u32),
    ) -> Result<Rewrapped, RegistryError> {
        self.require(actor, Action::KeyUpdate, &Resource::Deployment)?;
        let sealing = self.sealer.ring().sealing_key();
        if key_id != sealing {
            return Err(RegistryError::SealingKeyDiffers { sealing });
        }
        let mut tx = self.db.begin_write().await?;
        let (position, limit) = batch;
        let batch = (position, limit, self.clock.now());
        let done = rewrap((&mut tx).into(), &self.sealer, &COLUMNS, batch).await?;
        let mut records: Vec<_> =
            done.closed.iter().map(|key| self.record(actor, "key.close", key)).collect();
        if done.rewrapped > 0 {
            let mut record = self.record(actor, "key.rewrap", key_id);
            record.name = format!("{} rows", done.rewrapped);
            records.push(record);
        }
        if !records.is_empty() {
            audit::append((&mut tx).into(), &records).await?;
        }
        tx.commit().await?;
        Ok(done)
    }
}
