//! What the worker has to know of an instance: its `json_spec`, parsed.

use std::time::Duration;

use http::Uri;
use portico_ids::{InstanceId, ServerId};
use portico_proto_events as events;
use portico_proto_registry as registry;
use prost_types::Struct;
use prost_types::value::Kind;
use url::Url;

use crate::settings::WorkerSettings;

/// What stands before a reference where a value could stand too.
const SECRET_PREFIX: &str = "secret_ref:";
/// Bounds of every duration in a document, in seconds.
const SECONDS: std::ops::RangeInclusive<f64> = 0.1..=3600.0;

/// One instance at one revision.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Spec {
    pub(crate) instance: InstanceId,
    pub(crate) server: ServerId,
    /// For the log.
    pub(crate) server_name: String,
    pub(crate) revision: i64,
    pub(crate) endpoint: Uri,
    /// Reference of the bearer credential, without its prefix.
    pub(crate) secret: Option<String>,
    /// What the owner lets a request take.
    pub(crate) timeout: Option<Duration>,
    pub(crate) check: Check,
}

/// How the health of an instance is found out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Check {
    /// What to GET; nothing: the server is spoken to by MCP.
    pub(crate) url: Option<Uri>,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    /// Failures in a row that make it unhealthy.
    pub(crate) retries: u32,
}

/// A spec that this worker cannot act on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidSpec {
    #[error("the event or row has no spec")]
    Missing,
    #[error("{0} is not an id")]
    Id(&'static str),
    #[error("json_spec.type is not \"url\": this worker knows no other provider")]
    Provider,
    #[error("json_spec.{0} cannot be used")]
    Field(&'static str),
}

/// The parts of a spec as both protos have them.
struct Parts {
    instance_id: String,
    server_id: String,
    server_name: String,
    json_spec: Option<Struct>,
    revision: i64,
}

impl Spec {
    /// Reads the spec that an event carries; it stands at the event's revision.
    pub(crate) fn of_event(
        spec: Option<events::InstanceSpec>,
        revision: i64,
        settings: &WorkerSettings,
    ) -> Result<Self, InvalidSpec> {
        let spec = spec.ok_or(InvalidSpec::Missing)?;
        let events::InstanceSpec { instance_id, server_id, server_name, json_spec } = spec;
        Self::parse(Parts { instance_id, server_id, server_name, json_spec, revision }, settings)
    }

    /// Reads a row of the registry's list.
    pub(crate) fn of_row(
        spec: registry::InstanceSpec,
        settings: &WorkerSettings,
    ) -> Result<Self, InvalidSpec> {
        let registry::InstanceSpec { instance_id, server_id, server_name, json_spec, revision } = spec;
        Self::parse(Parts { instance_id, server_id, server_name, json_spec, revision }, settings)
    }

    fn parse(parts: Parts, settings: &WorkerSettings) -> Result<Self, InvalidSpec> {
        let instance = parts.instance_id.parse().map_err(|_| InvalidSpec::Id("instance_id"))?;
        let server = parts.server_id.parse().map_err(|_| InvalidSpec::Id("server_id"))?;
        let document = parts.json_spec.ok_or(InvalidSpec::Missing)?;
        if text(&document, "type") != Some("url") {
            return Err(InvalidSpec::Provider);
        }
        let endpoint = text(&document, "endpoint")
            .and_then(|endpoint| Url::parse(endpoint).ok())
            .ok_or(InvalidSpec::Field("endpoint"))?;
        let secret = match member(&document, "authentication") {
            None | Some(Kind::NullValue(_)) => None,
            Some(Kind::StructValue(authentication)) => Some(secret_of(authentication)?),
            Some(_) => return Err(InvalidSpec::Field("authentication")),
        };
        Ok(Self {
            instance,
            server,
            server_name: parts.server_name,
            revision: parts.revision,
            secret,
            timeout: seconds(&document, "timeout")?,
            check: Check::parse(&document, &endpoint, settings)?,
            endpoint: uri(&endpoint).ok_or(InvalidSpec::Field("endpoint"))?,
        })
    }
}

impl Check {
    /// Reads `health_check`: a path, or an object of path, interval, timeout and retries.
    fn parse(document: &Struct, endpoint: &Url, settings: &WorkerSettings) -> Result<Self, InvalidSpec> {
        let mut check = Self {
            url: None,
            interval: Duration::from_millis(settings.probe_interval_ms),
            timeout: Duration::from_millis(settings.probe_timeout_ms),
            retries: settings.probe_retries,
        };
        let path = match member(document, "health_check") {
            None | Some(Kind::NullValue(_)) => None,
            Some(Kind::StringValue(path)) => Some(path.as_str()),
            Some(Kind::StructValue(given)) => {
                check.interval = seconds(given, "interval")?.unwrap_or(check.interval);
                check.timeout = seconds(given, "timeout")?.unwrap_or(check.timeout);
                check.retries = retries(given)?.unwrap_or(check.retries);
                text(given, "path")
            }
            Some(_) => return Err(InvalidSpec::Field("health_check")),
        };
        if let Some(path) = path {
            // Another origin would make the worker a scanner of whatever the owner names.
            let url = endpoint.join(path).ok().filter(|url| {
                url.origin() == endpoint.origin() && url.username().is_empty() && url.password().is_none()
            });
            check.url = Some(url.as_ref().and_then(uri).ok_or(InvalidSpec::Field("health_check"))?);
        }
        Ok(check)
    }
}

fn secret_of(authentication: &Struct) -> Result<String, InvalidSpec> {
    let reference = text(authentication, "token").and_then(|token| token.strip_prefix(SECRET_PREFIX));
    match (text(authentication, "type"), reference) {
        (Some("bearer"), Some(reference)) => Ok(reference.to_owned()),
        _ => Err(InvalidSpec::Field("authentication")),
    }
}

fn member<'a>(document: &'a Struct, name: &str) -> Option<&'a Kind> {
    document.fields.get(name)?.kind.as_ref()
}

fn text<'a>(document: &'a Struct, name: &str) -> Option<&'a str> {
    match member(document, name) {
        Some(Kind::StringValue(text)) => Some(text),
        _ => None,
    }
}

fn number(document: &Struct, name: &'static str) -> Result<Option<f64>, InvalidSpec> {
    match member(document, name) {
        None | Some(Kind::NullValue(_)) => Ok(None),
        Some(Kind::NumberValue(number)) => Ok(Some(*number)),
        Some(_) => Err(InvalidSpec::Field(name)),
    }
}

fn seconds(document: &Struct, name: &'static str) -> Result<Option<Duration>, InvalidSpec> {
    match number(document, name)? {
        None => Ok(None),
        Some(value) if SECONDS.contains(&value) => Ok(Some(Duration::from_secs_f64(value))),
        Some(_) => Err(InvalidSpec::Field(name)),
    }
}

fn retries(document: &Struct) -> Result<Option<u32>, InvalidSpec> {
    match number(document, "retries")? {
        None => Ok(None),
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "whole and between 1 and 100"
        )]
        Some(value) if (1.0..=100.0).contains(&value) && value.fract() == 0.0 => Ok(Some(value as u32)),
        Some(_) => Err(InvalidSpec::Field("retries")),
    }
}

/// Fragments are never sent (RFC 9110 §7.1); `Uri` has none.
fn uri(url: &Url) -> Option<Uri> {
    Uri::try_from(url.as_str()).ok()
}

#[cfg(test)]
mod tests;
