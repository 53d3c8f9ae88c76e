//! `AuditService`.

use portico_authz::Action;
use portico_ids::AuditId;
use portico_proto_auth as proto;
use portico_proto_auth::audit_service_server::AuditService;
use tonic::{Request, Response, Status};

use super::Rpc;
use super::convert;
use super::entry::Call;
use super::errors::RpcError;
use super::paging::Asked;
use crate::app::App;
use crate::store::audit::AuditFilter;

#[tonic::async_trait]
impl AuditService for Rpc {
    async fn list_audit(
        &self,
        request: Request<proto::ListAuditRequest>,
    ) -> Result<Response<proto::ListAuditResponse>, Status> {
        let (call, message) = self.enter(request)?;
        let outcome = list(&self.app, &call, message).await;
        self.answer(&call, ("audit.read", ""), outcome).await
    }
}

/// Reads records oldest first: those after `after_id`, or the newest ones.
async fn list(
    app: &App,
    call: &Call,
    message: proto::ListAuditRequest,
) -> Result<proto::ListAuditResponse, RpcError> {
    call.allow(app, Action::AuditRead)?;
    let set = |text: String| Some(text).filter(|text| !text.is_empty());
    let filter = AuditFilter {
        principal: set(message.principal),
        action: set(message.action),
        correlation_id: set(message.correlation_id),
    };
    let list = format!("ListAudit {} {filter:?}", message.after_id);
    let asked: Asked<'_, i64> = Asked::read((app, call), &list, (message.page_size, &message.page_token))?;
    let after = match (asked.after, message.after_id.as_str()) {
        (Some(position), _) => Some(position),
        (None, "") => None,
        (None, id) => {
            let id: AuditId = convert::id("after_id", id)?;
            let position = app.stores.audit.position(id).await?;
            Some(position.ok_or_else(|| RpcError::invalid("after_id", "is no record's id"))?)
        }
    };
    let (rows, next_page_token) = match after {
        Some(after) => {
            let rows = app.stores.audit.after(after, &filter, asked.limit()).await?;
            asked.page((app, call), rows, |row| row.seq)
        }
        None => (app.stores.audit.newest(&filter, asked.limit() - 1).await?, String::new()),
    };
    let records = rows.into_iter().map(convert::audit).collect();
    Ok(proto::ListAuditResponse { records, next_page_token })
}
