//! W3C Trace Context and Baggage, through HTTP headers, gRPC metadata and MCP `_meta`.
//!
//! With OTLP off a context passes through unchanged; with OTLP on, [`TraceContext::outgoing`] replaces the parent by
//! the current span. gRPC metadata gives its headers with `metadata.as_ref()` and `metadata.as_mut()`.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::init::OtlpMarker;

/// Name of the field and header that carries the parent.
pub const TRACEPARENT: &str = "traceparent";
/// Name of the field and header that carries vendors' state.
pub const TRACESTATE: &str = "tracestate";
/// Name of the field and header that carries baggage.
pub const BAGGAGE: &str = "baggage";

const TRACEPARENT_HEADER: HeaderName = HeaderName::from_static(TRACEPARENT);
const TRACESTATE_HEADER: HeaderName = HeaderName::from_static(TRACESTATE);
const BAGGAGE_HEADER: HeaderName = HeaderName::from_static(BAGGAGE);

/// Longest `tracestate` that is passed on (W3C Trace Context §3.3.1.5 asks for at least 512).
const MAX_TRACESTATE: usize = 512;
/// Most members of a `tracestate` (W3C Trace Context §3.3.1.1).
const MAX_TRACESTATE_MEMBERS: usize = 32;
/// Longest `baggage` that is passed on (W3C Baggage §3.3.2).
const MAX_BAGGAGE: usize = 8192;
/// Most members of a `baggage` (W3C Baggage §3.3.2).
const MAX_BAGGAGE_MEMBERS: usize = 64;

/// The caller's span: trace, span and flags (W3C Trace Context §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traceparent {
    trace: u128,
    span: u64,
    flags: u8,
}

impl Traceparent {
    /// Reads a `traceparent`; later versions are read as version 00 (W3C Trace Context §4.3).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let dashes = bytes.len() >= 55 && bytes[2] == b'-' && bytes[35] == b'-' && bytes[52] == b'-';
        if !dashes {
            return None;
        }
        let version = hex(&bytes[..2])?;
        let longer = bytes.len() > 55;
        if version == 0xff || (longer && (version == 0 || bytes[55] != b'-')) {
            return None;
        }
        let trace = hex(&bytes[3..35])?;
        let span = u64::try_from(hex(&bytes[36..52])?).ok()?;
        let flags = u8::try_from(hex(&bytes[53..55])?).ok()?;
        // Version 00 defines the lowest bit only; the others are not ours to pass on.
        (trace != 0 && span != 0).then_some(Self { trace, span, flags: flags & 1 })
    }

    /// Tells whether the caller recorded its part of the trace.
    #[must_use]
    pub fn is_sampled(self) -> bool {
        self.flags & 1 == 1
    }
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

/// Reads lower-case hexadecimal digits; upper case is invalid here (W3C Trace Context §3.2.2).
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |value, digit| {
        let nibble = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(nibble))
    })
}

/// What a request carries about the trace it belongs to. Invalid parts are dropped, never passed on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TraceContext {
    traceparent: Option<Traceparent>,
    tracestate: Option<String>,
    baggage: Option<String>,
}

impl TraceContext {
    /// Reads the three fields where they stand apart, as in MCP `_meta`.
    #[must_use]
    pub fn from_meta(traceparent: Option<&str>, tracestate: Option<&str>, baggage: Option<&str>) -> Self {
        let traceparent = traceparent.and_then(Traceparent::parse);
        Self {
            // A state without its parent means nothing (W3C Trace Context §4.3).
            tracestate: tracestate
                .filter(|_| traceparent.is_some())
                .filter(|text| is_list(text, MAX_TRACESTATE, MAX_TRACESTATE_MEMBERS))
                .map(str::to_owned),
            traceparent,
            baggage: baggage
                .filter(|text| is_list(text, MAX_BAGGAGE, MAX_BAGGAGE_MEMBERS))
                .map(str::to_owned),
        }
    }

    /// Reads HTTP headers or gRPC metadata; lists that came in several headers are joined (RFC 9110 §5.3).
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let mut parents = headers.get_all(TRACEPARENT_HEADER).iter();
        let parent = match (parents.next(), parents.next()) {
            (Some(only), None) => only.to_str().ok(),
            // Two parents contradict each other: the trace starts anew.
            _ => None,
        };
        let state = joined(headers, &TRACESTATE_HEADER);
        let baggage = joined(headers, &BAGGAGE_HEADER);
        Self::from_meta(parent, state.as_deref(), baggage.as_deref())
    }

    /// Returns the parent, if a valid one came.
    #[must_use]
    pub fn traceparent(&self) -> Option<Traceparent> {
        self.traceparent
    }

    /// Returns the vendors' state.
    #[must_use]
    pub fn tracestate(&self) -> Option<&str> {
        self.tracestate.as_deref()
    }

    /// Returns the baggage.
    #[must_use]
    pub fn baggage(&self) -> Option<&str> {
        self.baggage.as_deref()
    }

    /// Tells whether there is nothing to pass on.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.traceparent.is_none() && self.baggage.is_none()
    }

    /// Takes `self` where it has a parent and `other` where it has none: `_meta` first, then the headers.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let (traceparent, tracestate) = match self.traceparent {
            Some(parent) => (Some(parent), self.tracestate),
            None => (other.traceparent, other.tracestate),
        };
        Self { traceparent, tracestate, baggage: self.baggage.or(other.baggage) }
    }

    /// Returns the fields that are set, by name, ready for `_meta`.
    pub fn entries(&self) -> impl Iterator<Item = (&'static str, String)> + '_ {
        [
            (TRACEPARENT, self.traceparent.map(|parent| parent.to_string())),
            (TRACESTATE, self.tracestate.clone()),
            (BAGGAGE, self.baggage.clone()),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }

    /// Sets the fields as HTTP headers or gRPC metadata; what stood there before is replaced.
    pub fn inject_headers(&self, headers: &mut HeaderMap) {
        let fields = [
            (TRACEPARENT_HEADER, self.traceparent.map(|parent| parent.to_string())),
            (TRACESTATE_HEADER, self.tracestate.clone()),
            (BAGGAGE_HEADER, self.baggage.clone()),
        ];
        for (name, text) in fields {
            headers.remove(&name);
            if let Some(value) = text.and_then(|text| HeaderValue::try_from(text).ok()) {
                headers.insert(name, value);
            }
        }
    }

    /// Makes `span` a child of the caller's span. Call it before the span is entered; free when OTLP is off.
    pub fn adopt(&self, span: &Span) {
        if !is_exported(span) {
            return;
        }
        if let Some(parent) = self.span_context() {
            // The only other failure is a span that is already running, which then keeps its own parent.
            let _ = span.set_parent(Context::new().with_remote_span_context(parent));
        }
    }

    /// Links `span` to the caller's span without becoming its child, as for work that an event started.
    pub fn link(&self, span: &Span) {
        if !is_exported(span) {
            return;
        }
        if let Some(cause) = self.span_context() {
            span.add_link(cause);
        }
    }

    /// Returns what the next hop shall get: `span` as the parent when OTLP is on, `self` unchanged when it is off.
    #[must_use]
    pub fn outgoing(&self, span: &Span) -> Self {
        if !is_exported(span) {
            return self.clone();
        }
        let context = span.context();
        let current = context.span().span_context().clone();
        if !current.is_valid() {
            return self.clone();
        }
        Self {
            traceparent: Some(Traceparent {
                trace: u128::from_be_bytes(current.trace_id().to_bytes()),
                span: u64::from_be_bytes(current.span_id().to_bytes()),
                flags: current.trace_flags().to_u8() & 1,
            }),
            tracestate: self.tracestate.clone(),
            baggage: self.baggage.clone(),
        }
    }

    fn span_context(&self) -> Option<SpanContext> {
        let parent = self.traceparent?;
        let state = self.tracestate.as_deref().and_then(|text| text.parse::<TraceState>().ok());
        Some(SpanContext::new(
            TraceId::from_bytes(parent.trace.to_be_bytes()),
            SpanId::from_bytes(parent.span.to_be_bytes()),
            TraceFlags::new(parent.flags),
            true,
            state.unwrap_or_default(),
        ))
    }
}

/// Tells whether `span` is exported by OTLP: one look at the subscriber, nothing is built.
#[must_use]
pub fn is_exported(span: &Span) -> bool {
    span.with_subscriber(|(_, dispatch)| dispatch.downcast_ref::<OtlpMarker>().is_some()).unwrap_or(false)
}

fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut text: Option<String> = None;
    for value in headers.get_all(name) {
        let value = value.to_str().ok()?;
        match &mut text {
            None => text = Some(value.to_owned()),
            Some(text) => {
                text.push(',');
                text.push_str(value);
            }
        }
    }
    text
}

/// Tells whether `text` is a list of `key=value` members in printable ASCII, within the limits.
fn is_list(text: &str, max_bytes: usize, max_members: usize) -> bool {
    let printable = text.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte));
    if text.is_empty() || text.len() > max_bytes || !printable {
        return false;
    }
    let mut members = 0;
    for member in text.split(',').map(str::trim).filter(|member| !member.is_empty()) {
        members += 1;
        if members > max_members || !member.contains('=') || member.starts_with('=') {
            return false;
        }
    }
    members > 0
}

#[cfg(test)]
mod tests;
