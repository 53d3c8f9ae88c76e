//! What the registry answers.

use std::collections::BTreeMap;

use portico_ids::{EndpointId, InstanceId, ServerId};
use portico_proto_registry as proto;
use portico_proto_registry::catalogue_item::Value;
use url::Url;

use crate::domain::audit::AuditRecord;
use crate::domain::capability::Capability;
use crate::domain::endpoint::{Endpoint, Member};
use crate::domain::env_schema::EnvEntry;
use crate::domain::instance::Instance;
use crate::domain::json_spec::JsonSpec;
use crate::domain::names::{CapabilityKind, InstanceStatus, Names, ServerStatus, Visibility};
use crate::domain::secret::{Secret, SecretRef};
use crate::domain::server::Server;
use crate::json::to_struct;
use crate::service::events::timestamp;

const fn visibility(visibility: Visibility) -> proto::Visibility {
    match visibility {
        Visibility::Private => proto::Visibility::Private,
        Visibility::Public => proto::Visibility::Public,
    }
}

const fn server_status(status: ServerStatus) -> proto::ServerStatus {
    match status {
        ServerStatus::Enabled => proto::ServerStatus::Enabled,
        ServerStatus::Disabled => proto::ServerStatus::Disabled,
    }
}

const fn instance_status(status: InstanceStatus) -> proto::InstanceStatus {
    match status {
        InstanceStatus::Pending => proto::InstanceStatus::Pending,
        InstanceStatus::Healthy => proto::InstanceStatus::Healthy,
        InstanceStatus::Unhealthy => proto::InstanceStatus::Unhealthy,
    }
}

const fn names(names: Names) -> proto::Names {
    match names {
        Names::Plain => proto::Names::Plain,
        Names::Prefixed => proto::Names::Prefixed,
    }
}

const fn kind(kind: CapabilityKind) -> proto::CapabilityKind {
    match kind {
        CapabilityKind::Tool => proto::CapabilityKind::Tool,
        CapabilityKind::Prompt => proto::CapabilityKind::Prompt,
        CapabilityKind::Resource => proto::CapabilityKind::Resource,
        CapabilityKind::ResourceTemplate => proto::CapabilityKind::ResourceTemplate,
    }
}

fn env_entry(entry: &EnvEntry) -> proto::EnvEntry {
    proto::EnvEntry {
        name: entry.name.clone(),
        r#type: entry.kind.as_str().to_owned(),
        description: entry.description.clone(),
        required: entry.required,
        secret: entry.secret,
        default: entry.default.clone(),
    }
}

pub(crate) fn server(server: Server) -> proto::Server {
    let details = server.details;
    proto::Server {
        id: server.id.to_string(),
        name: server.name.to_string(),
        description: details.description,
        version: details.version,
        tags: details.tags,
        docker_image_url: details.docker_image_url,
        status: server_status(details.status).into(),
        visibility: visibility(details.visibility).into(),
        env_schema: details.env_schema.entries().iter().map(env_entry).collect(),
        owner: server.owner.to_string(),
        revision: server.revision,
        created_at: Some(timestamp(server.created_at)),
        updated_at: Some(timestamp(server.updated_at)),
    }
}

pub(crate) fn instance(instance: Instance) -> proto::Instance {
    proto::Instance {
        id: instance.id.to_string(),
        name: instance.details.name,
        description: instance.details.description,
        server_id: instance.server_id.to_string(),
        json_spec: Some(to_struct(&instance.details.json_spec)),
        status: instance_status(instance.health.status).into(),
        status_reason: instance.health.reason,
        protocol_versions: instance.health.protocol_versions,
        revision: instance.revision,
        created_at: Some(timestamp(instance.created_at)),
        updated_at: Some(timestamp(instance.updated_at)),
        checked_at: instance.health.checked_at.map(timestamp),
    }
}

fn member(member: Member) -> proto::EndpointMember {
    let Member { server_id, alias, tools, prompts, resources } = member;
    proto::EndpointMember { server_id: server_id.to_string(), alias, tools, prompts, resources }
}

pub(crate) fn endpoint(endpoint: Endpoint, public_origin: &Url) -> proto::Endpoint {
    let details = endpoint.details;
    // A slug under an origin: nothing in it can change where the URL points to.
    let url = format!("{}/{}/mcp", public_origin.as_str().trim_end_matches('/'), endpoint.name);
    proto::Endpoint {
        id: endpoint.id.to_string(),
        name: endpoint.name.to_string(),
        description: details.description,
        visibility: visibility(details.visibility).into(),
        names: names(details.names).into(),
        members: details.members.into_iter().map(member).collect(),
        owner: endpoint.owner.to_string(),
        revision: endpoint.revision,
        url,
        created_at: Some(timestamp(endpoint.created_at)),
        updated_at: Some(timestamp(endpoint.updated_at)),
    }
}

pub(crate) fn capability(capability: Capability) -> proto::Capability {
    proto::Capability {
        server_id: capability.server_id.to_string(),
        kind: kind(capability.kind).into(),
        name: capability.name,
        title: capability.title,
        description: capability.description,
        definition_json: capability.definition,
        seen_at: Some(timestamp(capability.seen_at)),
    }
}

pub(crate) fn secret(secret: &Secret) -> proto::Secret {
    proto::Secret {
        r#ref: secret.reference.to_string(),
        version: secret.version,
        owner: secret.owner.to_string(),
        created_at: Some(timestamp(secret.created_at)),
        updated_at: Some(timestamp(secret.updated_at)),
    }
}

pub(crate) fn audit_message(record: AuditRecord) -> proto::AuditRecord {
    proto::AuditRecord {
        id: record.id.to_string(),
        occurred_at: Some(timestamp(record.occurred_at)),
        service: record.service,
        principal: record.principal,
        client_id: record.client_id,
        action: record.action,
        target: record.target,
        name: record.name,
        outcome: record.outcome.as_str().to_owned(),
        reason: record.reason,
        correlation_id: record.correlation_id,
        trace_id: record.trace_id,
        duration_ms: record.duration_ms,
        request_bytes: record.request_bytes,
        response_bytes: record.response_bytes,
        peer: record.peer,
    }
}

pub(crate) fn instance_spec(instance: &Instance, server: &Server) -> proto::InstanceSpec {
    proto::InstanceSpec {
        instance_id: instance.id.to_string(),
        server_id: server.id.to_string(),
        server_name: server.name.to_string(),
        json_spec: Some(to_struct(&instance.details.json_spec)),
        revision: instance.revision,
    }
}

pub(crate) fn server_key(id: ServerId) -> String {
    format!("server/{id}")
}

pub(crate) fn instance_key(id: InstanceId) -> String {
    format!("instance/{id}")
}

pub(crate) fn endpoint_key(id: EndpointId) -> String {
    format!("endpoint/{id}")
}

pub(crate) fn server_item(server: &Server) -> proto::CatalogueItem {
    let value = proto::CatalogueServer {
        id: server.id.to_string(),
        name: server.name.to_string(),
        enabled: server.details.status == ServerStatus::Enabled,
        owner: server.owner.to_string(),
        visibility: visibility(server.details.visibility).into(),
    };
    proto::CatalogueItem { key: server_key(server.id), value: Some(Value::Server(value)) }
}

/// `None` if the stored document is not one that this version understands.
pub(crate) fn instance_item(
    instance: &Instance,
    secret_versions: &BTreeMap<SecretRef, i64>,
) -> Option<proto::CatalogueItem> {
    let spec = JsonSpec::stored(&instance.details.json_spec)?;
    let bearer = spec.bearer.as_ref();
    let value = proto::CatalogueInstance {
        id: instance.id.to_string(),
        server_id: instance.server_id.to_string(),
        url: spec.endpoint.to_string(),
        status: instance_status(instance.health.status).into(),
        protocol_versions: instance.health.protocol_versions.clone(),
        bearer_secret_ref: bearer.map(ToString::to_string).unwrap_or_default(),
        secret_version: bearer.and_then(|reference| secret_versions.get(reference)).copied().unwrap_or(0),
        timeout_ms: spec.timeout.map_or(0, |timeout| i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX)),
        stateless: spec.stateless,
    };
    Some(proto::CatalogueItem { key: instance_key(instance.id), value: Some(Value::Instance(value)) })
}

pub(crate) fn endpoint_item(endpoint: Endpoint) -> proto::CatalogueItem {
    let key = endpoint_key(endpoint.id);
    let details = endpoint.details;
    let value = proto::CatalogueEndpoint {
        id: endpoint.id.to_string(),
        name: endpoint.name.to_string(),
        description: details.description,
        visibility: visibility(details.visibility).into(),
        names: names(details.names).into(),
        members: details.members.into_iter().map(member).collect(),
        owner: endpoint.owner.to_string(),
    };
    proto::CatalogueItem { key, value: Some(Value::Endpoint(value)) }
}
