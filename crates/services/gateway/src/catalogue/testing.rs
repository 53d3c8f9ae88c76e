//! Catalogue items for tests.

use portico_ids::{InstanceId, ServerId};
use portico_proto_registry::catalogue_item::Value;
use portico_proto_registry::{
    CatalogueEndpoint, CatalogueInstance, CatalogueItem, CatalogueServer, EndpointMember, InstanceStatus,
    Names, Visibility,
};

use super::{Catalogue, Snapshot};

pub(crate) type Item = (String, CatalogueItem);

pub(crate) const ORIGIN: &str = "http://127.0.0.1:8080";

pub(crate) fn server_id(n: u8) -> ServerId {
    format!("00000000-0000-7000-8000-0000000000{n:02x}").parse().unwrap()
}

pub(crate) fn instance_id(n: u8) -> InstanceId {
    format!("00000000-0000-7000-8000-0000000001{n:02x}").parse().unwrap()
}

fn item(key: String, value: Value) -> Item {
    (key.clone(), CatalogueItem { key, value: Some(value) })
}

pub(crate) fn server(n: u8, name: &str) -> Item {
    let id = server_id(n).to_string();
    item(
        format!("server/{id}"),
        Value::Server(CatalogueServer { id, name: name.to_owned(), enabled: true, ..Default::default() }),
    )
}

pub(crate) fn instance(n: u8, server: u8, url: &str) -> Item {
    let id = instance_id(n).to_string();
    item(
        format!("instance/{id}"),
        Value::Instance(CatalogueInstance {
            id,
            server_id: server_id(server).to_string(),
            url: url.to_owned(),
            status: InstanceStatus::Healthy.into(),
            ..Default::default()
        }),
    )
}

/// A public endpoint with plain names.
pub(crate) fn endpoint(name: &str, servers: &[u8]) -> Item {
    let id = format!("endpoint-{name}");
    item(
        format!("endpoint/{id}"),
        Value::Endpoint(CatalogueEndpoint {
            id,
            name: name.to_owned(),
            visibility: Visibility::Public.into(),
            names: Names::Plain.into(),
            members: servers
                .iter()
                .map(|n| EndpointMember { server_id: server_id(*n).to_string(), ..Default::default() })
                .collect(),
            ..Default::default()
        }),
    )
}

pub(crate) fn snapshot(items: Vec<Item>) -> std::sync::Arc<Snapshot> {
    let catalogue = Catalogue::new(ORIGIN);
    catalogue.apply(true, items, &[]);
    catalogue.snapshot()
}
