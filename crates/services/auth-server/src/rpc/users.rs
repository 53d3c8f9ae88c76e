//! `UserService`.

use portico_authz::Action;
use portico_ids::{PrincipalId, UserId};
use portico_proto_auth as proto;
use portico_proto_auth::user_service_server::UserService;
use secrecy::{ExposeSecret as _, SecretString};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::Rpc;
use super::entry::Call;
use super::errors::RpcError;
use super::paging::Asked;
use super::{convert, repeat};
use crate::actor::Deed;
use crate::app::App;
use crate::domain::names::{Username, check_email};
use crate::passwords;
use crate::store::users::{NewUser, User, UserUpdate};

const KIND: &str = "user";

#[tonic::async_trait]
impl UserService for Rpc {
    async fn create_user(
        &self,
        request: Request<proto::CreateUserRequest>,
    ) -> Result<Response<proto::CreateUserResponse>, Status> {
        let (call, mut message) = self.enter(request)?;
        let password = SecretString::from(std::mem::take(&mut message.password));
        let outcome = create(&self.app, &call, &message, password).await;
        self.answer(&call, ("user.create", &message.username), outcome).await
    }

    async fn get_user(
        &self,
        request: Request<proto::GetUserRequest>,
    ) -> Result<Response<proto::GetUserResponse>, Status> {
        let (call, message) = self.enter(request)?;
        let outcome = get(&self.app, &call, &message).await;
        self.answer(&call, ("user.read", &message.id), outcome).await
    }

    async fn list_users(
        &self,
        request: Request<proto::ListUsersRequest>,
    ) -> Result<Response<proto::ListUsersResponse>, Status> {
        let (call, message) = self.enter(request)?;
        let outcome = list(&self.app, &call, &message).await;
        self.answer(&call, ("user.read", ""), outcome).await
    }

    async fn update_user(
        &self,
        request: Request<proto::UpdateUserRequest>,
    ) -> Result<Response<proto::UpdateUserResponse>, Status> {
        let (call, message) = self.enter(request)?;
        let outcome = update(&self.app, &call, &message).await;
        self.answer(&call, ("user.update", &message.id), outcome).await
    }

    async fn delete_user(
        &self,
        request: Request<proto::DeleteUserRequest>,
    ) -> Result<Response<proto::DeleteUserResponse>, Status> {
        let (call, message) = self.enter(request)?;
        let outcome = delete(&self.app, &call, &message).await;
        self.answer(&call, ("user.delete", &message.id), outcome).await
    }

    async fn set_password(
        &self,
        request: Request<proto::SetPasswordRequest>,
    ) -> Result<Response<proto::SetPasswordResponse>, Status> {
        let (call, message) = self.enter(request)?;
        let password = SecretString::from(message.password);
        let outcome = set_password(&self.app, &call, &message.id, password).await;
        self.answer(&call, ("user.set_password", &message.id), outcome).await
    }
}

async fn create(
    app: &App,
    call: &Call,
    message: &proto::CreateUserRequest,
    password: SecretString,
) -> Result<proto::CreateUserResponse, RpcError> {
    call.allow(app, Action::UserCreate)?;
    // Not even a digest of the password is kept; whether there was one tells the requests apart.
    let kept = if password.expose_secret().is_empty() { "" } else { "given" };
    let digested =
        proto::CreateUserRequest { request_id: String::new(), password: kept.to_owned(), ..message.clone() };
    let request = repeat::Request::new(call, "CreateUser", &message.request_id, &digested)?;
    if let Some(answer) = request.earlier(app).await? {
        return Ok(answer);
    }
    let username = Username::parse(&message.username)
        .map_err(|problem| RpcError::InvalidName { field: "username", problem })?;
    convert::name("email", check_email(&message.email))?;
    let display_name = convert::display_name(&message.display_name)?;
    let (password, generated) = chosen_or_generated(app, password);
    let new = NewUser {
        id: UserId::generate(&*app.clock, &*app.rng),
        username: username.as_str().to_owned(),
        display_name,
        email: message.email.clone(),
        password_hash: app.passwords.hash(&password).await?,
    };
    let target = PrincipalId::User(new.id).to_string();
    let change = app.change(&call.actor, Deed::done("user.create", &target, username.as_str()));
    let user = User {
        id: new.id,
        username: new.username.clone(),
        display_name: new.display_name.clone(),
        email: new.email.clone(),
        disabled: false,
        epoch: 1,
        revision: 0,
        created_at: change.audit.occurred_at,
        updated_at: change.audit.occurred_at,
    };
    let create = request.answered_by(move |revision| proto::CreateUserResponse {
        user: Some(proto::User { revision, ..convert::user(&user) }),
        generated_password: exposed(generated.as_ref()),
    });
    let change = change.repeatable(create.repeatable(app));
    let stored = app.stores.users.create(&new, &change).await.map(|user| user.revision);
    create.finish(app, stored, || RpcError::NameTaken { kind: KIND, name: message.username.clone() }).await
}

async fn get(
    app: &App,
    call: &Call,
    message: &proto::GetUserRequest,
) -> Result<proto::GetUserResponse, RpcError> {
    call.allow(app, Action::UserRead)?;
    let found = match (message.id.as_str(), message.username.as_str()) {
        (id, "") => app.stores.users.get(convert::id("id", id)?).await?,
        ("", username) => app.stores.users.find(username).await?,
        _ => return Err(RpcError::invalid("id", "and username are both set; set one of them")),
    };
    let user = found.ok_or(RpcError::NotFound { kind: KIND })?;
    Ok(proto::GetUserResponse { user: Some(convert::user(&user)) })
}

async fn list(
    app: &App,
    call: &Call,
    message: &proto::ListUsersRequest,
) -> Result<proto::ListUsersResponse, RpcError> {
    call.allow(app, Action::UserRead)?;
    let asked: Asked<'_, Uuid> =
        Asked::read((app, call), "ListUsers", (message.page_size, &message.page_token))?;
    let rows = app.stores.users.list(asked.after, asked.limit()).await?;
    let (users, next_page_token) = asked.page((app, call), rows, |user| user.id.as_uuid());
    Ok(proto::ListUsersResponse { users: users.iter().map(convert::user).collect(), next_page_token })
}

async fn update(
    app: &App,
    call: &Call,
    message: &proto::UpdateUserRequest,
) -> Result<proto::UpdateUserResponse, RpcError> {
    call.allow(app, Action::UserUpdate)?;
    let id: UserId = convert::id("id", &message.id)?;
    let expected = convert::expected_revision(KIND, message.expected_revision)?;
    if let Some(email) = &message.email {
        convert::name("email", check_email(email))?;
    }
    let update = UserUpdate {
        display_name: message.display_name.as_deref().map(convert::display_name).transpose()?,
        email: message.email.clone(),
        disabled: message.disabled,
    };
    let principal = PrincipalId::User(id).to_string();
    app.require_no_superior(call, &principal).await?;
    let user = existing(app, id).await?;
    let reason = match update.disabled {
        Some(true) => "disabled",
        Some(false) => "enabled",
        None => "",
    };
    let deed = Deed { reason, ..Deed::done("user.update", &principal, &user.username) };
    let ended = (update.disabled == Some(true)).then_some(&principal);
    let change = app.revoking(call, deed, ended);
    let updated = app.stores.users.update(id, expected, &update, &change).await;
    let user = updated.map_err(|error| RpcError::removing(KIND, error))?;
    app.spread().await;
    Ok(proto::UpdateUserResponse { user: Some(convert::user(&user)) })
}

async fn delete(
    app: &App,
    call: &Call,
    message: &proto::DeleteUserRequest,
) -> Result<proto::DeleteUserResponse, RpcError> {
    call.allow(app, Action::UserDelete)?;
    let id: UserId = convert::id("id", &message.id)?;
    let principal = PrincipalId::User(id).to_string();
    app.require_no_superior(call, &principal).await?;
    let user = existing(app, id).await?;
    let change = app.revoking(call, Deed::done("user.delete", &principal, &user.username), [&principal]);
    app.stores.users.delete(id, &change).await.map_err(|error| RpcError::removing(KIND, error))?;
    app.spread().await;
    Ok(proto::DeleteUserResponse {})
}

async fn set_password(
    app: &App,
    call: &Call,
    id: &str,
    password: SecretString,
) -> Result<proto::SetPasswordResponse, RpcError> {
    call.allow(app, Action::UserUpdate)?;
    let id: UserId = convert::id("id", id)?;
    let principal = PrincipalId::User(id).to_string();
    app.require_no_superior(call, &principal).await?;
    let user = existing(app, id).await?;
    let (password, generated) = chosen_or_generated(app, password);
    let hash = app.passwords.hash(&password).await?;
    let change =
        app.revoking(call, Deed::done("user.set_password", &principal, &user.username), [&principal]);
    let stored = app.stores.users.set_password(id, &hash, &change).await;
    stored.map_err(|error| RpcError::storing(KIND, &user.username, error))?;
    app.spread().await;
    Ok(proto::SetPasswordResponse { generated_password: exposed(generated.as_ref()) })
}

async fn existing(app: &App, id: UserId) -> Result<User, RpcError> {
    app.stores.users.get(id).await?.ok_or(RpcError::NotFound { kind: KIND })
}

/// The password to use, and the one to answer if nobody chose it.
fn chosen_or_generated(app: &App, chosen: SecretString) -> (SecretString, Option<SecretString>) {
    if !chosen.expose_secret().is_empty() {
        return (chosen, None);
    }
    let generated = passwords::generate(&*app.rng);
    (generated.clone(), Some(generated))
}

/// The one place where a generated password leaves: the answer.
fn exposed(generated: Option<&SecretString>) -> String {
    generated.map(|password| password.expose_secret().to_owned()).unwrap_or_default()
}
