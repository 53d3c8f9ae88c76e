//! `AuditSinkService`: what other services recorded.

use chrono::TimeDelta;
use portico_proto_registry as proto;
use portico_proto_registry::audit_sink_service_server::AuditSinkService;
use tonic::{Request, Response, Status};

use super::Registry;
use crate::convert;
use crate::errors::RegistryError;
use crate::service::Service;
use crate::service::access::Actor;

/// Who may append.
const RECORDERS: [&str; 1] = ["gateway"];
/// How far a recorder's clock may be ahead. A record from the future would be kept for longer than the others.
const AHEAD: TimeDelta = TimeDelta::minutes(2);
/// Most records of one request.
const RECORD_COUNT: usize = 1000;

#[tonic::async_trait]
impl AuditSinkService for Registry {
    async fn append_audit(
        &self,
        request: Request<proto::AppendAuditRequest>,
    ) -> Result<Response<proto::AppendAuditResponse>, Status> {
        let (actor, message) = self.enter(request)?;
        let outcome = append(&self.service, &actor, message).await;
        self.answer(&actor, "audit.append", outcome).await
    }
}

async fn append(
    service: &Service,
    actor: &Actor,
    message: proto::AppendAuditRequest,
) -> Result<proto::AppendAuditResponse, RegistryError> {
    let recorder = actor.service_among(&RECORDERS)?;
    if message.records.len() > RECORD_COUNT {
        return Err(RegistryError::invalid("records", format!("at most {RECORD_COUNT} records at once")));
    }
    // One that cannot be read must not hold up those behind it: a recorder sends a refused batch again for ever.
    let sent = message.records.len();
    let mut records = Vec::with_capacity(sent);
    let latest = service.clock.now() + AHEAD;
    for record in message.records {
        match convert::audit_record(record, recorder) {
            Ok(mut record) => {
                record.occurred_at = record.occurred_at.min(latest);
                records.push(record);
            }
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                audit.recorder = recorder,
                "audit record cannot be read and is lost"
            ),
        }
    }
    let unreadable = sent - records.len();
    let appended = service.append_audit(records).await?;
    Ok(proto::AppendAuditResponse {
        appended: i32::try_from(appended).unwrap_or(i32::MAX),
        unreadable: i32::try_from(unreadable).unwrap_or(i32::MAX),
    })
}
