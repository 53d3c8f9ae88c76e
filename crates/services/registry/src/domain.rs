//! What the registry is about, parsed: a value of these types is acceptable, whoever sent it.

pub(crate) mod audit;
pub(crate) mod capability;
pub(crate) mod endpoint;
pub(crate) mod env_schema;
pub(crate) mod instance;
pub(crate) mod json_spec;
pub(crate) mod names;
pub(crate) mod secret;
pub(crate) mod server;
pub(crate) mod text;
