//! What both eras answer alike, cut to the revision that asks.

use portico_mcp_types::{CallParams, Revision, method};
use serde_json::{Value, json};

use crate::json_rpc::RpcError;
use crate::{App, completion, prompts, resources, tools};

/// The revisions served, newest first.
pub(crate) const REVISIONS: [Revision; 4] =
    [Revision::V2026_07_28, Revision::V2025_11_25, Revision::V2025_06_18, Revision::V2025_03_26];

pub(crate) const INSTRUCTIONS: &str = "A demo server: time zones (time_now, time_convert), units (unit_convert), a \
    countdown that reports progress, and book_table, which asks the user for what it needs to know.";

/// How long a list stays fresh: it changes with the program only.
const LIST_TTL_MS: u64 = 3_600_000;

pub(crate) fn server_info(revision: Revision) -> Value {
    let mut info = json!({ "name": "portico-demo", "version": env!("CARGO_PKG_VERSION") });
    if revision >= Revision::V2025_06_18 {
        info["title"] = json!("Portico demo server");
    }
    info
}

pub(crate) fn capabilities() -> Value {
    json!({ "tools": {}, "prompts": {}, "resources": { "subscribe": true }, "completions": {} })
}

pub(crate) fn supported_versions() -> Vec<&'static str> {
    REVISIONS.iter().map(|revision| revision.as_str()).collect()
}

/// Answers a request that needs no stream and no session.
pub(crate) fn answer(
    app: &App,
    revision: Revision,
    method: &str,
    params: &CallParams<'_>,
) -> Result<Value, RpcError> {
    let value =
        || params.raw.map_or(Ok(Value::Null), |raw| serde_json::from_str(raw.get())).map_err(RpcError::from);
    let mut result = match method {
        method::TOOLS_LIST => listed(params, tools::list(revision))?,
        method::PROMPTS_LIST => listed(params, prompts::list())?,
        method::RESOURCES_LIST => listed(params, resources::list())?,
        method::RESOURCE_TEMPLATES_LIST => listed(params, resources::templates())?,
        method::RESOURCES_READ => resources::read(app, revision, &params.uri()?)?,
        method::PROMPTS_GET => prompts::get(&value()?)?,
        method::COMPLETE => completion::complete(&value()?)?,
        _ => return Err(RpcError::method_not_found(method)),
    };
    if revision < Revision::V2025_06_18 {
        drop_titles(&mut result);
    }
    if revision.is_stateless() {
        // Bookings change, everything else is the same for everybody (2026-07-28, Caching).
        let ttl = match method {
            method::RESOURCES_READ => Some(0),
            method::PROMPTS_GET | method::COMPLETE => None,
            _ => Some(LIST_TTL_MS),
        };
        if let Some(ttl) = ttl {
            result["ttlMs"] = json!(ttl);
            result["cacheScope"] = json!("public");
        }
    }
    Ok(result)
}

/// `server/discover` (2026-07-28).
pub(crate) fn discover() -> Value {
    json!({
        "supportedVersions": supported_versions(),
        "capabilities": capabilities(),
        "instructions": INSTRUCTIONS,
        "ttlMs": LIST_TTL_MS,
        "cacheScope": "public",
    })
}

/// Every list fits one page, so no cursor was ever handed out.
fn listed(params: &CallParams<'_>, list: Value) -> Result<Value, RpcError> {
    match params.cursor()? {
        Some(_) => Err(RpcError::invalid_params("this cursor was not made by this server")),
        None => Ok(list),
    }
}

/// `title` is younger than 2025-03-26.
fn drop_titles(result: &mut Value) {
    for list in ["tools", "prompts", "resources", "resourceTemplates"] {
        for entry in result.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            entry.as_object_mut().map(|entry| entry.remove("title"));
        }
    }
}
