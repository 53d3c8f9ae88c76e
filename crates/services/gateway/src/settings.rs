use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

/// Settings of the gateway.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GatewaySettings {
    /// Origin that agents use, exact: scheme, host and port, no path. A request for another host gets 421.
    #[schemars(with = "String")]
    pub public_origin: Url,
    /// Browser origins that may call besides the public origin, e.g. `https://inspector.example.org`.
    pub allowed_origins: Vec<String>,
    /// Whether pages served from a loopback address may call. Only for `portico dev`.
    pub allow_loopback_origins: bool,
    /// Directory of the audit spool and of the last catalogue.
    pub data_dir: PathBuf,
    pub requests: RequestSettings,
    pub limits: LimitSettings,
    pub sessions: SessionSettings,
    pub upstream: UpstreamSettings,
    pub audit: AuditSettings,
}

/// What a request may look like.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RequestSettings {
    /// Largest body in bytes.
    pub max_body_bytes: usize,
    /// Milliseconds that an agent may take to send its body.
    pub body_timeout_ms: u64,
}

/// Token buckets.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// Calls per minute and principal.
    pub principal_per_minute: u32,
    /// Calls that one principal may make at once.
    pub principal_burst: u32,
    /// Calls and streams that one principal may have open at the same time.
    pub principal_open: u32,
    /// Calls that are served at the same time, of everybody; further ones get 503 with `Retry-After`.
    pub open_calls: u32,
    /// How many of these places only requests with a token get.
    pub open_calls_reserve: u32,
    /// GET and listen streams that are open at the same time, of everybody.
    pub open_streams: u32,
    /// Seconds that an agent may leave a stream unread before it is dropped.
    pub slow_reader_seconds: u64,
    /// Calls per minute, all principals together.
    pub global_per_minute: u32,
    /// Calls at once, all principals together.
    pub global_burst: u32,
    /// Audit records per minute of callers that nobody knows, and of each other one that is turned away at the door; further
    /// ones are only counted.
    pub anonymous_records_per_minute: u32,
}

/// Sessions of agents up to revision 2025-11-25.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SessionSettings {
    /// Seconds without a call after which a session ends.
    pub idle_seconds: u64,
    /// Sessions of one principal on one gateway; with more the oldest end. They share 2 KiB of memory each.
    pub per_principal: u32,
    /// Largest `initialize` params that a session remembers.
    pub max_initialize_bytes: usize,
}

/// How servers are called.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamSettings {
    /// Milliseconds until an answer must have begun, for instances that set no timeout of their own.
    pub answer_timeout_ms: u64,
    /// Milliseconds that a begun answer may be silent.
    pub idle_timeout_ms: u64,
    /// Bytes of a JSON answer that are held back so that a broken one becomes an error; larger ones stream.
    pub inspect_bytes: usize,
    /// Largest single event of a stream.
    pub max_event_bytes: usize,
    /// Milliseconds a member of a virtual server may take for its part of a merged list.
    pub list_timeout_ms: u64,
    /// Bytes of memory for lists of members of virtual servers.
    pub list_cache_bytes: u64,
}

/// The record of calls.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuditSettings {
    /// Largest size of the spool on disk.
    pub spool_bytes: u64,
    /// What happens to calls when the spool is full.
    pub on_full: OnFull,
}

/// What a full spool does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFull {
    /// Calls that may change something are refused; records of others are dropped and counted.
    Refuse,
    /// Records are dropped and counted.
    DropAndCount,
}

impl Default for GatewaySettings {
    fn default() -> Self {
        Self {
            public_origin: default_origin(),
            allowed_origins: Vec::new(),
            allow_loopback_origins: false,
            data_dir: PathBuf::from("."),
            requests: RequestSettings::default(),
            limits: LimitSettings::default(),
            sessions: SessionSettings::default(),
            upstream: UpstreamSettings::default(),
            audit: AuditSettings::default(),
        }
    }
}

#[expect(clippy::expect_used, reason = "the literal is a valid URL, as a test shows")]
fn default_origin() -> Url {
    Url::parse("http://127.0.0.1:8080").expect("a valid URL")
}

impl Default for RequestSettings {
    fn default() -> Self {
        Self { max_body_bytes: 4 * 1024 * 1024, body_timeout_ms: 10_000 }
    }
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            principal_per_minute: 6_000,
            principal_burst: 1_000,
            principal_open: 4_000,
            open_calls: 8_192,
            open_calls_reserve: 1_024,
            open_streams: 50_000,
            slow_reader_seconds: 30,
            global_per_minute: 600_000,
            global_burst: 20_000,
            anonymous_records_per_minute: 600,
        }
    }
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self { idle_seconds: 3_600, per_principal: 10_000, max_initialize_bytes: 64 * 1024 }
    }
}

impl Default for UpstreamSettings {
    fn default() -> Self {
        Self {
            answer_timeout_ms: 60_000,
            idle_timeout_ms: 300_000,
            inspect_bytes: 256 * 1024,
            max_event_bytes: 16 * 1024 * 1024,
            list_timeout_ms: 3_000,
            list_cache_bytes: 64 * 1024 * 1024,
        }
    }
}

impl Default for AuditSettings {
    fn default() -> Self {
        Self { spool_bytes: 256 * 1024 * 1024, on_full: OnFull::Refuse }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_survive_a_round_trip_and_unknown_keys_do_not() {
        let json = serde_json::to_value(GatewaySettings::default()).unwrap();
        assert_eq!(json["public_origin"], "http://127.0.0.1:8080/");
        assert!(serde_json::from_value::<GatewaySettings>(json).is_ok());
        assert!(serde_json::from_str::<GatewaySettings>(r#"{"audit":{"spool":1}}"#).is_err());
    }
}
