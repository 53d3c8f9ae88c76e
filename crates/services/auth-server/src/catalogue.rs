//! Endpoint names and who may use them, as the registry tells.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use portico_authz::{Resource, Visibility};
use portico_ids::{EndpointName, PrincipalId};
use portico_proto_registry as proto;
use portico_proto_registry::catalogue_item::Value;

/// An endpoint, as far as tokens are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KnownEndpoint {
    pub(crate) name: EndpointName,
    pub(crate) description: String,
    pub(crate) visibility: Visibility,
    pub(crate) owner: Option<PrincipalId>,
}

impl KnownEndpoint {
    pub(crate) fn resource(&self) -> Resource {
        Resource::Endpoint { name: self.name.clone(), visibility: self.visibility, owner: self.owner.clone() }
    }

    fn from_proto(endpoint: &proto::CatalogueEndpoint) -> Option<Self> {
        let visibility = match endpoint.visibility() {
            proto::Visibility::Public => Visibility::Public,
            _ => Visibility::Private,
        };
        Some(Self {
            name: EndpointName::parse(&endpoint.name).ok()?,
            description: endpoint.description.clone(),
            visibility,
            owner: endpoint.owner.parse().ok(),
        })
    }
}

/// The endpoints by name; reading takes no lock.
#[derive(Debug, Clone, Default)]
pub(crate) struct Catalogue {
    by_name: Arc<ArcSwap<HashMap<String, KnownEndpoint>>>,
    by_key: Arc<Mutex<HashMap<String, KnownEndpoint>>>,
}

impl Catalogue {
    pub(crate) fn find(&self, name: &EndpointName) -> Option<KnownEndpoint> {
        self.by_name.load().get(name.as_str()).cloned()
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(key: &str, name: &str) -> proto::CatalogueItem {
        let endpoint = proto::CatalogueEndpoint { name: name.into(), ..Default::default() };
        proto::CatalogueItem { key: key.into(), value: Some(Value::Endpoint(endpoint)) }
    }

    #[test]
    fn the_catalogue_follows_renames_removals_and_snapshots() {
        let catalogue = Catalogue::default();
        let known = |name: &str| catalogue.find(&EndpointName::parse(name).unwrap()).is_some();
        catalogue.apply(true, vec![item("endpoint/1", "time"), item("endpoint/2", "files")], &[]);
        assert!(known("time") && known("files"));
        catalogue.apply(false, vec![item("endpoint/1", "clock")], &["endpoint/2".into()]);
        assert!(known("clock") && !known("time") && !known("files"));
        catalogue.apply(true, vec![], &[]);
        assert!(!known("clock"));
    }
}
