//! `ClientService`.

use chrono::{DateTime, Utc};
use portico_authz::Action;
use portico_ids::ClientId;
use portico_oauth_types::RegistrationRequest;
use portico_proto_auth as proto;
use portico_proto_auth::client_service_server::ClientService;
use secrecy::ExposeSecret as _;
use tonic::{Request, Response, Status};

use super::Rpc;
use super::entry::Call;
use super::errors::RpcError;
use super::paging::Asked;
use super::{convert, repeat};
use crate::actor::Deed;
use crate::app::{App, secret_hash};
use crate::domain::client::{self, Client, Registration};
use crate::trust::grant_revoked;

const KIND: &str = "client";

#[tonic::async_trait]
impl ClientService for Rpc {
    async fn create_client(
        &self,
        request: Request<proto::CreateClientRequest>,
    ) -> Result<Response<proto::CreateClientResponse>, Status> {
        let (call, message) = self.enter(request)?;
        let outcome = create(&self.app, &call, &message).await;
        self.answer(&call, ("client.create", &message.client_name), outcome).await
    }

    async fn list_clients(
        &self,
        request: Request<proto::ListClientsRequest>,
    ) -> Result<Response<proto::ListClientsResponse>, Status> {
        let (call, message) = self.enter(request)?;
        let outcome = list(&self.app, &call, &message).await;
        self.answer(&call, ("client.read", ""), outcome).await
    }

    async fn delete_client(
        &self,
        request: Request<proto::DeleteClientRequest>,
    ) -> Result<Response<proto::DeleteClientResponse>, Status> {
        let (call, message) = self.enter(request)?;
        let outcome = delete(&self.app, &call, &message).await;
        self.answer(&call, ("client.delete", &message.client_id), outcome).await
    }
}

async fn create(
    app: &App,
    call: &Call,
    message: &proto::CreateClientRequest,
) -> Result<proto::CreateClientResponse, RpcError> {
    call.allow(app, Action::ClientCreate)?;
    let digested = proto::CreateClientRequest { request_id: String::new(), ..message.clone() };
    let request = repeat::Request::new(call, "CreateClient", &message.request_id, &digested)?;
    if let Some(answer) = request.earlier(app).await? {
        return Ok(answer);
    }
    let set = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let metadata = client::register(RegistrationRequest {
        client_name: set(&message.client_name),
        redirect_uris: Some(message.redirect_uris.clone()),
        token_endpoint_auth_method: set(&message.token_endpoint_auth_method),
        ..RegistrationRequest::default()
    })
    .map_err(RpcError::ClientMetadata)?;
    let with_secret = metadata.token_endpoint_auth_method.has_secret();
    let secret = with_secret.then(|| portico_ids::secret_token(&*app.rng));
    let client_id = ClientId::generate(&*app.clock, &*app.rng).to_string();
    let name = metadata.client_name.clone().unwrap_or_default();
    let change = app.change(&call.actor, Deed::done("client.create", &client_id, &name));
    let client = Client {
        client_id,
        metadata,
        secret_hash: secret.as_ref().map(|secret| secret_hash(secret.expose_secret())),
        registration: Registration::Static,
        created_at: change.audit.occurred_at,
        last_used_at: None,
    };
    let answer = convert::client(&client);
    let create = request.answered_by(move |_| proto::CreateClientResponse {
        client: Some(answer.clone()),
        client_secret: secret.as_ref().map(|secret| secret.expose_secret().to_owned()).unwrap_or_default(),
    });
    let change = change.repeatable(create.repeatable(app));
    // The answer shows no revision.
    let stored = app.stores.clients.create(&client, &change).await.map(|()| 0);
    create.finish(app, stored, || RpcError::NameTaken { kind: KIND, name: client.client_id.clone() }).await
}

async fn list(
    app: &App,
    call: &Call,
    message: &proto::ListClientsRequest,
) -> Result<proto::ListClientsResponse, RpcError> {
    call.allow(app, Action::ClientRead)?;
    let asked: Asked<'_, (DateTime<Utc>, String)> =
        Asked::read((app, call), "ListClients", (message.page_size, &message.page_token))?;
    let rows = app.stores.clients.list(asked.after.clone(), asked.limit()).await?;
    let (clients, next_page_token) =
        asked.page((app, call), rows, |client| (client.created_at, client.client_id.clone()));
    Ok(proto::ListClientsResponse { clients: clients.iter().map(convert::client).collect(), next_page_token })
}

async fn delete(
    app: &App,
    call: &Call,
    message: &proto::DeleteClientRequest,
) -> Result<proto::DeleteClientResponse, RpcError> {
    call.allow(app, Action::ClientDelete)?;
    let client_id = &message.client_id;
    let client = app.stores.clients.get(client_id).await?.ok_or(RpcError::NotFound { kind: KIND })?;
    if client.registration == Registration::Builtin {
        return Err(RpcError::BuiltinClient { client_id: client.client_id });
    }
    let families = app.stores.families.of_client(client_id).await?;
    let change = app.change(&call.actor, Deed::done("client.delete", client_id, client.name()));
    let (now, lifetime) = (change.audit.occurred_at, app.settings.token_lifetime());
    let change =
        change.publish(families.iter().map(|family| grant_revoked(&family.to_string(), now, lifetime)));
    let deleted = app.stores.clients.delete(client_id, &change).await;
    deleted.map_err(|error| RpcError::storing(KIND, client_id, error))?;
    app.spread().await;
    Ok(proto::DeleteClientResponse {})
}
