//! The authorization server: users, clients, tokens, roles, grants, signing keys.
#![expect(missing_docs, reason = "a service: its public interface is small and documented where it matters")]

mod actor;
mod app;
mod browser;
mod catalogue;
mod client_documents;
mod counters;
mod departed;
mod domain;
mod http;
mod jws;
mod limits;
mod oauth;
mod pages;
mod passwords;
mod peers;
mod restored;
mod rpc;
mod schema;
mod seed;
mod server;
mod settings;
mod signing_keys;
mod store;
mod tokens;
mod trust;
mod upkeep;

#[cfg(test)]
mod tests;

pub use passwords::generate as generate_password;
pub use restored::{RestoredError, after_restore};
pub use schema::schema;
pub use seed::{
    AdministratorSeed, SeedError, SeedTools, Seeded, SeededAdministrator, ServiceAccountSeed,
    ServiceCredentials, ensure_cli_client, ensure_service_account, seed, seed_service_account,
};
pub use server::{AuthServer, BuildError, Dependencies};
pub use settings::{
    AuthServerSettings, ClientDocumentSettings, InvalidSettings, RegistrationMode, RegistrationSettings,
};
