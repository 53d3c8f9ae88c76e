//! Speaking to a server: both eras, as a client that only looks (architecture of MCP 2025-11-25 and 2026-07-28).

pub(crate) mod greeting;
pub(crate) mod listing;
pub(crate) mod peer;
pub(crate) mod session;
