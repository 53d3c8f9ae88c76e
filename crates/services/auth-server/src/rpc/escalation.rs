//! Nobody hands out, takes over or rewrites more power than it has: a role that may create grants is not yet one that
//! may make administrators.

use std::collections::BTreeSet;

use portico_authn::Caller;
use portico_authz::{Action, Resource};
use portico_ids::RoleId;

use super::entry::Call;
use super::errors::RpcError;
use crate::app::App;
use crate::store::administrators::is_administrator;
use crate::store::roles::Role;

impl App {
    /// Requires that the caller may do itself whatever a role allows in the deployment. What policies allow cannot be
    /// compared, so only administrators deal in them.
    pub(super) fn require_within(&self, call: &Call, role: &Role) -> Result<(), RpcError> {
        let escalation = || RpcError::Escalation { role: role.name.clone() };
        let Caller::Principal(principal) = &call.caller else { return Err(escalation()) };
        if principal.roles.iter().any(|held| held.parse().is_ok_and(is_administrator)) {
            return Ok(());
        }
        if !role.policies.is_empty() || is_administrator(role.id) {
            return Err(escalation());
        }
        let exceeds = Action::ALL
            .iter()
            // Using an endpoint is no power over the deployment.
            .filter(|action| !matches!(action, Action::Use | Action::List))
            .filter(|action| role.permissions.iter().any(|permission| permits(permission, **action)))
            .any(|action| !self.authorizer.decide(principal, *action, &Resource::Deployment).allowed);
        if exceeds { Err(escalation()) } else { Ok(()) }
    }

    /// Requires that a principal whose account is to be changed has no role beyond the caller's own.
    pub(super) async fn require_no_superior(&self, call: &Call, principal: &str) -> Result<(), RpcError> {
        let roles: BTreeSet<RoleId> =
            self.stores.grants.of(principal).await?.into_iter().map(|grant| grant.role_id).collect();
        for id in roles {
            if let Some(role) = self.stores.roles.get(id).await? {
                self.require_within(call, &role)?;
            }
        }
        Ok(())
    }
}

/// Reads a permission: one action, a family (`server.*`) or everything (`*`).
fn permits(permission: &str, action: Action) -> bool {
    match permission.strip_suffix('*') {
        Some(family) => action.as_str().starts_with(family),
        None => action.as_str() == permission,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permission_covers_its_action_its_family_or_everything() {
        assert!(permits("*", Action::KeyCreate) && permits("key.*", Action::KeyCreate));
        assert!(permits("key.create", Action::KeyCreate));
        assert!(!permits("key.create", Action::KeyRead) && !permits("server.*", Action::KeyRead));
    }
}
