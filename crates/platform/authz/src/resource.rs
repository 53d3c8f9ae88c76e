//! What can be acted on.

use portico_ids::{EndpointName, PrincipalId, ServerId};

/// Who may see and use something without a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Visibility {
    /// Only principals with a grant.
    #[default]
    Private,
    /// Every principal.
    Public,
}

impl Visibility {
    /// Returns the name that policies use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Public => "public",
        }
    }
}

/// What a decision is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Resource {
    /// A published endpoint.
    Endpoint {
        /// Its name, which a grant for one endpoint refers to.
        name: EndpointName,
        /// Who may use it without a grant.
        visibility: Visibility,
        /// Who owns it.
        owner: Option<PrincipalId>,
    },
    /// A server definition, and its instances.
    Server {
        /// Its id.
        id: ServerId,
        /// Who owns it.
        owner: Option<PrincipalId>,
        /// Who may use it without a grant.
        visibility: Visibility,
    },
    /// A stored secret that exists; use [`Resource::Deployment`] to bring a new one.
    Secret {
        /// The reference under which it is stored.
        reference: String,
        /// Who owns it.
        owner: Option<PrincipalId>,
    },
    /// The whole installation.
    Deployment,
}

impl Resource {
    /// Returns who owns the resource.
    #[must_use]
    pub fn owner(&self) -> Option<&PrincipalId> {
        match self {
            Self::Endpoint { owner, .. } | Self::Server { owner, .. } | Self::Secret { owner, .. } => {
                owner.as_ref()
            }
            Self::Deployment => None,
        }
    }
}
