//! `AuditSinkService`: what other services recorded.

use portico_proto_registry as proto;
use portico_proto_registry::audit_sink_service_server::AuditSinkService;
use tonic::{Request, Response, Status};

use super::Registry;
use crate::convert;
use crate::errors::RegistryError;
use crate::service::Service;
use crate::service::access::Actor;

/// Who may append.
const RECORDERS: [&str; 4] = ["gateway", "auth-server", "oauth-broker", "console"];
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
    let records = message
        .records
        .into_iter()
        .map(|record| convert::audit_record(record, recorder))
        .collect::<Result<_, _>>()?;
    let appended = service.append_audit(records).await?;
    Ok(proto::AppendAuditResponse { appended: i32::try_from(appended).unwrap_or(i32::MAX) })
}
