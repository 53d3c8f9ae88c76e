//! What every method does first and last.

use aws_lc_rs::digest;
use portico_authn::Caller;
use portico_telemetry::trace_context::TraceContext;
use portico_telemetry::{CORRELATION_HEADER, CorrelationId, Metrics};
use portico_transport::PeerAddr;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prost::Message;
use tonic::metadata::{Ascii, MetadataKey, MetadataMap, MetadataValue};
use tonic::{Request, Response, Status};

use super::Registry;
use crate::errors::RegistryError;
use crate::service::access::{Actor, Origin};
use crate::service::change::Once;

/// Longest request id that a caller may choose.
const REQUEST_ID_LIMIT: usize = 128;

/// How often each action ended in which way, and what rotations did.
#[derive(Debug, Clone, Default)]
pub(crate) struct Calls {
    ended: Family<CallLabels, Counter>,
    rewrapped: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    action: &'static str,
    reason: &'static str,
}

impl Calls {
    pub(crate) fn registered(metrics: &Metrics) -> Self {
        let calls = Self::default();
        metrics.register(
            "portico_registry_calls",
            "gRPC calls by action and how they ended",
            calls.ended.clone(),
        );
        metrics.register(
            "portico_registry_rows_rewrapped",
            "Sealed rows wrapped with a newer key of the ring",
            calls.rewrapped.clone(),
        );
        calls
    }

    fn count(&self, action: &'static str, reason: &'static str) {
        self.ended.get_or_create(&CallLabels { action, reason }).inc();
    }

    pub(super) fn count_rewrapped(&self, rows: u32) {
        self.rewrapped.inc_by(rows.into());
    }
}

impl Registry {
    /// Reads who calls and from where.
    pub(super) fn enter<T>(&self, request: Request<T>) -> Result<(Actor, T), Status> {
        let caller = Caller::of(&request)?.clone();
        let (metadata, extensions, message) = request.into_parts();
        let headers = metadata.into_headers();
        let correlation = CorrelationId::from_headers(&headers, &*self.service.clock, &*self.service.rng);
        // version-TRACE-span-flags (W3C Trace Context §3.2)
        let trace = TraceContext::from_headers(&headers).traceparent().map(|parent| parent.to_string());
        let origin = Origin {
            correlation_id: correlation.to_string(),
            trace_id: trace.as_deref().and_then(|text| text.split('-').nth(1)).unwrap_or_default().to_owned(),
            peer: extensions.get::<PeerAddr>().map(|peer| peer.0.ip().to_string()).unwrap_or_default(),
        };
        Ok((Actor { caller, origin }, message))
    }

    /// Answers, counts, and records who tried what it may not do.
    pub(super) async fn answer<T>(
        &self,
        actor: &Actor,
        action: &'static str,
        outcome: Result<T, RegistryError>,
    ) -> Result<Response<T>, Status> {
        let correlation = actor.origin.correlation_id.parse::<MetadataValue<Ascii>>().ok();
        let tell = |metadata: &mut MetadataMap| {
            let name = MetadataKey::<Ascii>::from_bytes(CORRELATION_HEADER.as_str().as_bytes());
            if let (Some(correlation), Ok(name)) = (correlation, name) {
                metadata.insert(name, correlation);
            }
        };
        match outcome {
            Ok(message) => {
                self.calls.count(action, "ok");
                let mut response = Response::new(message);
                tell(response.metadata_mut());
                Ok(response)
            }
            Err(error) => {
                self.calls.count(action, error.reason());
                if error.is_denial() {
                    self.service.audit_denial(actor, action, &error).await;
                }
                tracing::info!(
                    registry.action = action,
                    error.reason = error.reason(),
                    correlation.id = actor.origin.correlation_id,
                    "registry call refused"
                );
                let mut status = Status::from(error);
                tell(status.metadata_mut());
                Err(status)
            }
        }
    }
}

/// Makes the key under which a create is remembered. `message` is the request without its id.
pub(super) fn once(
    actor: &Actor,
    method: &str,
    request_id: String,
    message: &impl Message,
) -> Result<Option<Once>, RegistryError> {
    if request_id.is_empty() {
        return Ok(None);
    }
    if request_id.len() > REQUEST_ID_LIMIT || !request_id.bytes().all(|c| c.is_ascii_graphic()) {
        return Err(RegistryError::invalid("request_id", "has at most 128 printable ASCII characters"));
    }
    let digest = digest::digest(&digest::SHA256, &message.encode_to_vec()).as_ref().to_vec();
    Ok(Some(Once { scope: format!("{method} {}", actor.id()), request_id, digest }))
}
