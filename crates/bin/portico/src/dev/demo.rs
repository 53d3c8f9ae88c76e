//! The demo server: where it listens, and that it is registered.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use portico_proto_registry::{
    Instance, ListInstancesRequest, RegisterServerRequest, UpdateInstanceRequest, Visibility,
};
use portico_transport::{BindError, BoundListener};
use prost_types::{FieldMask, Struct, Value, value::Kind};

use super::state::{DataDir, DevState};
use crate::connection::Connection;
use crate::connection::ready_file::ReadyFile;

/// How long it may take until a registered server can be used, and how often to look.
const LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);
/// Name of the demo server and of its endpoint.
pub(super) const NAME: &str = "demo";

/// Binds the port of the last start, or a free one if somebody else has it by now.
pub(super) fn bind(state: &mut DevState) -> Result<BoundListener, BindError> {
    let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let listener = match BoundListener::bind(loopback(state.demo_port)) {
        Err(BindError::AddressInUse(_)) => BoundListener::bind(loopback(0))?,
        bound => bound?,
    };
    state.demo_port = listener.local_addr().port();
    Ok(listener.named("demo"))
}

/// Registers the demo server on the first start, through the API that everybody uses; afterwards only keeps its address
/// right, and leaves it alone once somebody deleted it.
pub(super) async fn register(
    ready: &ReadyFile,
    state: &mut DevState,
    data_dir: &DataDir,
    address: SocketAddr,
) -> Result<()> {
    let connection = Connection::as_service_account(ready)?;
    let outcome = if state.demo_registered {
        correct_address(&connection, address).await
    } else {
        create(&connection, address).await
    };
    outcome.context("the demo server cannot be registered")?;
    if !state.demo_registered {
        usable(&connection).await?;
    }
    state.demo_registered = true;
    state.save(data_dir)
}

async fn create(connection: &Connection, address: SocketAddr) -> Result<()> {
    let request = RegisterServerRequest {
        name: NAME.to_owned(),
        description: "Portico's demo server: time zones, units, progress, a form".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        tags: vec![NAME.to_owned()],
        visibility: Visibility::Public.into(),
        json_spec: Some(json_spec(address)),
        ..RegisterServerRequest::default()
    };
    connection.api().await?.servers().register_server(request).await?;
    Ok(())
}

/// Waits until agents can use it: the gateway and the authorization server hear of it by their feeds.
async fn usable(connection: &Connection) -> Result<()> {
    let resource = connection.resource(Some(NAME));
    let metadata =
        format!("{}/.well-known/oauth-protected-resource/{NAME}/mcp", connection.origin()).parse()?;
    let usable = async {
        while connection.http().json::<serde_json::Value>(&metadata).await.is_err() {
            tokio::time::sleep(POLL).await;
        }
        while connection.mcp_token(&resource).await.is_err() {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(LIMIT, usable).await.context("the demo server was registered, but cannot be used")
}

async fn correct_address(connection: &Connection, address: SocketAddr) -> Result<()> {
    let Some(server) = crate::server::find_if_there(NAME, connection).await? else { return Ok(()) };
    let request = ListInstancesRequest { page_size: 500, page_token: String::new(), server_id: server.id };
    let instances = connection.api().await?.instances().list_instances(request).await?.into_inner().instances;
    let wanted = json_spec(address);
    for instance in instances {
        if endpoint_of(&instance) == endpoint_in(&wanted) {
            continue;
        }
        let expected_revision = instance.revision;
        let request = UpdateInstanceRequest {
            instance: Some(Instance { json_spec: Some(wanted.clone()), ..instance }),
            update_mask: Some(FieldMask { paths: vec!["json_spec".to_owned()] }),
            expected_revision,
        };
        connection.api().await?.instances().update_instance(request).await?;
    }
    Ok(())
}

fn json_spec(address: SocketAddr) -> Struct {
    let text = |value: String| Value { kind: Some(Kind::StringValue(value)) };
    let fields = [("type", text("url".to_owned())), ("endpoint", text(format!("http://{address}/mcp")))];
    Struct { fields: fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect() }
}

fn endpoint_of(instance: &Instance) -> Option<&Value> {
    instance.json_spec.as_ref().and_then(endpoint_in)
}

fn endpoint_in(json_spec: &Struct) -> Option<&Value> {
    json_spec.fields.get("endpoint")
}
