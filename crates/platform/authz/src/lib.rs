//! Decisions with reasons, by Cedar policies.
//!
//! Policies come from two places: the built-in set (`builtin.cedar`) and the roles of the trust feed. A role can only
//! grant: its policies are `permit` templates whose `?principal` stands for whoever holds the role. So a role that is
//! broken grants nothing, and no role can take away what another one gave.

mod action;
mod authorizer;
mod complexity;
mod decisions;
mod engine;
mod resource;
mod role;

pub use action::{Action, UnknownAction};
pub use authorizer::Authorizer;
pub use decisions::{Decision, NO_PERMISSION};
pub use resource::{Resource, Visibility};
pub use role::{BUILTIN_ROLES, BrokenRole, BuiltinRole, validate_permissions, validate_policies};
