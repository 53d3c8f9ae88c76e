//! What the registry tells the event stream: complete specs with secret references, never values (S4-04).

use chrono::{DateTime, Utc};
use portico_proto_events::event::Payload;
use portico_proto_events::{
    InstanceSpec, InstanceStatusChanged, ServerDeleted, ServerInstanceCreated, ServerInstanceDeleted,
    ServerInstanceSecretChanged, ServerInstanceUpdated,
};
use prost_types::Timestamp;

use crate::domain::instance::Instance;
use crate::domain::server::Server;
use crate::json::to_struct;

pub(crate) fn timestamp(time: DateTime<Utc>) -> Timestamp {
    Timestamp { seconds: time.timestamp(), nanos: i32::try_from(time.timestamp_subsec_nanos()).unwrap_or(0) }
}

fn spec(instance: &Instance, server: &Server) -> InstanceSpec {
    InstanceSpec {
        instance_id: instance.id.to_string(),
        server_id: server.id.to_string(),
        server_name: server.name.to_string(),
        json_spec: Some(to_struct(&instance.details.json_spec)),
    }
}

pub(crate) fn created(instance: &Instance, server: &Server) -> Payload {
    Payload::ServerInstanceCreated(ServerInstanceCreated { spec: Some(spec(instance, server)) })
}

pub(crate) fn updated(instance: &Instance, server: &Server) -> Payload {
    Payload::ServerInstanceUpdated(ServerInstanceUpdated { spec: Some(spec(instance, server)) })
}

pub(crate) fn secret_changed(instance: &Instance, server: &Server) -> Payload {
    let spec_revision = instance.revision;
    let spec = Some(spec(instance, server));
    Payload::ServerInstanceSecretChanged(ServerInstanceSecretChanged { spec, spec_revision })
}

pub(crate) fn deleted(instance: &Instance) -> Payload {
    Payload::ServerInstanceDeleted(ServerInstanceDeleted {
        instance_id: instance.id.to_string(),
        server_id: instance.server_id.to_string(),
    })
}

pub(crate) fn server_deleted(server: &Server) -> Payload {
    Payload::ServerDeleted(ServerDeleted { server_id: server.id.to_string() })
}

pub(crate) fn status_changed(instance: &Instance) -> Payload {
    Payload::InstanceStatusChanged(InstanceStatusChanged {
        instance_id: instance.id.to_string(),
        server_id: instance.server_id.to_string(),
        status: instance.health.status.as_str().to_owned(),
    })
}
