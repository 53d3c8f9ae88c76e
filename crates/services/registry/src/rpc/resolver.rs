//! `SecretResolverService`: values, for those that call servers.

use portico_proto_registry as proto;
use portico_proto_registry::secret_resolver_service_server::SecretResolverService;
use secrecy::ExposeSecret as _;
use tonic::{Request, Response, Status};

use super::Registry;
use crate::convert;
use crate::domain::secret::SecretRef;
use crate::errors::RegistryError;
use crate::service::Service;
use crate::service::access::Actor;

/// Who may have values.
const RESOLVERS: [&str; 2] = ["gateway", "worker"];
/// Most references of one request.
const REFERENCE_COUNT: usize = 200;

#[tonic::async_trait]
impl SecretResolverService for Registry {
    async fn resolve_secrets(
        &self,
        request: Request<proto::ResolveSecretsRequest>,
    ) -> Result<Response<proto::ResolveSecretsResponse>, Status> {
        let (actor, message) = self.enter(request)?;
        let outcome = resolve(&self.service, &actor, &message).await;
        self.answer(&actor, "secret.resolve", outcome).await
    }
}

async fn resolve(
    service: &Service,
    actor: &Actor,
    message: &proto::ResolveSecretsRequest,
) -> Result<proto::ResolveSecretsResponse, RegistryError> {
    actor.service_among(&RESOLVERS)?;
    if message.refs.len() > REFERENCE_COUNT {
        return Err(RegistryError::invalid("refs", format!("at most {REFERENCE_COUNT} references at once")));
    }
    let Some(instance) = message.purpose.strip_prefix("instance/") else {
        return Err(RegistryError::invalid("purpose", "is instance/{id}"));
    };
    let instance = convert::id("purpose", instance)?;
    let revision = Some(message.spec_revision).filter(|revision| *revision != 0);
    let references =
        message.refs.iter().map(|reference| SecretRef::parse(reference)).collect::<Result<Vec<_>, _>>()?;
    let resolved = service.resolve_secrets(actor, &references, (instance, revision)).await?;
    let secrets = resolved.secrets.into_iter().map(|secret| proto::ResolvedSecret {
        r#ref: secret.reference.to_string(),
        value: secret.value.expose_secret().to_vec(),
        version: secret.version,
    });
    Ok(proto::ResolveSecretsResponse {
        secrets: secrets.collect(),
        missing: resolved.missing.iter().map(ToString::to_string).collect(),
    })
}
