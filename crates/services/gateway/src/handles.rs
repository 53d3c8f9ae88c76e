//! What a server mints and an agent brings back travels sealed: bound to caller, endpoint and server, and in time.

mod tasks;

pub(crate) use tasks::{TaskIds, is_about_tasks, names_a_task};

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::Duration;
use moka::sync::Cache;
use portico_clock::SharedClock;
use portico_ids::ServerId;
use portico_mcp_types::{CallParams, Object};
use portico_sealing::HandleSealer;
use serde_json::value::RawValue;

use crate::access::Agent;
use crate::refusal::{Reason, Refusal};
use crate::replicas::News;

/// How long a cursor or request state may be brought back.
const LIFETIME: Duration = Duration::hours(1);
/// The same for the id of a task, which its server gives up when it wants to.
const TASK_LIFETIME: Duration = Duration::days(30);
/// Most tasks whose sealed ids are remembered, and for how long after their last use.
const MAX_TASKS: u64 = 100_000;
const TASK_IDLE: std::time::Duration = std::time::Duration::from_hours(24);

/// Seals and opens handles.
#[derive(Debug, Clone)]
pub(crate) struct Handles {
    sealer: HandleSealer,
    clock: SharedClock,
    /// The ids under which callers know their tasks, by [`Bound::of_value`].
    tasks: Cache<String, Arc<str>>,
    news: News,
}

/// What a handle is for; a cursor is no request state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handle {
    Cursor,
    RequestState,
    Task,
}

impl Handle {
    fn kind(self) -> &'static str {
        match self {
            Self::Cursor => "cursor",
            Self::RequestState => "request_state",
            Self::Task => "task",
        }
    }

    fn lifetime(self) -> Duration {
        match self {
            Self::Cursor | Self::RequestState => LIFETIME,
            Self::Task => TASK_LIFETIME,
        }
    }
}

/// Whom and what a handle is bound to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound<'a> {
    pub(crate) subject: &'a str,
    pub(crate) client: &'a str,
    pub(crate) endpoint: &'a str,
    /// [`list_key`] of a list or of tasks, or [`request_digest`] of a call.
    pub(crate) request: &'a str,
}

impl<'a> Bound<'a> {
    pub(crate) fn new(agent: &'a Agent, request: &'a str) -> Self {
        Self {
            subject: &agent.subject,
            client: &agent.principal.client_id,
            endpoint: agent.place.id(),
            request,
        }
    }

    fn associated_data(&self) -> Vec<u8> {
        self.framed().into_bytes()
    }

    fn framed(&self) -> String {
        [self.subject, self.client, self.endpoint, self.request].map(framed).concat()
    }

    /// Names a value that is bound so.
    fn of_value(&self, value: &str) -> String {
        self.framed() + value
    }
}

/// Its length keeps ("a", "bc") and ("ab", "c") apart.
fn framed(part: &str) -> String {
    format!("{}:{part}", part.len())
}

impl Handles {
    pub(crate) fn new(sealer: HandleSealer, clock: SharedClock, news: News) -> Self {
        let tasks = Cache::builder().max_capacity(MAX_TASKS).time_to_idle(TASK_IDLE).build();
        Self { sealer, clock, tasks, news }
    }

    /// Takes in under which name a caller knows a task that it met at another replica.
    pub(crate) fn learn(&self, key: String, sealed: &str) {
        self.tasks.insert(key, sealed.into());
    }

    /// What the agent gets in the place of `value`.
    pub(crate) fn seal(&self, handle: Handle, bound: &Bound<'_>, value: &str) -> String {
        let until = (self.clock.now() + handle.lifetime()).timestamp();
        let mut payload = until.to_be_bytes().to_vec();
        payload.extend_from_slice(value.as_bytes());
        self.sealer.seal(handle.kind(), &bound.associated_data(), &payload)
    }

    /// What the server minted; a foreign or late handle looks like an unknown one.
    pub(crate) fn open(&self, handle: Handle, bound: &Bound<'_>, sealed: &str) -> Result<String, Refusal> {
        self.try_open(handle, bound, sealed).ok_or_else(|| {
            Refusal::new(
                Reason::UnknownHandle,
                match handle {
                    Handle::Cursor => "this cursor is not known here; list again from the start",
                    Handle::RequestState => {
                        "this requestState is not known for this request; send the call anew"
                    }
                    Handle::Task => "there is no such task; it may have ended long ago",
                },
            )
        })
    }

    fn try_open(&self, handle: Handle, bound: &Bound<'_>, sealed: &str) -> Option<String> {
        let payload = self.sealer.open(handle.kind(), &bound.associated_data(), sealed)?;
        let (until, value) = payload.split_first_chunk::<8>()?;
        if i64::from_be_bytes(*until) < self.clock.now().timestamp() {
            return None;
        }
        String::from_utf8(value.to_vec()).ok()
    }
}

/// Writes JSON with sorted keys and without spaces.
///
/// Numbers stay as they are written. `None` if a key stands twice: two readers could see two values.
fn write_canonical(json: &str, out: &mut String) -> Option<()> {
    match json.as_bytes().first()? {
        b'{' => {
            let object = Object::parse(json, "value").ok()?;
            let sorted: BTreeMap<&str, &RawValue> = object.iter().collect();
            out.push('{');
            for (key, member) in sorted {
                write_text(key, out);
                out.push(':');
                write_canonical(member.get(), out)?;
                out.push(',');
            }
            out.push('}');
        }
        b'[' => {
            out.push('[');
            for item in serde_json::from_str::<Vec<&RawValue>>(json).ok()? {
                write_canonical(item.get(), out)?;
                out.push(',');
            }
            out.push(']');
        }
        b'"' => write_text(&serde_json::from_str::<Cow<'_, str>>(json).ok()?, out),
        _ => out.push_str(json),
    }
    Some(())
}

fn write_text(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

/// What makes a list this list.
pub(crate) fn list_key(server: ServerId, method: &str) -> String {
    format!("{server} {method}")
}

/// Digest of what makes a call this call: server, method, name or URI, and arguments (2026-07-28, MRTR, Server
/// Requirements).
///
/// Arguments count by their values: a client may write its retry with other spaces or key order.
pub(crate) fn request_digest(server: ServerId, method: &str, params: &CallParams<'_>) -> String {
    let raw = |key: &str| params.get(key).map_or("", RawValue::get);
    let arguments = params.arguments().map_or("", RawValue::get);
    let mut canonical = String::with_capacity(arguments.len());
    let arguments = match write_canonical(arguments, &mut canonical) {
        Some(()) => canonical.as_str(),
        None => arguments,
    };
    let parts = [server.to_string().as_str(), method, raw("name"), raw("uri"), arguments].map(framed);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, parts.concat().as_bytes());
    URL_SAFE_NO_PAD.encode(digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::testing::server_id;
    use portico_mcp_types::Envelope;

    fn digest(method: &str, params: &str) -> String {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        let envelope = Envelope::parse(body.as_bytes()).unwrap();
        request_digest(server_id(1), method, &CallParams::parse(envelope.params).unwrap())
    }

    #[test]
    fn rs_31_a_late_or_foreign_handle_is_unknown() {
        let clock = portico_clock::MockClock::at(chrono::DateTime::from_timestamp(1_790_000_000, 0).unwrap());
        let dir = tempfile::tempdir().unwrap();
        let rng: portico_ids::SharedRng = std::sync::Arc::new(portico_ids::SeededRng::new(3));
        let keys = portico_sealing::KeyRing::generate_file(&dir.path().join("keys"), &*rng).unwrap();
        let handles =
            Handles::new(HandleSealer::new(&keys, rng), std::sync::Arc::new(clock.clone()), News::default());
        let bound = Bound { subject: "user:a", client: "c", endpoint: "e", request: "tools/list" };
        let sealed = handles.seal(Handle::Cursor, &bound, "page 2");
        assert_eq!(handles.open(Handle::Cursor, &bound, &sealed).unwrap(), "page 2");
        for other in [
            Bound { subject: "user:b", ..bound },
            Bound { client: "d", ..bound },
            Bound { endpoint: "f", ..bound },
            Bound { request: "prompts/list", ..bound },
            Bound { subject: "user:ac", client: "", ..bound },
        ] {
            assert!(handles.open(Handle::Cursor, &other, &sealed).is_err(), "{other:?}");
        }
        assert!(handles.open(Handle::RequestState, &bound, &sealed).is_err());
        clock.advance(LIFETIME + Duration::seconds(1));
        assert!(handles.open(Handle::Cursor, &bound, &sealed).is_err());
    }

    #[test]
    fn the_digest_follows_values_and_not_spelling() {
        let one = digest("tools/call", r#"{"name":"a","arguments":{"x":1,"y":[{"b":1,"a":"\u0061"}]}}"#);
        let same = digest(
            "tools/call",
            r#"{"arguments":{ "y":[{"a":"a","b":1}],"x":1},"name":"a","requestState":"s"}"#,
        );
        assert_eq!(one, same);
        for (method, params) in [
            ("prompts/get", r#"{"name":"a","arguments":{"x":1,"y":[{"b":1,"a":"a"}]}}"#),
            ("tools/call", r#"{"name":"b","arguments":{"x":1,"y":[{"b":1,"a":"a"}]}}"#),
            ("tools/call", r#"{"name":"a","arguments":{"x":2,"y":[{"b":1,"a":"a"}]}}"#),
            ("tools/call", r#"{"name":"a"}"#),
        ] {
            assert_ne!(one, digest(method, params), "{method} {params}");
        }
    }

    #[test]
    fn rs_31_what_a_server_could_read_in_two_ways_has_a_digest_of_its_own() {
        let approved = digest("tools/call", r#"{"name":"a","arguments":{"x":1}}"#);
        assert_ne!(approved, digest("tools/call", r#"{"name":"a","arguments":{"x":9,"x":1}}"#));
        let large = |last: u8| format!(r#"{{"name":"a","arguments":{{"x":1844674407370955161{last}}}}}"#);
        assert_ne!(digest("tools/call", &large(7)), digest("tools/call", &large(8)));
        let read = |uri: &str| digest("resources/read", &format!(r#"{{"name":"same","uri":"{uri}"}}"#));
        assert_ne!(read("file:///a"), read("file:///b"));
    }
}
