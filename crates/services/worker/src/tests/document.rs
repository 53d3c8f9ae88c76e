//! Specs as the registry sends them.

use portico_proto_events as events;
use portico_proto_events::event::Payload;
use portico_proto_registry as proto;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value as ProtoValue};
use serde_json::Value;

pub(crate) const INSTANCE: &str = "01890000-0000-7000-8000-000000000001";
pub(crate) const SERVER: &str = "01890000-0000-7000-8000-0000000000aa";

pub(crate) fn to_struct(value: &Value) -> Struct {
    let members = value.as_object().unwrap();
    Struct { fields: members.iter().map(|(key, value)| (key.clone(), to_proto(value))).collect() }
}

fn to_proto(value: &Value) -> ProtoValue {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(flag) => Kind::BoolValue(*flag),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => Kind::ListValue(ListValue { values: items.iter().map(to_proto).collect() }),
        Value::Object(_) => Kind::StructValue(to_struct(value)),
    };
    ProtoValue { kind: Some(kind) }
}

/// The id of the n-th instance.
pub(crate) fn instance(n: u32) -> String {
    format!("01890000-0000-7000-8000-{n:012x}")
}

/// The id of the server whose first instance is the n-th.
pub(crate) fn server(n: u32) -> String {
    format!("01890000-0000-7000-8000-aaaa{n:08x}")
}

/// The n-th instance, alone at its server.
pub(crate) fn row(n: u32, revision: i64, document: &Value) -> proto::InstanceSpec {
    proto::InstanceSpec {
        instance_id: instance(n),
        server_id: server(n),
        server_name: format!("server-{n}"),
        json_spec: Some(to_struct(document)),
        revision,
    }
}

pub(crate) fn event(revision: i64, payload: Payload) -> events::Event {
    events::Event { id: instance(99), occurred_at: None, revision, payload: Some(payload) }
}

pub(crate) fn updated(row: &proto::InstanceSpec) -> events::Event {
    let spec = events::InstanceSpec {
        instance_id: row.instance_id.clone(),
        server_id: row.server_id.clone(),
        server_name: row.server_name.clone(),
        json_spec: row.json_spec.clone(),
    };
    let payload = events::ServerInstanceUpdated { spec: Some(spec) };
    event(row.revision, Payload::ServerInstanceUpdated(payload))
}

pub(crate) fn deleted(n: u32, revision: i64) -> events::Event {
    let payload = events::ServerInstanceDeleted { instance_id: instance(n), server_id: server(n) };
    event(revision, Payload::ServerInstanceDeleted(payload))
}
