//! `AuditService`.

use portico_oauth_types::Scope;
use portico_proto_registry as proto;
use portico_proto_registry::audit_service_server::AuditService;
use tonic::{Request, Response, Status};

use super::Registry;
use crate::convert;
use crate::domain::audit::AuditFilter;
use crate::errors::RegistryError;
use crate::service::Service;
use crate::service::access::Actor;
use crate::service::paging::Asked;

#[tonic::async_trait]
impl AuditService for Registry {
    async fn list_audit(
        &self,
        request: Request<proto::ListAuditRequest>,
    ) -> Result<Response<proto::ListAuditResponse>, Status> {
        let (actor, message) = self.enter(request)?;
        let outcome = list(&self.service, &actor, message).await;
        self.answer(&actor, "audit.read", outcome).await
    }
}

async fn list(
    service: &Service,
    actor: &Actor,
    message: proto::ListAuditRequest,
) -> Result<proto::ListAuditResponse, RegistryError> {
    actor.with_scope(Scope::RegistryRead)?;
    let asked = Asked { page_size: message.page_size, page_token: message.page_token };
    let after_id = match message.after_id.as_str() {
        "" => None,
        id => Some(convert::id("after_id", id)?),
    };
    let set = |text: String| Some(text).filter(|text| !text.is_empty());
    let filter = AuditFilter {
        principal: set(message.principal),
        action: set(message.action),
        correlation_id: set(message.correlation_id),
    };
    let page = service.list_audit(actor, &asked, after_id, &filter).await?;
    Ok(proto::ListAuditResponse {
        records: page.items.into_iter().map(convert::audit_message).collect(),
        next_page_token: page.next,
    })
}
