//! Who acts, and whether they may.

use portico_authn::Caller;
use portico_authz::{Action, Resource, Visibility as Seen};
use portico_ids::PrincipalId;
use portico_oauth_types::Scope;
use portico_transport::PeerIdentity;

use super::Service;
use crate::domain::endpoint::Endpoint;
use crate::domain::names::Visibility;
use crate::domain::secret::Secret;
use crate::domain::server::Server;
use crate::errors::RegistryError;

/// Where a request came from, for the audit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origin {
    pub(crate) correlation_id: String,
    pub(crate) trace_id: String,
    pub(crate) peer: String,
}

/// Somebody whose request is being served.
#[derive(Debug, Clone)]
pub(crate) struct Actor {
    pub(crate) caller: Caller,
    pub(crate) origin: Origin,
}

impl Actor {
    /// A task of the registry itself.
    pub(crate) fn registry() -> Self {
        Self { caller: Caller::Service(PeerIdentity::new("registry")), origin: Origin::default() }
    }

    pub(crate) fn id(&self) -> PrincipalId {
        match &self.caller {
            Caller::Principal(principal) => principal.id.clone(),
            Caller::Service(peer) => PrincipalId::Service(peer.service.clone()),
        }
    }

    pub(crate) fn client_id(&self) -> &str {
        match &self.caller {
            Caller::Principal(principal) => &principal.client_id,
            Caller::Service(_) => "",
        }
    }

    /// Requires a principal whose token has the scope: the first thing that every management method asks.
    pub(crate) fn with_scope(&self, scope: Scope) -> Result<(), RegistryError> {
        match &self.caller {
            Caller::Principal(principal) if principal.may(scope) => Ok(()),
            Caller::Principal(_) => Err(RegistryError::ScopeMissing { scope }),
            Caller::Service(_) => Err(RegistryError::PrincipalsOnly),
        }
    }

    /// Requires one of the named services: the first thing that every internal method asks.
    pub(crate) fn service_among(&self, services: &[&str]) -> Result<&str, RegistryError> {
        match &self.caller {
            Caller::Service(peer) if services.contains(&peer.service.as_str()) => Ok(&peer.service),
            _ => Err(RegistryError::InternalOnly),
        }
    }
}

const fn seen(visibility: Visibility) -> Seen {
    match visibility {
        Visibility::Private => Seen::Private,
        Visibility::Public => Seen::Public,
    }
}

pub(crate) fn server(server: &Server) -> Resource {
    Resource::Server {
        id: server.id,
        owner: Some(server.owner.clone()),
        visibility: seen(server.details.visibility),
    }
}

pub(crate) fn endpoint(endpoint: &Endpoint) -> Resource {
    Resource::Endpoint {
        name: endpoint.name.clone(),
        visibility: seen(endpoint.details.visibility),
        owner: Some(endpoint.owner.clone()),
    }
}

pub(crate) fn secret(secret: &Secret) -> Resource {
    Resource::Secret { reference: secret.reference.as_str().to_owned(), owner: Some(secret.owner.clone()) }
}

impl Service {
    /// Whether the policies allow it.
    pub(crate) fn may(&self, actor: &Actor, action: Action, resource: &Resource) -> bool {
        match &actor.caller {
            Caller::Principal(principal) => self.authorizer.decide(principal, action, resource).allowed,
            Caller::Service(_) => false,
        }
    }

    /// Requires that the policies allow it, and says which one did not.
    pub(crate) fn require(
        &self,
        actor: &Actor,
        action: Action,
        resource: &Resource,
    ) -> Result<(), RegistryError> {
        let Caller::Principal(principal) = &actor.caller else { return Err(RegistryError::PrincipalsOnly) };
        let decision = self.authorizer.decide(principal, action, resource);
        if decision.allowed {
            return Ok(());
        }
        Err(RegistryError::Denied { action: action.as_str(), policy: decision.reason })
    }
}
