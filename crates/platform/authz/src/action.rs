//! What can be done.

use std::{fmt, str::FromStr};

/// Defines the actions with their names; the Cedar schema lists the same ones, which a test checks.
macro_rules! actions {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Something that a principal may or may not do.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Action {
            $($(#[$doc])* $variant,)*
        }

        impl Action {
            /// Every action.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Returns the name, e.g. `server.create`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

actions! {
    /// Calls tools, prompts and resources through an endpoint.
    Use = "use",
    /// Sees that an endpoint and what it offers are there.
    List = "list",
    /// Creates a server.
    ServerCreate = "server.create",
    /// Reads a server.
    ServerRead = "server.read",
    /// Changes a server.
    ServerUpdate = "server.update",
    /// Deletes a server.
    ServerDelete = "server.delete",
    /// Creates an instance of a server.
    InstanceCreate = "instance.create",
    /// Reads an instance of a server.
    InstanceRead = "instance.read",
    /// Changes an instance of a server.
    InstanceUpdate = "instance.update",
    /// Deletes an instance of a server.
    InstanceDelete = "instance.delete",
    /// Creates an endpoint.
    EndpointCreate = "endpoint.create",
    /// Reads an endpoint.
    EndpointRead = "endpoint.read",
    /// Changes an endpoint.
    EndpointUpdate = "endpoint.update",
    /// Deletes an endpoint.
    EndpointDelete = "endpoint.delete",
    /// Sets a secret.
    SecretWrite = "secret.write",
    /// Reads what is known of a secret; never its value.
    SecretRead = "secret.read",
    /// Deletes a secret.
    SecretDelete = "secret.delete",
    /// Reads the audit record.
    AuditRead = "audit.read",
    /// Creates a user.
    UserCreate = "user.create",
    /// Reads a user.
    UserRead = "user.read",
    /// Changes a user.
    UserUpdate = "user.update",
    /// Deletes a user.
    UserDelete = "user.delete",
    /// Creates a role.
    RoleCreate = "role.create",
    /// Reads a role.
    RoleRead = "role.read",
    /// Changes a role.
    RoleUpdate = "role.update",
    /// Deletes a role.
    RoleDelete = "role.delete",
    /// Creates a grant.
    GrantCreate = "grant.create",
    /// Reads a grant.
    GrantRead = "grant.read",
    /// Changes a grant.
    GrantUpdate = "grant.update",
    /// Deletes a grant.
    GrantDelete = "grant.delete",
    /// Creates a service account.
    ServiceAccountCreate = "service_account.create",
    /// Reads a service account.
    ServiceAccountRead = "service_account.read",
    /// Changes a service account.
    ServiceAccountUpdate = "service_account.update",
    /// Deletes a service account.
    ServiceAccountDelete = "service_account.delete",
    /// Creates a client.
    ClientCreate = "client.create",
    /// Reads a client.
    ClientRead = "client.read",
    /// Changes a client.
    ClientUpdate = "client.update",
    /// Deletes a client.
    ClientDelete = "client.delete",
    /// Makes a new signing key, as a rotation does.
    KeyCreate = "key.create",
    /// Reads a signing key.
    KeyRead = "key.read",
    /// Changes a signing key.
    KeyUpdate = "key.update",
    /// Deletes a signing key.
    KeyDelete = "key.delete",
}

impl Action {
    /// Reads a permission: one action, a family (`server.*`) or everything (`*`). Empty if there is none such.
    pub(crate) fn matching(permission: &str) -> Vec<Self> {
        let family = permission.strip_suffix('*').filter(|family| family.is_empty() || family.ends_with('.'));
        let matches = |action: &Self| match family {
            Some(family) => action.as_str().starts_with(family),
            None => action.as_str() == permission,
        };
        Self::ALL.iter().copied().filter(matches).collect()
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no action.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an action: use one such as `use` or `server.create`")]
pub struct UnknownAction(String);

impl FromStr for Action {
    type Err = UnknownAction;

    fn from_str(text: &str) -> Result<Self, UnknownAction> {
        let found = Self::ALL.iter().find(|action| action.as_str() == text);
        found.copied().ok_or_else(|| UnknownAction(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permission_is_one_action_a_family_or_everything() {
        assert_eq!(Action::matching("use"), [Action::Use]);
        assert_eq!(Action::matching("audit.*"), [Action::AuditRead]);
        assert_eq!(Action::matching("server.*").len(), 4);
        assert_eq!(Action::matching("*").len(), Action::ALL.len());
        for none in ["", "us*", "server", "server.", "nothing.*", "**"] {
            assert!(Action::matching(none).is_empty(), "{none}");
        }
    }

    #[test]
    fn an_action_round_trips() {
        for action in Action::ALL {
            assert_eq!(action.as_str().parse(), Ok(*action));
        }
        assert!("server.*".parse::<Action>().is_err());
    }
}
