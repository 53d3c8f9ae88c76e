//! The record of who did what: appended by services, read by auditors.

use portico_authz::{Action, Resource};
use portico_call_limits::{Denial, DenialLog};
use portico_ids::AuditId;

use super::Service;
use super::access::Actor;
use super::paging::{Asked, Page};
use crate::domain::audit::{AuditFilter, AuditRecord, Outcome};
use crate::errors::RegistryError;
use crate::store::audit;

impl Service {
    /// Appends what another service recorded; the same id twice keeps one.
    pub(crate) async fn append_audit(&self, records: Vec<AuditRecord>) -> Result<u64, RegistryError> {
        if records.is_empty() {
            return Ok(0);
        }
        let records: Vec<AuditRecord> = records.into_iter().map(AuditRecord::cleaned).collect();
        let mut tx = self.db.begin_write().await?;
        let added = audit::append((&mut tx).into(), &records).await?;
        tx.commit().await?;
        Ok(added)
    }

    /// Records that somebody tried what it may not do. Failing to record changes nothing for the caller.
    pub(crate) async fn audit_denial(&self, actor: &Actor, action: &str, error: &RegistryError) {
        let mut record = self.record(actor, action, "registry");
        record.outcome = Outcome::Denied;
        error.reason().clone_into(&mut record.reason);
        self.denials.record(self, record).await;
    }

    /// Reads records oldest first: those after `after_id`, or the newest ones.
    pub(crate) async fn list_audit(
        &self,
        actor: &Actor,
        asked: &Asked,
        after_id: Option<AuditId>,
        filter: &AuditFilter,
    ) -> Result<Page<AuditRecord>, RegistryError> {
        self.require(actor, Action::AuditRead, &Resource::Deployment)?;
        let size = asked.size()?;
        let list = format!("audit {after_id:?} {filter:?}");
        let token: Option<i64> = self.open_token(actor, &list, asked)?;
        let mut session = self.session().await?;
        let after = match (token, after_id) {
            (Some(seq), _) => Some(seq),
            (None, Some(id)) => {
                let seq = audit::seq_of(session.conn(), id).await?;
                Some(seq.ok_or_else(|| RegistryError::invalid("after_id", "is no record's id"))?)
            }
            (None, None) => None,
        };
        let limit = i64::try_from(size).unwrap_or(i64::MAX);
        let Some(after) = after else {
            let newest = audit::newest(session.conn(), filter, limit).await?;
            return Ok(Page {
                items: newest.into_iter().map(|stored| stored.record).collect(),
                next: String::new(),
            });
        };
        let mut stored = audit::after(session.conn(), after, filter, limit + 1).await?;
        let more = stored.len() > size;
        stored.truncate(size);
        let next = stored.last().filter(|_| more).map(|last| last.seq);
        let records = stored.into_iter().map(|stored| stored.record).collect();
        Ok(self.page(actor, &list, (records, next)))
    }
}

impl DenialLog for Service {
    type Record = AuditRecord;
    type Error = RegistryError;

    async fn append(&self, records: Vec<AuditRecord>) -> Result<(), RegistryError> {
        self.append_audit(records).await.map(drop)
    }
}

impl Denial for AuditRecord {
    fn principal(&self) -> &str {
        &self.principal
    }

    fn kind(&self) -> (&str, &str) {
        (&self.action, &self.reason)
    }

    fn add(&mut self, note: String) {
        self.name = note;
    }
}
