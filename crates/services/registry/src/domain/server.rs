//! Server definitions: what a server is, before it runs anywhere.

use chrono::{DateTime, Utc};
use portico_ids::{EndpointName, PrincipalId, ServerId};

use super::env_schema::EnvSchema;
use super::names::{ServerStatus, Visibility, parse_name, parse_tags};
use super::text::{DESCRIPTION, LINE, bounded};
use crate::errors::RegistryError;

/// A server as stored (S4-18).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Server {
    pub(crate) id: ServerId,
    pub(crate) name: EndpointName,
    pub(crate) details: ServerDetails,
    pub(crate) owner: PrincipalId,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
    pub(crate) revision: i64,
}

/// What an owner may change about a server.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ServerDetails {
    pub(crate) description: String,
    pub(crate) version: String,
    pub(crate) tags: Vec<String>,
    pub(crate) docker_image_url: String,
    pub(crate) status: ServerStatus,
    pub(crate) visibility: Visibility,
    pub(crate) env_schema: EnvSchema,
}

/// What a caller sends for a server, before it is looked at.
#[derive(Debug, Clone)]
pub(crate) struct ServerInput {
    pub(crate) description: String,
    pub(crate) version: String,
    pub(crate) tags: Vec<String>,
    pub(crate) docker_image_url: String,
    pub(crate) status: Option<ServerStatus>,
    pub(crate) visibility: Option<Visibility>,
    pub(crate) env_schema: EnvSchema,
}

/// A server that may be created.
#[derive(Debug, Clone)]
pub(crate) struct ServerDraft {
    pub(crate) name: EndpointName,
    pub(crate) details: ServerDetails,
}

impl ServerDraft {
    /// Accepts a new server; private and enabled unless the caller says otherwise.
    pub(crate) fn parse(name: &str, input: ServerInput) -> Result<Self, RegistryError> {
        let details = ServerDetails {
            description: bounded("server.description", input.description, DESCRIPTION)?,
            version: bounded("server.version", input.version, LINE)?,
            tags: parse_tags(input.tags)?,
            docker_image_url: bounded("server.docker_image_url", input.docker_image_url, LINE)?,
            status: input.status.unwrap_or(ServerStatus::Enabled),
            visibility: input.visibility.unwrap_or(Visibility::Private),
            env_schema: input.env_schema,
        };
        Ok(Self { name: parse_name("server.name", name)?, details })
    }
}

/// Which details an update changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerField {
    Description,
    Version,
    Tags,
    DockerImageUrl,
    Status,
    Visibility,
    EnvSchema,
}

impl ServerField {
    /// Accepts a path of a field mask.
    pub(crate) fn parse(path: &str) -> Result<Self, RegistryError> {
        Ok(match path {
            "description" => Self::Description,
            "version" => Self::Version,
            "tags" => Self::Tags,
            "docker_image_url" => Self::DockerImageUrl,
            "status" => Self::Status,
            "visibility" => Self::Visibility,
            "env_schema" => Self::EnvSchema,
            "id" | "name" | "owner" | "revision" | "created_at" | "updated_at" => {
                return Err(RegistryError::ImmutableField { field: format!("server.{path}") });
            }
            _ => {
                return Err(RegistryError::invalid("update_mask", format!("a server has no field {path:?}")));
            }
        })
    }
}

impl ServerDetails {
    /// Takes the named fields from the caller's input and keeps the rest.
    pub(crate) fn with(mut self, input: ServerInput, fields: &[ServerField]) -> Result<Self, RegistryError> {
        let ServerInput { description, version, tags, docker_image_url, status, visibility, env_schema } =
            input;
        let unset = |field: &str| RegistryError::invalid(field, "is named by update_mask but not set");
        if fields.contains(&ServerField::Description) {
            self.description = bounded("server.description", description, DESCRIPTION)?;
        }
        if fields.contains(&ServerField::Version) {
            self.version = bounded("server.version", version, LINE)?;
        }
        if fields.contains(&ServerField::Tags) {
            self.tags = parse_tags(tags)?;
        }
        if fields.contains(&ServerField::DockerImageUrl) {
            self.docker_image_url = bounded("server.docker_image_url", docker_image_url, LINE)?;
        }
        if fields.contains(&ServerField::Status) {
            self.status = status.ok_or_else(|| unset("server.status"))?;
        }
        if fields.contains(&ServerField::Visibility) {
            self.visibility = visibility.ok_or_else(|| unset("server.visibility"))?;
        }
        if fields.contains(&ServerField::EnvSchema) {
            self.env_schema = env_schema;
        }
        Ok(self)
    }
}
