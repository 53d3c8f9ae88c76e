//! The rules: pure, without I/O.

pub(crate) mod authorization;
pub(crate) mod builtin;
pub(crate) mod client;
pub(crate) mod client_document;
pub(crate) mod entitlement;
pub(crate) mod issuer;
pub(crate) mod key_schedule;
pub(crate) mod names;
pub(crate) mod resource;
pub(crate) mod revocation;
pub(crate) mod rotation;
pub(crate) mod scopes;
pub(crate) mod session;
pub(crate) mod user_agent;
