//! From a credential to a principal: access tokens, peer identities, and what they are checked against.

mod caller;
mod layer;
mod principal;
mod rejected;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod trust;
mod verifier;

pub use caller::{Caller, bearer_token, challenge};
pub use layer::{CallerLayer, CallerService};
pub use principal::Principal;
pub use rejected::TokenRejected;
pub use trust::{Role, TrustChange, TrustFeed, TrustFrames, TrustHandle, TrustState};
pub use verifier::{DEFAULT_MAX_STALENESS, Verifier};
