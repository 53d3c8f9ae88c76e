//! Which roles a token carries: those that count for its audience.

use super::resource::Target;
use crate::store::grants::Grant;

/// The endpoint of a grant that holds everywhere.
pub(crate) const EVERYWHERE: &str = "*";

/// Writes the `roles` claim: `ROLE` for one held everywhere, `ROLE@ENDPOINT` for one held on an endpoint.
/// A token for one endpoint names no other; one for `/mcp` names all; one for the API only what holds everywhere.
pub(crate) fn roles_claim(grants: &[Grant], target: &Target) -> Vec<String> {
    let mut roles: Vec<String> = grants
        .iter()
        .filter_map(|grant| {
            if grant.endpoint == EVERYWHERE {
                return Some(grant.role_id.to_string());
            }
            let counts = match target {
                Target::Root => true,
                Target::Endpoint(name) => name.as_str() == grant.endpoint,
                Target::Api => false,
            };
            counts.then(|| format!("{}@{}", grant.role_id, grant.endpoint))
        })
        .collect();
    roles.sort_unstable();
    roles.dedup();
    roles
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use portico_ids::{EndpointName, GrantId, RoleId};
    use uuid::Uuid;

    use super::*;

    fn grant(role: u128, endpoint: &str) -> Grant {
        Grant {
            id: GrantId::from(Uuid::from_u128(role)),
            principal: "user:x".into(),
            role_id: RoleId::from(Uuid::from_u128(role)),
            role_name: "r".into(),
            endpoint: endpoint.into(),
            created_at: DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn s1_11_a_token_carries_only_the_roles_of_its_audience() {
        let grants = [grant(1, "*"), grant(2, "time"), grant(3, "files")];
        let id = |n: u128| Uuid::from_u128(n).to_string();
        let time = Target::Endpoint(EndpointName::parse("time").unwrap());
        assert_eq!(roles_claim(&grants, &time), [id(1), format!("{}@time", id(2))]);
        assert_eq!(roles_claim(&grants, &Target::Api), [id(1)]);
        assert_eq!(roles_claim(&grants, &Target::Root).len(), 3);
    }
}
