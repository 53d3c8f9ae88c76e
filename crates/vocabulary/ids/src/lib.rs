//! Identifiers, names and randomness.
//!
//! Identifiers are `UUIDv7` and grant nothing; anything that grants access is a [`secret_token`].

mod endpoint_name;
mod id;
mod principal;
mod rng;

pub use endpoint_name::{EndpointName, InvalidName, RESERVED_NAMES};
pub use id::{
    AuditId, ClientId, EndpointId, EventId, GrantId, InstanceId, InvalidId, KeyId, RoleId, ServerId,
    ServiceAccountId, SessionId, TeamId, TokenId, UserId,
};
pub use principal::{InvalidPrincipal, PrincipalId};
pub use rng::{Rng, SeededRng, SharedRng, SystemRng, secret_token};
