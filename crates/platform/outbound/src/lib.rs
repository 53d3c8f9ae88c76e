//! The HTTP client for addresses that a user can influence.
//!
//! A URL is checked when it is registered ([`OutboundPolicy::check_url`], [`OutboundClient::check_url`]) and
//! again at every dial: the client resolves the name itself, vets every address and connects to those very
//! addresses, so an answer that changes in between (DNS rebinding) reaches nothing. It follows no redirects, reads
//! no proxy variables and decompresses nothing.

mod address;
mod body;
mod client;
mod connect;
mod policy;
mod refused;
mod resolve;
mod rule;

pub use body::{Body, BoxError};
pub use client::{BuildError, OutboundClient, OutboundError, OutboundLimits, OutboundParts, collect};
pub use policy::OutboundPolicy;
pub use refused::{AddressRefused, RefusalReason};
pub use resolve::{Resolve, Resolving};
pub use rule::{AllowRule, InvalidAllowRule};
