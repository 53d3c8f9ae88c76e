//! What is answered: the lists prepared at start-up, and the three tools.

use std::borrow::Cow;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::{STATELESS_VERSION, State};

/// What a request leads to.
pub(crate) enum Outcome {
    /// The `result` value.
    Result(String),
    /// The `result` value, due after a delay.
    Later(String, Duration),
    /// A JSON-RPC error.
    Error(i32, &'static str),
}

#[derive(Deserialize)]
struct CallParams<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    arguments: Arguments<'a>,
}

#[derive(Deserialize, Default)]
struct Arguments<'a> {
    /// Kept raw: echoed back as the JSON string it came as.
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    kib: Option<usize>,
    ms: Option<u64>,
}

#[derive(Deserialize)]
struct ListParams {
    cursor: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InitializeParams {
    protocol_version: String,
}

/// The text returned by `payload`: plain ASCII, without characters that JSON must escape.
fn pattern(kib: usize) -> String {
    // 64 characters
    const LINE: &str = "abcdefghijklmnopqrstuvwxyz0123456789 ABCDEFGHIJKLMNOPQRSTUVWXYZ.";
    LINE.repeat(kib * 1024 / LINE.len())
}

/// The answers to tools/list, prepared once; the cursor of a page is its number. Every entry has a description and an
/// input schema of an ordinary size (about 350 bytes), so that list sizes are realistic.
pub(crate) fn pages(extra: usize, page_size: usize) -> Vec<String> {
    let tool = |name: &str, arg: &str, kind: &str, text: &str| {
        json!({
            "name": name,
            "description": text,
            "inputSchema": {
                "type": "object",
                "properties": { arg: { "type": kind, "description": format!("the {arg} to use") } },
                "required": [arg],
                "additionalProperties": false
            }
        })
    };
    let mut tools = vec![
        tool("echo", "text", "string", "Returns the given text unchanged."),
        tool("payload", "kib", "integer", "Returns the given number of KiB of text."),
        tool("slow", "ms", "integer", "Answers after the given number of milliseconds."),
    ];
    tools.extend((0..extra).map(|i| {
        let text = format!(
            "Tool number {i}: returns the given text unchanged. It exists so that lists of tools of a given length can \
             be measured."
        );
        tool(&format!("tool_{i:04}"), "text", "string", &text)
    }));
    let size = if page_size == 0 { tools.len() } else { page_size };
    let pages = tools.len().div_ceil(size);
    let page = |(i, page): (usize, &[serde_json::Value])| {
        let mut list = json!({ "tools": page });
        if i + 1 < pages {
            list["nextCursor"] = json!((i + 1).to_string());
        }
        list.to_string()
    };
    tools.chunks(size).enumerate().map(page).collect()
}

fn text_result(json_string: &str) -> String {
    format!(r#"{{"content":[{{"type":"text","text":{json_string}}}],"isError":false}}"#)
}

fn call(params: Option<&RawValue>) -> Outcome {
    let Some(Ok(params)) = params.map(|raw| serde_json::from_str::<CallParams<'_>>(raw.get())) else {
        return Outcome::Error(-32602, "invalid params");
    };
    match &*params.name {
        "payload" => {
            let kib = params.arguments.kib.unwrap_or(1).min(65536);
            Outcome::Result(text_result(&format!("\"{}\"", pattern(kib))))
        }
        "slow" => {
            let ms = params.arguments.ms.unwrap_or(100).min(600_000);
            Outcome::Later(text_result(&format!("\"slept {ms} ms\"")), Duration::from_millis(ms))
        }
        name if name == "echo" || name.starts_with("tool_") => match params.arguments.text {
            Some(text) => Outcome::Result(text_result(text.get())),
            None => Outcome::Error(-32602, "argument text is missing"),
        },
        _ => Outcome::Error(-32602, "unknown tool"),
    }
}

fn list(state: &State, params: Option<&RawValue>) -> Outcome {
    let cursor = params.and_then(|raw| serde_json::from_str::<ListParams>(raw.get()).ok()?.cursor);
    let page = cursor.map_or(Some(0), |cursor| cursor.parse().ok());
    match page.and_then(|page: usize| state.tools_pages.get(page)) {
        Some(list) => Outcome::Result(list.clone()),
        None => Outcome::Error(-32602, "unknown cursor"),
    }
}

pub(crate) fn answer(state: &State, method: &str, params: Option<&RawValue>) -> Outcome {
    let server_info = json!({ "name": "echo-upstream", "version": env!("CARGO_PKG_VERSION") });
    match method {
        "tools/call" => call(params),
        "tools/list" => list(state, params),
        "ping" => Outcome::Result("{}".to_owned()),
        "initialize" => {
            let asked = params.and_then(|raw| serde_json::from_str::<InitializeParams>(raw.get()).ok());
            let version = asked.map_or_else(|| "2025-06-18".to_owned(), |params| params.protocol_version);
            let capabilities = json!({ "tools": { "listChanged": true }, "logging": {} });
            Outcome::Result(
                json!({ "protocolVersion": version, "capabilities": capabilities, "serverInfo": server_info })
                    .to_string(),
            )
        }
        "server/discover" => Outcome::Result(
            json!({
                "supportedVersions": [STATELESS_VERSION, "2025-11-25", "2025-06-18"],
                "capabilities": { "tools": { "listChanged": true } },
                "_meta": { "io.modelcontextprotocol/serverInfo": server_info },
                "ttlMs": 0,
                "cacheScope": "private",
            })
            .to_string(),
        ),
        _ => Outcome::Error(-32601, "method not found"),
    }
}
