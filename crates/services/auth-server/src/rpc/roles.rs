//! `RoleService`.

use portico_authz::{Action, validate_permissions, validate_policies};
use portico_ids::RoleId;
use portico_proto_auth as proto;
use portico_proto_auth::role_service_server::RoleService;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::Rpc;
use super::entry::Call;
use super::errors::RpcError;
use super::paging::Asked;
use super::{convert, repeat};
use crate::actor::Deed;
use crate::app::App;
use crate::domain::names::check_slug;
use crate::store::roles::Role;
use crate::trust::{role_item, role_removed};

const KIND: &str = "role";
/// Most permissions that a role lists; there are fewer actions.
const PERMISSION_COUNT: usize = 100;
/// Longest text of policies. A role has to fit a frame of the trust feed: one that does not would keep it, and every later
/// revocation, from all gateways.
const POLICIES_LIMIT: usize = 64 * 1024;

#[tonic::async_trait]
impl RoleService for Rpc {
    async fn create_role(
        &self,
        request: Request<proto::CreateRoleRequest>,
    ) -> Result<Response<proto::CreateRoleResponse>, Status> {
        let (call, message) = self.enter(request)?;
        let outcome = create(&self.app, &call, &message).await;
        self.answer(&call, ("role.create", &message.name), outcome).await
    }

    async fn get_role(
        &self,
        request: Request<proto::GetRoleRequest>,
    ) -> Result<Response<proto::GetRoleResponse>, Status> {
        let (call, message) = self.enter(request)?;
        let outcome = get(&self.app, &call, &message).await;
        self.answer(&call, ("role.read", &message.id), outcome).await
    }

    async fn list_roles(
        &self,
        request: Request<proto::ListRolesRequest>,
    ) -> Result<Response<proto::ListRolesResponse>, Status> {
        let (call, message) = self.enter(request)?;
        let outcome = list(&self.app, &call, &message).await;
        self.answer(&call, ("role.read", ""), outcome).await
    }

    async fn update_role(
        &self,
        request: Request<proto::UpdateRoleRequest>,
    ) -> Result<Response<proto::UpdateRoleResponse>, Status> {
        let (call, message) = self.enter(request)?;
        let outcome = update(&self.app, &call, &message).await;
        self.answer(&call, ("role.update", &message.id), outcome).await
    }

    async fn delete_role(
        &self,
        request: Request<proto::DeleteRoleRequest>,
    ) -> Result<Response<proto::DeleteRoleResponse>, Status> {
        let (call, message) = self.enter(request)?;
        let outcome = delete(&self.app, &call, &message).await;
        self.answer(&call, ("role.delete", &message.id), outcome).await
    }
}

async fn create(
    app: &App,
    call: &Call,
    message: &proto::CreateRoleRequest,
) -> Result<proto::CreateRoleResponse, RpcError> {
    call.allow(app, Action::RoleCreate)?;
    let digested = proto::CreateRoleRequest { request_id: String::new(), ..message.clone() };
    let request = repeat::Request::new(call, "CreateRole", &message.request_id, &digested)?;
    if let Some(answer) = request.earlier(app).await? {
        return Ok(answer);
    }
    convert::name("name", check_slug(&message.name))?;
    let role = Role {
        id: RoleId::generate(&*app.clock, &*app.rng),
        name: message.name.clone(),
        description: convert::description(&message.description)?,
        policies: message.policies.clone(),
        permissions: message.permissions.clone(),
        builtin: false,
        revision: 0,
    };
    check(&role).await?;
    app.require_within(call, &role)?;
    let target = target(role.id);
    let change = app.change(&call.actor, Deed::done("role.create", &target, &role.name));
    let answer = convert::role(&role);
    let create = request.answered_by(move |revision| proto::CreateRoleResponse {
        role: Some(proto::Role { revision, ..answer.clone() }),
    });
    let change = change.publish([role_item(&role)]).repeatable(create.repeatable(app));
    let stored = app.stores.roles.create(&role, &change).await.map(|role| role.revision);
    app.spread().await;
    create.finish(app, stored, || RpcError::NameTaken { kind: KIND, name: message.name.clone() }).await
}

async fn get(
    app: &App,
    call: &Call,
    message: &proto::GetRoleRequest,
) -> Result<proto::GetRoleResponse, RpcError> {
    call.allow(app, Action::RoleRead)?;
    let found = match (message.id.as_str(), message.name.as_str()) {
        (id, "") => app.stores.roles.get(convert::id("id", id)?).await?,
        ("", name) => app.stores.roles.find(name).await?,
        _ => return Err(RpcError::invalid("id", "and name are both set; set one of them")),
    };
    let role = found.ok_or(RpcError::NotFound { kind: KIND })?;
    Ok(proto::GetRoleResponse { role: Some(convert::role(&role)) })
}

async fn list(
    app: &App,
    call: &Call,
    message: &proto::ListRolesRequest,
) -> Result<proto::ListRolesResponse, RpcError> {
    call.allow(app, Action::RoleRead)?;
    let asked: Asked<'_, Uuid> =
        Asked::read((app, call), "ListRoles", (message.page_size, &message.page_token))?;
    let rows = app.stores.roles.list(asked.after, asked.limit()).await?;
    let (roles, next_page_token) = asked.page((app, call), rows, |role| role.id.as_uuid());
    Ok(proto::ListRolesResponse { roles: roles.iter().map(convert::role).collect(), next_page_token })
}

async fn update(
    app: &App,
    call: &Call,
    message: &proto::UpdateRoleRequest,
) -> Result<proto::UpdateRoleResponse, RpcError> {
    call.allow(app, Action::RoleUpdate)?;
    let expected = convert::expected_revision(KIND, message.expected_revision)?;
    let before = changeable(app, &message.id).await?;
    let mut role = Role { revision: expected, ..before.clone() };
    if let Some(description) = &message.description {
        role.description = convert::description(description)?;
    }
    if let Some(policies) = &message.policies {
        role.policies.clone_from(policies);
    }
    if message.replace_permissions || !message.permissions.is_empty() {
        role.permissions.clone_from(&message.permissions);
    }
    check(&role).await?;
    app.require_within(call, &before)?;
    app.require_within(call, &role)?;
    let holders = app.stores.grants.holders(role.id).await?;
    let change = app
        .revoking(call, Deed::done("role.update", &target(role.id), &role.name), holders)
        .publish([role_item(&role)]);
    let updated = app.stores.roles.update(&role, &change).await;
    let role = updated.map_err(|error| RpcError::storing(KIND, &role.name, error))?;
    app.spread().await;
    Ok(proto::UpdateRoleResponse { role: Some(convert::role(&role)) })
}

async fn delete(
    app: &App,
    call: &Call,
    message: &proto::DeleteRoleRequest,
) -> Result<proto::DeleteRoleResponse, RpcError> {
    call.allow(app, Action::RoleDelete)?;
    let role = changeable(app, &message.id).await?;
    let holders = app.stores.grants.holders(role.id).await?;
    let change = app
        .revoking(call, Deed::done("role.delete", &target(role.id), &role.name), holders)
        .publish([role_removed(&role)]);
    let deleted = app.stores.roles.delete(role.id, &change).await;
    deleted.map_err(|error| RpcError::storing(KIND, &role.name, error))?;
    app.spread().await;
    Ok(proto::DeleteRoleResponse {})
}

/// Finds a role that does not come with Portico.
async fn changeable(app: &App, id: &str) -> Result<Role, RpcError> {
    let found = app.stores.roles.get(convert::id("id", id)?).await?;
    let role = found.ok_or(RpcError::NotFound { kind: KIND })?;
    if role.builtin { Err(RpcError::BuiltinRole { name: role.name }) } else { Ok(role) }
}

/// Checks what a role allows; a mistake would make the whole role void for those who decide by it.
async fn check(role: &Role) -> Result<(), RpcError> {
    if role.policies.is_empty() == role.permissions.is_empty() {
        return Err(RpcError::invalid("policies", "or permissions: set exactly one of them"));
    }
    if role.permissions.len() > PERMISSION_COUNT {
        return Err(RpcError::invalid("permissions", format!("has at most {PERMISSION_COUNT} entries")));
    }
    if role.policies.len() > POLICIES_LIMIT {
        return Err(RpcError::invalid("policies", format!("has at most {POLICIES_LIMIT} bytes")));
    }
    let invalid = |field| move |problems| RpcError::InvalidRole { field, problems };
    validate_permissions(&role.permissions).map_err(invalid("permissions"))?;
    if role.policies.is_empty() {
        return Ok(());
    }
    let policies = role.policies.clone();
    let checked = tokio::task::spawn_blocking(move || validate_policies(&policies)).await;
    checked.map_err(|error| RpcError::Internal(error.into()))?.map_err(invalid("policies"))
}

fn target(id: RoleId) -> String {
    format!("role:{id}")
}
