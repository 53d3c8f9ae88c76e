//! Between the domain and the messages of `portico.registry.v1`.

mod incoming;
mod outgoing;

pub(crate) use incoming::{
    audit_record, capability_input, capability_kind, endpoint_input, expected_revision, fields, id,
    json_spec, lookup_name, observed_status, server_input, time,
};
pub(crate) use outgoing::{
    audit_message, capability, endpoint, endpoint_item, endpoint_key, instance, instance_item, instance_key,
    instance_spec, secret, server, server_item, server_key,
};
