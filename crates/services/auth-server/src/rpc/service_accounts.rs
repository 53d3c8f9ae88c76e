//! `ServiceAccountService`.

use portico_authz::Action;
use portico_ids::{PrincipalId, ServiceAccountId};
use portico_proto_auth as proto;
use portico_proto_auth::service_account_service_server::ServiceAccountService;
use secrecy::ExposeSecret as _;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::Rpc;
use super::entry::Call;
use super::errors::RpcError;
use super::paging::Asked;
use super::{convert, repeat};
use crate::actor::Deed;
use crate::app::{App, secret_hash};
use crate::domain::names::check_slug;
use crate::store::service_accounts::ServiceAccount;

const KIND: &str = "service account";

#[tonic::async_trait]
impl ServiceAccountService for Rpc {
    async fn create_service_account(
        &self,
        request: Request<proto::CreateServiceAccountRequest>,
    ) -> Result<Response<proto::CreateServiceAccountResponse>, Status> {
        let (call, message) = self.enter(request)?;
        let outcome = create(&self.app, &call, &message).await;
        self.answer(&call, ("service_account.create", &message.name), outcome).await
    }

    async fn list_service_accounts(
        &self,
        request: Request<proto::ListServiceAccountsRequest>,
    ) -> Result<Response<proto::ListServiceAccountsResponse>, Status> {
        let (call, message) = self.enter(request)?;
        let outcome = list(&self.app, &call, &message).await;
        self.answer(&call, ("service_account.read", ""), outcome).await
    }

    async fn rotate_service_account_secret(
        &self,
        request: Request<proto::RotateServiceAccountSecretRequest>,
    ) -> Result<Response<proto::RotateServiceAccountSecretResponse>, Status> {
        let (call, message) = self.enter(request)?;
        let outcome = rotate(&self.app, &call, &message).await;
        self.answer(&call, ("service_account.rotate", &message.id), outcome).await
    }

    async fn update_service_account(
        &self,
        request: Request<proto::UpdateServiceAccountRequest>,
    ) -> Result<Response<proto::UpdateServiceAccountResponse>, Status> {
        let (call, message) = self.enter(request)?;
        let outcome = update(&self.app, &call, &message).await;
        self.answer(&call, ("service_account.update", &message.id), outcome).await
    }

    async fn delete_service_account(
        &self,
        request: Request<proto::DeleteServiceAccountRequest>,
    ) -> Result<Response<proto::DeleteServiceAccountResponse>, Status> {
        let (call, message) = self.enter(request)?;
        let outcome = delete(&self.app, &call, &message).await;
        self.answer(&call, ("service_account.delete", &message.id), outcome).await
    }
}

async fn create(
    app: &App,
    call: &Call,
    message: &proto::CreateServiceAccountRequest,
) -> Result<proto::CreateServiceAccountResponse, RpcError> {
    call.allow(app, Action::ServiceAccountCreate)?;
    let digested = proto::CreateServiceAccountRequest { request_id: String::new(), ..message.clone() };
    let request = repeat::Request::new(call, "CreateServiceAccount", &message.request_id, &digested)?;
    if let Some(answer) = request.earlier(app).await? {
        return Ok(answer);
    }
    convert::name("name", check_slug(&message.name))?;
    let description = convert::description(&message.description)?;
    let secret = portico_ids::secret_token(&*app.rng);
    let id = ServiceAccountId::generate(&*app.clock, &*app.rng);
    let target = PrincipalId::ServiceAccount(id).to_string();
    let change = app.change(&call.actor, Deed::done("service_account.create", &target, &message.name));
    let account = ServiceAccount {
        id,
        name: message.name.clone(),
        description,
        secret_hash: secret_hash(secret.expose_secret()),
        disabled: false,
        revision: 0,
        created_at: change.audit.occurred_at,
    };
    let answer = convert::service_account(&account);
    let create = request.answered_by(move |revision| proto::CreateServiceAccountResponse {
        service_account: Some(proto::ServiceAccount { revision, ..answer.clone() }),
        client_secret: secret.expose_secret().to_owned(),
    });
    let change = change.repeatable(create.repeatable(app));
    let stored = app.stores.service_accounts.create(&account, &change).await;
    let stored = stored.map(|account| account.revision);
    create.finish(app, stored, || RpcError::NameTaken { kind: KIND, name: message.name.clone() }).await
}

async fn list(
    app: &App,
    call: &Call,
    message: &proto::ListServiceAccountsRequest,
) -> Result<proto::ListServiceAccountsResponse, RpcError> {
    call.allow(app, Action::ServiceAccountRead)?;
    let asked: Asked<'_, Uuid> =
        Asked::read((app, call), "ListServiceAccounts", (message.page_size, &message.page_token))?;
    let rows = app.stores.service_accounts.list(asked.after, asked.limit()).await?;
    let (accounts, next_page_token) = asked.page((app, call), rows, |account| account.id.as_uuid());
    let service_accounts = accounts.iter().map(convert::service_account).collect();
    Ok(proto::ListServiceAccountsResponse { service_accounts, next_page_token })
}

async fn rotate(
    app: &App,
    call: &Call,
    message: &proto::RotateServiceAccountSecretRequest,
) -> Result<proto::RotateServiceAccountSecretResponse, RpcError> {
    call.allow(app, Action::ServiceAccountUpdate)?;
    let (account, principal) = within_reach(app, call, &message.id).await?;
    let secret = portico_ids::secret_token(&*app.rng);
    let deed = Deed::done("service_account.rotate", &principal, &account.name);
    let change = app.revoking(call, deed, [&principal]);
    let hash = secret_hash(secret.expose_secret());
    let stored = app.stores.service_accounts.set_secret(account.id, &hash, &change).await;
    stored.map_err(|error| RpcError::storing(KIND, &account.name, error))?;
    app.spread().await;
    Ok(proto::RotateServiceAccountSecretResponse { client_secret: secret.expose_secret().to_owned() })
}

async fn update(
    app: &App,
    call: &Call,
    message: &proto::UpdateServiceAccountRequest,
) -> Result<proto::UpdateServiceAccountResponse, RpcError> {
    call.allow(app, Action::ServiceAccountUpdate)?;
    let expected = convert::expected_revision(KIND, message.expected_revision)?;
    let description = message.description.as_deref().map(convert::description).transpose()?;
    let (account, principal) = within_reach(app, call, &message.id).await?;
    let reason = match message.disabled {
        Some(true) => "disabled",
        Some(false) => "enabled",
        None => "",
    };
    let deed = Deed { reason, ..Deed::done("service_account.update", &principal, &account.name) };
    let ended = (message.disabled == Some(true)).then_some(&principal);
    let change = app.revoking(call, deed, ended);
    let wanted = (description.as_deref(), message.disabled);
    let updated = app.stores.service_accounts.update(account.id, expected, wanted, &change).await;
    let account = updated.map_err(|error| RpcError::storing(KIND, &account.name, error))?;
    app.spread().await;
    Ok(proto::UpdateServiceAccountResponse { service_account: Some(convert::service_account(&account)) })
}

async fn delete(
    app: &App,
    call: &Call,
    message: &proto::DeleteServiceAccountRequest,
) -> Result<proto::DeleteServiceAccountResponse, RpcError> {
    call.allow(app, Action::ServiceAccountDelete)?;
    let (account, principal) = within_reach(app, call, &message.id).await?;
    let deed = Deed::done("service_account.delete", &principal, &account.name);
    let change = app.revoking(call, deed, [&principal]);
    let deleted = app.stores.service_accounts.delete(account.id, &change).await;
    deleted.map_err(|error| RpcError::storing(KIND, &account.name, error))?;
    app.spread().await;
    Ok(proto::DeleteServiceAccountResponse {})
}

/// Finds an account that has no role beyond the caller's own, and its principal.
async fn within_reach(app: &App, call: &Call, id: &str) -> Result<(ServiceAccount, String), RpcError> {
    let id: ServiceAccountId = convert::id("id", id)?;
    let account = app.stores.service_accounts.get(id).await?.ok_or(RpcError::NotFound { kind: KIND })?;
    let principal = PrincipalId::ServiceAccount(id).to_string();
    app.require_no_superior(call, &principal).await?;
    Ok((account, principal))
}
