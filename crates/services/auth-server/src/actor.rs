//! Who did something, and from where: what every audit row begins with.

use http::Extensions;
use http::HeaderMap;
use portico_clock::Clock;
use portico_ids::{AuditId, Rng};
use portico_telemetry::CorrelationId;
use portico_telemetry::trace_context::TraceContext;
use portico_transport::PeerAddr;

use crate::domain::names::displayable;
use crate::store::change::AuditEntry;

/// Outcome of what was done.
pub(crate) const DONE: &str = "allowed";
/// Outcome of what was not allowed.
pub(crate) const REFUSED: &str = "denied";

/// Who acts in a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Actor {
    pub(crate) principal: String,
    pub(crate) client_id: String,
    pub(crate) correlation_id: String,
    pub(crate) trace_id: String,
    pub(crate) peer: String,
}

/// What was done, for an audit row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deed<'a> {
    pub(crate) action: &'a str,
    pub(crate) target: &'a str,
    pub(crate) name: &'a str,
    pub(crate) outcome: &'a str,
    pub(crate) reason: &'a str,
}

impl<'a> Deed<'a> {
    pub(crate) const fn done(action: &'a str, target: &'a str, name: &'a str) -> Self {
        Self { action, target, name, outcome: DONE, reason: "" }
    }

    pub(crate) const fn refused(action: &'a str, target: &'a str, reason: &'a str) -> Self {
        Self { action, target, name: "", outcome: REFUSED, reason }
    }
}

impl Actor {
    /// Reads what a request says about itself; who acts is filled in once it is known.
    pub(crate) fn of_request(
        headers: &HeaderMap,
        extensions: &Extensions,
        (clock, rng): (&dyn Clock, &dyn Rng),
    ) -> Self {
        let correlation = extensions
            .get::<CorrelationId>()
            .cloned()
            .unwrap_or_else(|| CorrelationId::from_headers(headers, clock, rng));
        let trace = TraceContext::from_headers(headers).traceparent().map(|parent| parent.to_string());
        Self {
            correlation_id: correlation.as_str().to_owned(),
            // 00-TRACE-SPAN-FLAGS (W3C Trace Context §3.2).
            trace_id: trace.and_then(|text| text.split('-').nth(1).map(str::to_owned)).unwrap_or_default(),
            peer: extensions.get::<PeerAddr>().map(|peer| peer.0.ip().to_string()).unwrap_or_default(),
            ..Self::default()
        }
    }

    /// A task of this service itself.
    pub(crate) fn service() -> Self {
        Self { principal: "service:auth-server".to_owned(), ..Self::default() }
    }

    #[expect(clippy::needless_pass_by_value, reason = "callers have a principal or a borrowed one")]
    pub(crate) fn acting_as(mut self, principal: impl ToString, client_id: &str) -> Self {
        self.principal = principal.to_string();
        client_id.clone_into(&mut self.client_id);
        self
    }

    /// Makes the audit row of a deed.
    pub(crate) fn entry(&self, clock: &dyn Clock, rng: &dyn Rng, deed: Deed<'_>) -> AuditEntry {
        AuditEntry {
            id: AuditId::generate(clock, rng).as_uuid(),
            occurred_at: clock.now(),
            principal: self.principal.clone(),
            client_id: displayable(&self.client_id, 128),
            action: deed.action.to_owned(),
            target: displayable(deed.target, 256),
            name: displayable(deed.name, 128),
            outcome: deed.outcome.to_owned(),
            reason: deed.reason.to_owned(),
            correlation_id: self.correlation_id.clone(),
            trace_id: self.trace_id.clone(),
            peer: self.peer.clone(),
        }
    }
}
