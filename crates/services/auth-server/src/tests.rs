//! The auth-server as clients and browsers see it, on SQLite, with a clock that the test moves.

mod authorize;
mod client_documents;
mod client_profiles;
mod discovery;
mod harness;
mod login;
mod par;
mod registration;
mod replicas;
mod revocation;
mod service_accounts;
mod site;
mod token;
