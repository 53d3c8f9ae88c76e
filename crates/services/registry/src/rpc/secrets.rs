//! `SecretService`.

use portico_oauth_types::Scope;
use portico_proto_registry as proto;
use portico_proto_registry::secret_service_server::SecretService;
use secrecy::SecretSlice;
use tonic::{Request, Response, Status};

use super::Registry;
use crate::convert;
use crate::domain::secret::SecretRef;
use crate::errors::RegistryError;
use crate::service::Service;
use crate::service::access::Actor;
use crate::service::paging::Asked;

#[tonic::async_trait]
impl SecretService for Registry {
    async fn set_secret(
        &self,
        request: Request<proto::SetSecretRequest>,
    ) -> Result<Response<proto::SetSecretResponse>, Status> {
        let (actor, message) = self.enter(request)?;
        let outcome = set(&self.service, &actor, message).await;
        self.answer(&actor, "secret.set", outcome).await
    }

    async fn list_secrets(
        &self,
        request: Request<proto::ListSecretsRequest>,
    ) -> Result<Response<proto::ListSecretsResponse>, Status> {
        let (actor, message) = self.enter(request)?;
        let outcome = list(&self.service, &actor, message).await;
        self.answer(&actor, "secret.list", outcome).await
    }

    async fn delete_secret(
        &self,
        request: Request<proto::DeleteSecretRequest>,
    ) -> Result<Response<proto::DeleteSecretResponse>, Status> {
        let (actor, message) = self.enter(request)?;
        let outcome = delete(&self.service, &actor, &message).await;
        self.answer(&actor, "secret.delete", outcome).await
    }
}

async fn set(
    service: &Service,
    actor: &Actor,
    message: proto::SetSecretRequest,
) -> Result<proto::SetSecretResponse, RegistryError> {
    // Before anything can fail: from here on the value is wiped when it is dropped.
    let value = SecretSlice::from(message.value);
    actor.with_scope(Scope::RegistryWrite)?;
    let secret = service.set_secret(actor, SecretRef::parse(&message.r#ref)?, value).await?;
    Ok(proto::SetSecretResponse { secret: Some(convert::secret(&secret)) })
}

async fn list(
    service: &Service,
    actor: &Actor,
    message: proto::ListSecretsRequest,
) -> Result<proto::ListSecretsResponse, RegistryError> {
    actor.with_scope(Scope::RegistryRead)?;
    let asked = Asked { page_size: message.page_size, page_token: message.page_token };
    let page = service.list_secrets(actor, &asked).await?;
    Ok(proto::ListSecretsResponse {
        secrets: page.items.iter().map(convert::secret).collect(),
        next_page_token: page.next,
    })
}

async fn delete(
    service: &Service,
    actor: &Actor,
    message: &proto::DeleteSecretRequest,
) -> Result<proto::DeleteSecretResponse, RegistryError> {
    actor.with_scope(Scope::RegistryWrite)?;
    service.delete_secret(actor, &SecretRef::parse(&message.r#ref)?).await?;
    Ok(proto::DeleteSecretResponse {})
}
