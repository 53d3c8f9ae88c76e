//! Endpoint names and who may use them, as the registry tells.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};
use portico_authz::{Resource, Visibility};
use portico_ids::{EndpointId, EndpointName, PrincipalId};
use portico_proto_registry as proto;
use portico_proto_registry::catalogue_item::Value;
use tokio::sync::Notify;

use crate::domain::key_schedule::LEEWAY;
use crate::store::grants::Grant;

/// What keys of endpoints begin with.
const ENDPOINT_KEY: &str = "endpoint/";

/// An endpoint, as far as tokens are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KnownEndpoint {
    pub(crate) id: EndpointId,
    pub(crate) name: EndpointName,
    pub(crate) description: String,
    pub(crate) visibility: Visibility,
    pub(crate) owner: Option<PrincipalId>,
}

impl KnownEndpoint {
    pub(crate) fn resource(&self) -> Resource {
        Resource::Endpoint { name: self.name.clone(), visibility: self.visibility, owner: self.owner.clone() }
    }

    /// Tells whether a grant that bears this endpoint's name is for it, and not for one that had the name before.
    pub(crate) fn is_meant_by(&self, grant: &Grant) -> bool {
        match grant.endpoint_id {
            Some(id) => id == self.id.as_uuid(),
            None => self.created_at().is_none_or(|created| grant.created_at >= created - LEEWAY),
        }
    }

    /// Ids begin with the time at which they were made (RFC 9562 §5.7).
    fn created_at(&self) -> Option<DateTime<Utc>> {
        let (seconds, nanoseconds) = self.id.as_uuid().get_timestamp()?.to_unix();
        DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanoseconds)
    }

    fn from_proto(endpoint: &proto::CatalogueEndpoint) -> Option<Self> {
        let visibility = match endpoint.visibility() {
            proto::Visibility::Public => Visibility::Public,
            _ => Visibility::Private,
        };
        Some(Self {
            id: endpoint.id.parse().ok()?,
            name: EndpointName::parse(&endpoint.name).ok()?,
            description: endpoint.description.clone(),
            visibility,
            owner: endpoint.owner.parse().ok(),
        })
    }
}

/// Endpoints that are gone, until what has to go with them is gone as well.
#[derive(Debug, Default)]
struct Departed {
    ids: Mutex<BTreeSet<EndpointId>>,
    bell: Notify,
}

/// The endpoints by name; reading takes no lock.
#[derive(Debug, Clone, Default)]
pub(crate) struct Catalogue {
    by_name: Arc<ArcSwap<HashMap<String, KnownEndpoint>>>,
    by_key: Arc<Mutex<HashMap<String, KnownEndpoint>>>,
    departed: Arc<Departed>,
}

impl Catalogue {
    pub(crate) fn find(&self, name: &EndpointName) -> Option<KnownEndpoint> {
        self.by_name.load().get(name.as_str()).cloned()
    }

    /// Finds an endpoint by a name that may be none.
    pub(crate) fn named(&self, name: &str) -> Option<KnownEndpoint> {
        self.by_name.load().get(name).cloned()
    }

    /// Waits for an endpoint that the registry has removed and that is not settled. Only what it says counts: one that
    /// is missing in a new copy of everything may be missing because that copy is of another registry.
    pub(crate) async fn next_departed(&self) -> EndpointId {
        loop {
            if let Some(id) = self.departed().first().copied() {
                return id;
            }
            self.departed.bell.notified().await;
        }
    }

    /// Notes that nothing is left of an endpoint.
    pub(crate) fn settle(&self, id: EndpointId) {
        self.departed().remove(&id);
    }

    #[cfg(test)]
    pub(crate) fn is_settled(&self) -> bool {
        self.departed().is_empty()
    }

    fn departed(&self) -> MutexGuard<'_, BTreeSet<EndpointId>> {
        self.departed.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in one batch of the registry's feed.
    pub(crate) fn apply(&self, snapshot: bool, items: Vec<proto::CatalogueItem>, removed: &[String]) {
        let mut by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        if snapshot {
            by_key.clear();
        }
        for key in removed {
            by_key.remove(key);
        }
        let gone = removed.iter().filter_map(|key| key.strip_prefix(ENDPOINT_KEY)?.parse().ok());
        self.departed().extend::<Vec<EndpointId>>(gone.collect());
        for item in items {
            if let Some(Value::Endpoint(endpoint)) = &item.value
                && let Some(endpoint) = KnownEndpoint::from_proto(endpoint)
            {
                by_key.insert(item.key, endpoint);
            }
        }
        let by_name =
            by_key.values().map(|endpoint| (endpoint.name.as_str().to_owned(), endpoint.clone())).collect();
        self.by_name.store(Arc::new(by_name));
        drop(by_key);
        self.departed.bell.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use portico_ids::{GrantId, RoleId};
    use uuid::Uuid;

    use super::*;

    fn id(number: u128) -> EndpointId {
        Uuid::from_u128(number).into()
    }

    fn item(number: u128, name: &str) -> proto::CatalogueItem {
        let id = id(number).to_string();
        let key = format!("endpoint/{id}");
        let endpoint = proto::CatalogueEndpoint { id, name: name.into(), ..Default::default() };
        proto::CatalogueItem { key, value: Some(Value::Endpoint(endpoint)) }
    }

    #[test]
    fn the_catalogue_follows_renames_removals_and_snapshots() {
        let catalogue = Catalogue::default();
        let known = |name: &str| catalogue.find(&EndpointName::parse(name).unwrap()).is_some();
        catalogue.apply(true, vec![item(1, "time"), item(2, "files")], &[]);
        assert!(known("time") && known("files"));
        catalogue.apply(false, vec![item(1, "clock")], &[format!("endpoint/{}", id(2))]);
        assert!(known("clock") && !known("time") && !known("files"));
        catalogue.apply(true, vec![], &[]);
        assert!(!known("clock"));
    }

    #[tokio::test]
    async fn an_endpoint_that_was_removed_is_told_of_until_it_is_settled() {
        let catalogue = Catalogue::default();
        catalogue.apply(true, vec![item(1, "time"), item(2, "files")], &[]);
        let removed = [format!("endpoint/{}", id(2)), "server/x".into(), format!("endpoint/{}", id(1))];
        catalogue.apply(false, vec![], &removed);
        assert_eq!(catalogue.next_departed().await, id(1));
        assert_eq!(catalogue.next_departed().await, id(1), "nobody has settled it");
        catalogue.settle(id(1));
        assert_eq!(catalogue.next_departed().await, id(2));
        catalogue.settle(id(2));
        catalogue.apply(true, vec![item(3, "notes")], &[]);
        catalogue.apply(true, vec![], &[]);
        assert!(catalogue.departed().is_empty(), "a copy of everything removes nothing");
    }

    #[test]
    fn a_grant_is_for_the_endpoint_that_had_the_name_when_it_was_given() {
        let born = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let millis = u64::try_from(born.timestamp_millis()).unwrap();
        let id = uuid::Builder::from_unix_timestamp_millis(millis, &[7; 10]).into_uuid();
        let proto =
            proto::CatalogueEndpoint { id: id.to_string(), name: "time".into(), ..Default::default() };
        let endpoint = KnownEndpoint::from_proto(&proto).unwrap();
        let grant = |endpoint_id, created_at| Grant {
            id: GrantId::from(Uuid::from_u128(1)),
            principal: "user:x".into(),
            role_id: RoleId::from(Uuid::from_u128(2)),
            role_name: "agent".into(),
            endpoint: "time".into(),
            endpoint_id,
            created_at,
        };
        assert!(endpoint.is_meant_by(&grant(Some(id), born)));
        assert!(!endpoint.is_meant_by(&grant(Some(Uuid::from_u128(9)), born)));
        // One that was not looked up yet may come from a clock that is behind, within what clocks may differ.
        assert!(endpoint.is_meant_by(&grant(None, born - LEEWAY)));
        assert!(!endpoint.is_meant_by(&grant(None, born - LEEWAY * 2)));
    }
}
