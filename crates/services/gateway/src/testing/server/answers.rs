//! What the server answers to what it keeps nothing for.

use std::time::Duration;

use axum::response::Response;
use futures_util::stream;
use http::StatusCode;
use serde_json::Value;

use super::{json, sse};

/// Knows the tasks `t-1` and `t-2`, and tells everyone of both.
pub(super) fn task(message: &Value, id: &str) -> Response {
    let method = message["method"].as_str().unwrap_or("");
    let task = message["params"]["taskId"].as_str().unwrap_or("");
    let answer = match (method, task) {
        ("tasks/list", _) => {
            r#""result":{"tasks":[{"taskId":"t-1","n":1.10},{"taskId":"t-2"}],"nextCursor":"more"}"#
                .to_owned()
        }
        ("tasks/result", "t-1") => {
            r#""result":{"content":[],"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"t-1"}}}"#
                .to_owned()
        }
        (_, "t-1") => r#""result":{"taskId":"t-1","status":"completed"}"#.to_owned(),
        _ => r#""error":{"code":-32602,"message":"no such task"}"#.to_owned(),
    };
    json(StatusCode::OK, format!(r#"{{"jsonrpc":"2.0","id":{id},{answer}}}"#))
}

pub(super) fn ask_stateless(message: &Value, id: &str) -> Response {
    let result = match message["params"]["requestState"].as_str() {
        None => r#"{"resultType":"input_required","requestState":"server-state"}"#.to_owned(),
        Some(state) => format!(r#"{{"resultType":"complete","got":"{state}"}}"#),
    };
    json(StatusCode::OK, format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#))
}

/// Says again and again that the answer will come.
pub(super) fn endless() -> Response {
    sse(stream::unfold((), async |()| {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Some((": soon\n\n".to_owned(), ()))
    }))
}
