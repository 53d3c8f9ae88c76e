//! `GrantService`.

use portico_authz::Action;
use portico_db::StoreError;
use portico_ids::{EndpointName, GrantId, PrincipalId, RoleId};
use portico_proto_auth as proto;
use portico_proto_auth::grant_service_server::GrantService;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::Rpc;
use super::convert;
use super::entry::Call;
use super::errors::RpcError;
use super::paging::Asked;
use crate::actor::Deed;
use crate::app::App;
use crate::catalogue::KnownEndpoint;
use crate::domain::entitlement::EVERYWHERE;
use crate::store::grants::Grant;
use crate::store::roles::Role;

const KIND: &str = "grant";

#[tonic::async_trait]
impl GrantService for Rpc {
    async fn create_grant(
        &self,
        request: Request<proto::CreateGrantRequest>,
    ) -> Result<Response<proto::CreateGrantResponse>, Status> {
        let (call, message) = self.enter(request)?;
        let outcome = create(&self.app, &call, &message).await;
        self.answer(&call, ("grant.create", &message.principal), outcome).await
    }

    async fn list_grants(
        &self,
        request: Request<proto::ListGrantsRequest>,
    ) -> Result<Response<proto::ListGrantsResponse>, Status> {
        let (call, message) = self.enter(request)?;
        let outcome = list(&self.app, &call, &message).await;
        self.answer(&call, ("grant.read", &message.principal), outcome).await
    }

    async fn delete_grant(
        &self,
        request: Request<proto::DeleteGrantRequest>,
    ) -> Result<Response<proto::DeleteGrantResponse>, Status> {
        let (call, message) = self.enter(request)?;
        let outcome = delete(&self.app, &call, &message).await;
        self.answer(&call, ("grant.delete", &message.id), outcome).await
    }
}

async fn create(
    app: &App,
    call: &Call,
    message: &proto::CreateGrantRequest,
) -> Result<proto::CreateGrantResponse, RpcError> {
    call.allow(app, Action::GrantCreate)?;
    let principal = principal(app, &message.principal).await?;
    let role = role(app, &message.role).await?;
    app.require_within(call, &role)?;
    let endpoint = endpoint(app, &message.endpoint)?;
    let (endpoint, endpoint_id) = match endpoint {
        Some(endpoint) => (endpoint.name.to_string(), Some(endpoint.id.as_uuid())),
        None => (EVERYWHERE.to_owned(), None),
    };
    let mut grant = Grant {
        id: GrantId::generate(&*app.clock, &*app.rng),
        principal: principal.to_string(),
        role_id: role.id,
        role_name: role.name,
        endpoint,
        endpoint_id,
        created_at: app.clock.now(),
    };
    // The tokens that are about lack the role; new ones have it.
    let name = grant.described();
    let change = app.revoking(call, Deed::done("grant.create", &grant.principal, &name), [&grant.principal]);
    grant.created_at = change.audit.occurred_at;
    match app.stores.grants.create(&grant, &change).await {
        Ok(()) => {}
        Err(StoreError::AlreadyExists) => return Err(RpcError::GrantExists { principal: grant.principal }),
        // The role was deleted meanwhile.
        Err(StoreError::Referenced) => return Err(RpcError::UnknownRole { name: message.role.clone() }),
        Err(error) => return Err(error.into()),
    }
    app.spread().await;
    Ok(proto::CreateGrantResponse { grant: Some(convert::grant(grant)) })
}

async fn list(
    app: &App,
    call: &Call,
    message: &proto::ListGrantsRequest,
) -> Result<proto::ListGrantsResponse, RpcError> {
    call.allow(app, Action::GrantRead)?;
    let of = match message.principal.as_str() {
        "" => None,
        text => Some(principal(app, text).await?.to_string()),
    };
    let list = format!("ListGrants {}", of.as_deref().unwrap_or_default());
    let asked: Asked<'_, Uuid> = Asked::read((app, call), &list, (message.page_size, &message.page_token))?;
    let rows = app.stores.grants.list(of.as_deref(), asked.after, asked.limit()).await?;
    let (grants, next_page_token) = asked.page((app, call), rows, |grant| grant.id.as_uuid());
    Ok(proto::ListGrantsResponse {
        grants: grants.into_iter().map(convert::grant).collect(),
        next_page_token,
    })
}

async fn delete(
    app: &App,
    call: &Call,
    message: &proto::DeleteGrantRequest,
) -> Result<proto::DeleteGrantResponse, RpcError> {
    call.allow(app, Action::GrantDelete)?;
    let id: GrantId = convert::id("id", &message.id)?;
    let grant = app.stores.grants.get(id).await?.ok_or(RpcError::NotFound { kind: KIND })?;
    if let Some(role) = app.stores.roles.get(grant.role_id).await? {
        app.require_within(call, &role)?;
    }
    let name = grant.described();
    let change = app.revoking(call, Deed::done("grant.delete", &grant.principal, &name), [&grant.principal]);
    app.stores.grants.delete(&grant, &change).await.map_err(|error| RpcError::removing(KIND, error))?;
    app.spread().await;
    Ok(proto::DeleteGrantResponse {})
}

/// Finds whom a caller means: `user:ID`, `service-account:ID`, or a name. User names have no colon.
async fn principal(app: &App, text: &str) -> Result<PrincipalId, RpcError> {
    let unknown = || RpcError::UnknownPrincipal { name: text.to_owned() };
    if text.is_empty() {
        return Err(RpcError::invalid("principal", "is missing"));
    }
    if let Ok(id) = text.parse::<PrincipalId>() {
        let known = match &id {
            PrincipalId::User(user) => app.stores.users.get(*user).await?.is_some(),
            PrincipalId::ServiceAccount(account) => {
                app.stores.service_accounts.get(*account).await?.is_some()
            }
            PrincipalId::Service(_) => false,
        };
        return if known { Ok(id) } else { Err(unknown()) };
    }
    let user = app.stores.users.find(text).await?.map(|user| PrincipalId::User(user.id));
    let account = app.stores.service_accounts.find(text).await?;
    match (user, account.map(|account| PrincipalId::ServiceAccount(account.id))) {
        (Some(_), Some(_)) => Err(RpcError::AmbiguousPrincipal { name: text.to_owned() }),
        (Some(one), None) | (None, Some(one)) => Ok(one),
        (None, None) => Err(unknown()),
    }
}

async fn role(app: &App, text: &str) -> Result<Role, RpcError> {
    if text.is_empty() {
        return Err(RpcError::invalid("role", "is missing"));
    }
    let by_id = match text.parse::<RoleId>() {
        Ok(id) => app.stores.roles.get(id).await?,
        Err(_) => None,
    };
    let found = match by_id {
        Some(role) => Some(role),
        None => app.stores.roles.find(text).await?,
    };
    found.ok_or_else(|| RpcError::UnknownRole { name: text.to_owned() })
}

/// Finds the endpoint that a caller means, none for all of them. A grant for one that does not exist yet would be a
/// trap: whoever published it later would share it unaware.
fn endpoint(app: &App, text: &str) -> Result<Option<KnownEndpoint>, RpcError> {
    if text.is_empty() {
        return Err(RpcError::invalid("endpoint", "is missing; give * for all endpoints"));
    }
    if text == EVERYWHERE {
        return Ok(None);
    }
    let known = EndpointName::parse(text).ok().and_then(|name| app.catalogue.find(&name));
    known.map(Some).ok_or_else(|| RpcError::UnknownEndpoint { name: text.to_owned() })
}
