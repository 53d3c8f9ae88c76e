//! The record of calls: one append to a local spool per call, sent on to the registry in its own time.

mod ship;
mod spool;

pub(crate) use spool::{Lot, Spool, SpoolError};

use std::sync::Arc;

use portico_proto_registry::AuditRecord;

use crate::metrics::GatewayMetrics;
use crate::refusal::{Reason, Refusal};
use crate::settings::OnFull;

/// Where calls are recorded.
#[derive(Debug, Clone)]
pub(crate) struct AuditLog {
    pub(crate) spool: Arc<Spool>,
    on_full: OnFull,
    metrics: GatewayMetrics,
}

impl AuditLog {
    pub(crate) fn new(spool: Arc<Spool>, on_full: OnFull, metrics: GatewayMetrics) -> Self {
        Self { spool, on_full, metrics }
    }

    /// Refuses a call that may change something while its record would have no place.
    pub(crate) fn admit(&self, may_change: bool) -> Result<(), Refusal> {
        if may_change && self.on_full == OnFull::Refuse && self.spool.is_full() {
            return Err(Refusal::new(
                Reason::AuditUnavailable,
                "calls cannot be recorded just now, so those that may change something are refused; try again later",
            ));
        }
        Ok(())
    }

    /// Writes a record before the last byte of the answer goes out; what does not fit is counted.
    pub(crate) fn append(&self, record: &AuditRecord) {
        match self.spool.append(record) {
            Ok(pending) => {
                self.metrics.audit_pending.set(i64::try_from(pending).unwrap_or(i64::MAX));
            }
            Err(SpoolError::Full) => {
                self.metrics.audit_dropped.inc();
            }
            Err(SpoolError::Io(error)) => {
                self.metrics.audit_dropped.inc();
                tracing::error!(error = %error, "audit record cannot be written");
            }
        }
    }
}
