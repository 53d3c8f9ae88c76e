//! Which roles a token carries: those that count for its audience.

use super::resource::Target;
use crate::catalogue::Catalogue;
use crate::store::grants::Grant;

/// The endpoint of a grant that holds everywhere.
pub(crate) const EVERYWHERE: &str = "*";

/// Writes the `roles` claim: `ROLE` for one held everywhere, `ROLE@ENDPOINT` for one held on an endpoint.
/// A token for one endpoint names no other; one for `/mcp` names all; one for the API only what holds everywhere.
pub(crate) fn roles_claim(grants: &[Grant], target: &Target, catalogue: &Catalogue) -> Vec<String> {
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
            (counts && is_for_what_is_there(grant, catalogue))
                .then(|| format!("{}@{}", grant.role_id, grant.endpoint))
        })
        .collect();
    roles.sort_unstable();
    roles.dedup();
    roles
}

/// Tells whether a grant is for the endpoint that has its name now. One that this replica does not know may be so new
/// that it was not heard of yet: its grants are kept.
fn is_for_what_is_there(grant: &Grant, catalogue: &Catalogue) -> bool {
    catalogue.named(&grant.endpoint).is_none_or(|endpoint| endpoint.is_meant_by(grant))
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use portico_ids::{EndpointName, GrantId, RoleId};
    use portico_proto_registry::catalogue_item::Value;
    use portico_proto_registry::{CatalogueEndpoint, CatalogueItem};
    use uuid::Uuid;

    use super::*;

    fn grant(role: u128, endpoint: &str) -> Grant {
        Grant {
            id: GrantId::from(Uuid::from_u128(role)),
            principal: "user:x".into(),
            role_id: RoleId::from(Uuid::from_u128(role)),
            role_name: "r".into(),
            endpoint: endpoint.into(),
            endpoint_id: None,
            created_at: DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn s1_11_a_token_carries_only_the_roles_of_its_audience() {
        let grants = [grant(1, "*"), grant(2, "time"), grant(3, "files")];
        let id = |n: u128| Uuid::from_u128(n).to_string();
        let time = Target::Endpoint(EndpointName::parse("time").unwrap());
        let catalogue = Catalogue::default();
        assert_eq!(roles_claim(&grants, &time, &catalogue), [id(1), format!("{}@time", id(2))]);
        assert_eq!(roles_claim(&grants, &Target::Api, &catalogue), [id(1)]);
        assert_eq!(roles_claim(&grants, &Target::Root, &catalogue).len(), 3);
    }

    #[test]
    fn a5_a_grant_for_an_endpoint_that_is_gone_gives_nothing_on_the_next_one_of_its_name() {
        let catalogue = Catalogue::default();
        let item = |number: u128| {
            let id = Uuid::from_u128(number).to_string();
            let key = format!("endpoint/{id}");
            let endpoint = CatalogueEndpoint { id, name: "time".into(), ..Default::default() };
            CatalogueItem { key, value: Some(Value::Endpoint(endpoint)) }
        };
        let grants = [Grant { endpoint_id: Some(Uuid::from_u128(8)), ..grant(2, "time") }];
        let time = Target::Endpoint(EndpointName::parse("time").unwrap());
        catalogue.apply(true, vec![item(8)], &[]);
        assert_eq!(roles_claim(&grants, &time, &catalogue).len(), 1);
        catalogue.apply(true, vec![item(9)], &[]);
        for target in [Target::Root, time] {
            assert!(roles_claim(&grants, &target, &catalogue).is_empty());
        }
    }
}
