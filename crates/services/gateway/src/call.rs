//! One call from its first byte to its last: what is known of it, and the one record that it leaves.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use portico_clock::SharedClock;
use portico_coordination::{Limit, LimitKey, RateLimiter};
use portico_ids::{AuditId, SharedRng};
use portico_mcp_types::{CallParams, Envelope, Splice};
use portico_proto_registry::AuditRecord;
use portico_telemetry::trace_context::TRACEPARENT;
use portico_telemetry::{CorrelationId, TraceContext, is_exported};
use tokio::time::Instant;
use tracing::Span;

use crate::access::OpenCall;
use crate::audit::AuditLog;
use crate::load::{Load, Place};
use crate::metrics::{AGENT_GONE, CANCELLED, GatewayMetrics, OK};
use crate::refusal::{Outcome, Refusal};
use crate::trace::step;

/// What every call needs to leave its record.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    pub(crate) audit: AuditLog,
    pub(crate) metrics: GatewayMetrics,
    pub(crate) clock: SharedClock,
    pub(crate) rng: SharedRng,
    /// Records of what is turned away at the door are limited, so that nobody fills the spool with them.
    pub(crate) door: DoorLimit,
}

/// Token buckets for records of calls that did not come in: one for all callers that nobody knows, one for each other.
#[derive(Debug, Clone)]
pub(crate) struct DoorLimit {
    pub(crate) limiter: RateLimiter,
    pub(crate) limit: Limit,
}

/// A call; dropped unfinished, it says that the agent left, which is how a stream that stays ends.
#[derive(Debug)]
pub(crate) struct Call(Box<Details>);

/// What is known of a call.
#[derive(Debug)]
pub(crate) struct Details {
    recorder: Arc<Recorder>,
    started: Instant,
    pub(crate) correlation: CorrelationId,
    /// What goes to servers; names the call's newest step as the parent where spans are exported.
    pub(crate) trace: TraceContext,
    /// The call's own span, open until the call is over.
    pub(crate) span: Span,
    pub(crate) peer: String,
    pub(crate) principal: String,
    pub(crate) client_id: String,
    pub(crate) endpoint: String,
    /// The MCP method, or the HTTP method of what is none.
    pub(crate) action: String,
    /// Tool, prompt or resource.
    pub(crate) name: String,
    pub(crate) request_bytes: usize,
    pub(crate) response_bytes: usize,
    /// How often it was sent to another instance because one took no connection.
    retries: AtomicU32,
    /// The places that it takes until it is over: of its principal, and of all.
    open: Option<Arc<OpenCall>>,
    pub(crate) place: Option<Place>,
    admitted: bool,
    /// A stream that stays ends when its agent closes it.
    stays: bool,
    finished: bool,
}

impl Deref for Call {
    type Target = Details;

    fn deref(&self) -> &Details {
        &self.0
    }
}

impl DerefMut for Call {
    fn deref_mut(&mut self) -> &mut Details {
        &mut self.0
    }
}

impl Call {
    pub(crate) fn begin(recorder: Arc<Recorder>, correlation: CorrelationId, action: &str) -> Self {
        Self(Box::new(Details {
            recorder,
            started: Instant::now(),
            correlation,
            trace: TraceContext::default(),
            span: Span::none(),
            peer: String::new(),
            principal: String::new(),
            client_id: String::new(),
            endpoint: String::new(),
            action: action.to_owned(),
            name: String::new(),
            request_bytes: 0,
            response_bytes: 0,
            retries: AtomicU32::new(0),
            open: None,
            place: None,
            admitted: false,
            stays: false,
            finished: false,
        }))
    }

    /// A further call within the same request, as in a batch or a merged list.
    pub(crate) fn sibling(&self, action: &str) -> Self {
        let mut call = Self::begin(Arc::clone(&self.recorder), self.correlation.clone(), action);
        call.trace.clone_from(&self.trace);
        call.span.clone_from(&self.span);
        call.peer.clone_from(&self.peer);
        call.principal.clone_from(&self.principal);
        call.client_id.clone_from(&self.client_id);
        call.endpoint.clone_from(&self.endpoint);
        call.admitted = self.admitted;
        call
    }
}

impl Details {
    pub(crate) fn done(&mut self) {
        self.finish(Outcome::Allowed, OK);
    }

    /// The agent wants no answer any more.
    pub(crate) fn cancelled(&mut self) {
        self.finish(Outcome::Failed, CANCELLED);
    }

    /// Lets the call in: it is recorded whatever becomes of it.
    pub(crate) fn admit(&mut self, open: Arc<OpenCall>) {
        (self.open, self.admitted) = (Some(open), true);
    }

    /// Makes this a stream that stays: it takes a place among those, and gives its place among the calls back.
    pub(crate) fn stay(&mut self, load: &Load) -> Result<(), Refusal> {
        self.place = Some(load.enter_stream()?);
        self.stays = true;
        Ok(())
    }

    pub(crate) fn refused(&mut self, refusal: &Refusal) {
        self.finish(refusal.reason.outcome(), refusal.reason.as_str());
    }

    /// It is sent to another instance, because one took no connection.
    pub(crate) fn note_retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// Begins the step that calls a server; what the server gets names it as the parent.
    pub(crate) fn upstream_step(&mut self) -> Span {
        let step = step!(&self.span, "gateway.upstream");
        self.trace = self.trace.outgoing(&step);
        step
    }

    /// Puts the parent that the server gets into `_meta` too, where the agent has put its own.
    pub(crate) fn traced_body(&self, body: Bytes) -> Bytes {
        if !is_exported(&self.span) || memchr::memmem::find(&body, TRACEPARENT.as_bytes()).is_none() {
            return body;
        }
        self.with_parent(&body).unwrap_or(body)
    }

    fn with_parent(&self, body: &Bytes) -> Option<Bytes> {
        let envelope = Envelope::parse(body).ok()?;
        let params = CallParams::parse(envelope.params).ok()?;
        let (raw, parent) = (params.meta.get(TRACEPARENT)?, self.trace.traceparent()?);
        let mut splice = Splice::new(body);
        splice.replace_text(raw, &parent.to_string());
        Some(splice.apply())
    }

    /// Nothing is to be recorded, as for a preflight.
    pub(crate) fn forget(&mut self) {
        self.finished = true;
    }

    /// Leaves the record, the access-log line and the counts; only the first time counts.
    fn finish(&mut self, outcome: Outcome, reason: &'static str) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        let elapsed = self.started.elapsed();
        self.recorder.metrics.count(reason);
        self.recorder.metrics.duration.observe(elapsed.as_secs_f64());
        tracing::info!(
            target: "portico::access",
            action = self.action,
            endpoint = self.endpoint,
            name = self.name,
            principal = self.principal,
            outcome = outcome.as_str(),
            reason,
            correlation_id = self.correlation.as_str(),
            duration_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
            response_bytes = self.response_bytes,
            retries = self.retries.load(Ordering::Relaxed),
            "call ended"
        );
        if !self.admitted && !self.recorder.may_be_recorded(&self.principal) {
            return;
        }
        let _step = step!(&self.span, "gateway.audit").entered();
        self.recorder.audit.append(&self.audit_record(outcome, reason, elapsed));
    }

    /// The trace's part of `traceparent` (W3C Trace Context §3.2.2.3).
    fn trace_id(&self) -> String {
        let parent = self.trace.traceparent().map(|parent| parent.to_string());
        parent.and_then(|text| text.get(3..35).map(str::to_owned)).unwrap_or_default()
    }

    fn audit_record(&self, outcome: Outcome, reason: &str, elapsed: std::time::Duration) -> AuditRecord {
        let now = self.recorder.clock.now();
        let bytes = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        AuditRecord {
            id: AuditId::generate(&*self.recorder.clock, &*self.recorder.rng).to_string(),
            occurred_at: Some(prost_types::Timestamp {
                seconds: now.timestamp(),
                nanos: i32::try_from(now.timestamp_subsec_nanos()).unwrap_or_default(),
            }),
            service: "gateway".to_owned(),
            principal: if self.principal.is_empty() {
                "anonymous".to_owned()
            } else {
                self.principal.clone()
            },
            client_id: self.client_id.clone(),
            action: self.action.clone(),
            target: if self.endpoint.is_empty() {
                String::new()
            } else {
                format!("endpoint:{}", self.endpoint)
            },
            name: self.name.clone(),
            outcome: outcome.as_str().to_owned(),
            reason: reason.to_owned(),
            correlation_id: self.correlation.as_str().to_owned(),
            trace_id: self.trace_id(),
            duration_ms: i64::try_from(elapsed.as_micros().div_ceil(1000)).unwrap_or(i64::MAX),
            request_bytes: bytes(self.request_bytes),
            response_bytes: bytes(self.response_bytes),
            peer: self.peer.clone(),
        }
    }
}

impl Drop for Details {
    fn drop(&mut self) {
        let outcome = if self.stays { Outcome::Allowed } else { Outcome::Failed };
        self.finish(outcome, AGENT_GONE);
    }
}

impl Recorder {
    fn may_be_recorded(&self, principal: &str) -> bool {
        let key = LimitKey::new("gateway/records", principal);
        self.door.limiter.try_acquire(&key, self.door.limit, self.clock.now()).is_ok()
    }
}
