//! The front door: MCP in, MCP out, every call authenticated, authorized, limited and recorded.
//!
//! A request passes `front` (host, route, token, role, rate, body), is classified by `classify`, and goes on in
//! `session_era` (up to revision 2025-11-25) or `stateless` (2026-07-28). Endpoints of one server pass bytes through;
//! `virtual_server` serves those of several. `upstream` makes the one exchange with a server, `relay` brings its
//! answer to the agent, `rewrite` changes the few values that must not travel bare, and `call` leaves the record.
#![expect(
    missing_docs,
    reason = "a service: its public items are settings and the five methods that bins call"
)]

mod access;
mod admission;
mod audit;
mod call;
mod catalogue;
mod classify;
mod engine;
mod front;
mod gateway;
mod handles;
mod hop;
mod load;
mod metadata;
mod metrics;
mod refusal;
mod relay;
mod replicas;
mod rewrite;
mod session;
mod session_era;
mod settings;
mod stateless;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod trace;
mod upstream;
mod virtual_server;

pub use gateway::{BuildError, Dependencies, Gateway};
pub use refusal::{Reason, Refusal};
pub use settings::{
    AuditSettings, GatewaySettings, LimitSettings, OnFull, RequestSettings, SessionSettings, UpstreamSettings,
};
