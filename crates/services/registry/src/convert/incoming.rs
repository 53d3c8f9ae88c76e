//! What callers send, taken apart. A number that an enum does not know is refused, not guessed.

use std::str::FromStr;

use chrono::{DateTime, Datelike as _, SubsecRound as _, Utc};
use portico_ids::{AuditId, EndpointName};
use portico_proto_registry as proto;
use prost_types::{FieldMask, Struct, Timestamp};
use serde_json::Value;

use crate::domain::audit::AuditRecord;
use crate::domain::capability::CapabilityInput;
use crate::domain::endpoint::{EndpointInput, MemberDraft};
use crate::domain::env_schema::{EnvEntryInput, EnvSchema};
use crate::domain::names::{CapabilityKind, InstanceStatus, Names, ServerStatus, Visibility};
use crate::domain::server::ServerInput;
use crate::errors::RegistryError;
use crate::json::from_struct;

/// Most paths of one field mask.
const MASK_LIMIT: usize = 32;

/// Reads an id.
pub(crate) fn id<T: FromStr>(field: &str, text: &str) -> Result<T, RegistryError> {
    if text.is_empty() {
        return Err(RegistryError::invalid(field, "is missing"));
    }
    text.parse().map_err(|_| RegistryError::invalid(field, "is not an id; ids are UUIDs"))
}

/// Reads which fields an update changes; an empty mask says nothing.
pub(crate) fn fields<T>(
    mask: Option<FieldMask>,
    parse: impl Fn(&str) -> Result<T, RegistryError>,
) -> Result<Vec<T>, RegistryError> {
    let paths = mask.map(|mask| mask.paths).unwrap_or_default();
    if paths.is_empty() || paths.len() > MASK_LIMIT {
        return Err(RegistryError::MaskMissing);
    }
    paths.iter().map(|path| parse(path)).collect()
}

/// Reads the revision that an update starts from, which has to be there.
pub(crate) fn expected_revision(kind: &'static str, revision: i64) -> Result<i64, RegistryError> {
    if revision > 0 { Ok(revision) } else { Err(RegistryError::RevisionMissing { kind }) }
}

pub(crate) fn json_spec(document: Option<Struct>) -> Result<Value, RegistryError> {
    let document = document.ok_or_else(|| RegistryError::invalid("json_spec", "is missing"))?;
    from_struct(document).ok_or_else(|| {
        RegistryError::invalid("json_spec", "is nested too deeply or holds a number that is none")
    })
}

fn visibility(field: &str, number: i32) -> Result<Option<Visibility>, RegistryError> {
    match proto::Visibility::try_from(number) {
        Ok(proto::Visibility::Unspecified) => Ok(None),
        Ok(proto::Visibility::Private) => Ok(Some(Visibility::Private)),
        Ok(proto::Visibility::Public) => Ok(Some(Visibility::Public)),
        Err(_) => Err(RegistryError::invalid(field, "is neither private nor public")),
    }
}

fn server_status(number: i32) -> Result<Option<ServerStatus>, RegistryError> {
    match proto::ServerStatus::try_from(number) {
        Ok(proto::ServerStatus::Unspecified) => Ok(None),
        Ok(proto::ServerStatus::Enabled) => Ok(Some(ServerStatus::Enabled)),
        Ok(proto::ServerStatus::Disabled) => Ok(Some(ServerStatus::Disabled)),
        Err(_) => Err(RegistryError::invalid("server.status", "is neither enabled nor disabled")),
    }
}

fn names(number: i32) -> Result<Option<Names>, RegistryError> {
    match proto::Names::try_from(number) {
        Ok(proto::Names::Unspecified) => Ok(None),
        Ok(proto::Names::Plain) => Ok(Some(Names::Plain)),
        Ok(proto::Names::Prefixed) => Ok(Some(Names::Prefixed)),
        Err(_) => Err(RegistryError::invalid("endpoint.names", "is neither plain nor prefixed")),
    }
}

/// What a probe can say; pending is what nobody has looked at.
pub(crate) fn observed_status(number: i32) -> Result<InstanceStatus, RegistryError> {
    match proto::InstanceStatus::try_from(number) {
        Ok(proto::InstanceStatus::Healthy) => Ok(InstanceStatus::Healthy),
        Ok(proto::InstanceStatus::Unhealthy) => Ok(InstanceStatus::Unhealthy),
        _ => Err(RegistryError::invalid("status", "is neither healthy nor unhealthy")),
    }
}

pub(crate) fn capability_kind(number: i32) -> Result<Option<CapabilityKind>, RegistryError> {
    match proto::CapabilityKind::try_from(number) {
        Ok(proto::CapabilityKind::Unspecified) => Ok(None),
        Ok(proto::CapabilityKind::Tool) => Ok(Some(CapabilityKind::Tool)),
        Ok(proto::CapabilityKind::Prompt) => Ok(Some(CapabilityKind::Prompt)),
        Ok(proto::CapabilityKind::Resource) => Ok(Some(CapabilityKind::Resource)),
        Ok(proto::CapabilityKind::ResourceTemplate) => Ok(Some(CapabilityKind::ResourceTemplate)),
        Err(_) => Err(RegistryError::invalid("kind", "is no kind of capability")),
    }
}

pub(crate) fn capability_input(message: proto::Capability) -> Result<CapabilityInput, RegistryError> {
    Ok(CapabilityInput {
        kind: capability_kind(message.kind)?,
        name: message.name,
        title: message.title,
        description: message.description,
        definition: message.definition_json,
    })
}

/// Takes a server's details apart; its name is read by whoever needs it.
pub(crate) fn server_input(message: proto::Server) -> Result<ServerInput, RegistryError> {
    let variable = |entry: proto::EnvEntry| EnvEntryInput {
        name: entry.name,
        kind: entry.r#type,
        description: entry.description,
        required: entry.required,
        secret: entry.secret,
        default: entry.default,
    };
    Ok(ServerInput {
        description: message.description,
        version: message.version,
        tags: message.tags,
        docker_image_url: message.docker_image_url,
        status: server_status(message.status)?,
        visibility: visibility("server.visibility", message.visibility)?,
        env_schema: EnvSchema::parse(message.env_schema.into_iter().map(variable).collect())?,
    })
}

pub(crate) fn endpoint_input(message: proto::Endpoint) -> Result<EndpointInput, RegistryError> {
    let member = |member: proto::EndpointMember| {
        Ok(MemberDraft {
            server_id: id("endpoint.members.server_id", &member.server_id)?,
            alias: Some(member.alias).filter(|alias| !alias.is_empty()),
            tools: member.tools,
            prompts: member.prompts,
            resources: member.resources,
        })
    };
    Ok(EndpointInput {
        name: message.name,
        description: message.description,
        visibility: visibility("endpoint.visibility", message.visibility)?,
        names: names(message.names)?,
        members: message.members.into_iter().map(member).collect::<Result<_, RegistryError>>()?,
    })
}

/// Reads a time to the microsecond, which is what both databases keep.
pub(crate) fn time(timestamp: &Timestamp) -> Option<DateTime<Utc>> {
    let time = DateTime::from_timestamp(timestamp.seconds, u32::try_from(timestamp.nanos).ok()?)?;
    // Before the year 1 or after 9999 there is no RFC 3339 to write it in.
    (1..=9999).contains(&time.year()).then(|| time.trunc_subsecs(6))
}

/// Takes a record of another service. Who reported it is not for the record to say.
pub(crate) fn audit_record(message: proto::AuditRecord, service: &str) -> Result<AuditRecord, RegistryError> {
    let occurred_at = message.occurred_at.as_ref().and_then(time);
    Ok(AuditRecord {
        id: id::<AuditId>("records.id", &message.id)?,
        occurred_at: occurred_at
            .ok_or_else(|| RegistryError::invalid("records.occurred_at", "is missing or no time"))?,
        service: service.to_owned(),
        principal: message.principal,
        client_id: message.client_id,
        action: message.action,
        target: message.target,
        name: message.name,
        outcome: message
            .outcome
            .parse()
            .map_err(|_| RegistryError::invalid("records.outcome", "is allowed, denied or failed"))?,
        reason: message.reason,
        correlation_id: message.correlation_id,
        trace_id: message.trace_id,
        duration_ms: message.duration_ms,
        request_bytes: message.request_bytes,
        response_bytes: message.response_bytes,
        peer: message.peer,
    })
}

/// Reads a name that is only looked up: whatever is no name cannot exist.
pub(crate) fn lookup_name(kind: &'static str, text: &str) -> Result<EndpointName, RegistryError> {
    EndpointName::parse(text).map_err(|_| RegistryError::NotFound { kind })
}
