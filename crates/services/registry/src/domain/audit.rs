//! Audit records: who did what, to what, and how it ended.

use chrono::{DateTime, Utc};
use portico_ids::AuditId;

use super::names::words;
use super::text::clipped;

words!(
    /// How it ended.
    Outcome { Allowed = "allowed", Denied = "denied", Failed = "failed" }
);

/// One record. Appending the same id twice keeps one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AuditRecord {
    pub(crate) id: AuditId,
    pub(crate) occurred_at: DateTime<Utc>,
    pub(crate) service: String,
    pub(crate) principal: String,
    pub(crate) client_id: String,
    pub(crate) action: String,
    pub(crate) target: String,
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
    pub(crate) reason: String,
    pub(crate) correlation_id: String,
    pub(crate) trace_id: String,
    pub(crate) duration_ms: i64,
    pub(crate) request_bytes: i64,
    pub(crate) response_bytes: i64,
    pub(crate) peer: String,
}

/// Longest field of a record. An agent chooses some of them; a record is cut rather than lost.
const FIELD_LIMIT: usize = 512;

impl AuditRecord {
    /// Cuts every text to its limit and drops control characters, so that no record can forge another on a terminal.
    #[must_use]
    pub(crate) fn cleaned(mut self) -> Self {
        for text in [
            &mut self.service,
            &mut self.principal,
            &mut self.client_id,
            &mut self.action,
            &mut self.target,
            &mut self.name,
            &mut self.reason,
            &mut self.correlation_id,
            &mut self.trace_id,
            &mut self.peer,
        ] {
            // Nearly all are plain already.
            if text.len() > FIELD_LIMIT || !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
                *text = clipped(text, FIELD_LIMIT).replace(['\n', '\t'], " ");
            }
        }
        for number in [&mut self.duration_ms, &mut self.request_bytes, &mut self.response_bytes] {
            *number = (*number).max(0);
        }
        self
    }
}

/// Which records somebody asks for.
#[derive(Debug, Clone, Default)]
pub(crate) struct AuditFilter {
    pub(crate) principal: Option<String>,
    pub(crate) action: Option<String>,
    pub(crate) correlation_id: Option<String>,
}
