//! The roles that every deployment has. Their ids are fixed, so that seeding twice changes nothing.

use portico_ids::RoleId;
use uuid::Uuid;

/// A built-in role.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BuiltinRole {
    pub(crate) name: &'static str,
    pub(crate) description: &'static str,
    pub(crate) permissions: &'static [&'static str],
    id: u128,
}

impl BuiltinRole {
    pub(crate) fn id(&self) -> RoleId {
        RoleId::from(Uuid::from_u128(self.id))
    }
}

/// The role of the superuser.
pub(crate) const ADMINISTRATOR: &str = "administrator";

/// In the order in which they are seeded.
pub(crate) const ROLES: [BuiltinRole; 4] = [
    BuiltinRole {
        name: ADMINISTRATOR,
        description: "May do everything",
        permissions: &["*"],
        id: 0x0190_0000_0000_7000_8000_0000_0000_0001,
    },
    BuiltinRole {
        name: "publisher",
        description: "Registers servers and endpoints and manages the own ones",
        permissions: &["server.create", "endpoint.create", "server.list", "endpoint.list"],
        id: 0x0190_0000_0000_7000_8000_0000_0000_0002,
    },
    BuiltinRole {
        name: "agent",
        description: "Uses the endpoints that it is granted for",
        permissions: &["use", "list"],
        id: 0x0190_0000_0000_7000_8000_0000_0000_0003,
    },
    BuiltinRole {
        name: "auditor",
        description: "Reads audit records",
        permissions: &["audit.read"],
        id: 0x0190_0000_0000_7000_8000_0000_0000_0004,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_roles_have_distinct_version_7_ids() {
        let ids: std::collections::BTreeSet<_> = ROLES.iter().map(BuiltinRole::id).collect();
        assert_eq!(ids.len(), ROLES.len());
        assert!(ids.iter().all(|id| id.as_uuid().get_version_num() == 7));
    }
}
