//! What an upstream answers to each method and tool.

use std::sync::Arc;

use ::http::{HeaderMap, StatusCode};
use axum::Json;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Era, Frame, Server, event, streamed};
use crate::mcp::{SESSION_ERA, STATELESS_ERA};

/// Tools, in the order of the list.
pub(super) const TOOLS: [&str; 13] = [
    "echo", "headers", "progress", "ask", "sample", "slow", "html", "cut", "cut_json", "endless", "number",
    "polling", "fail",
];
const PAGE: usize = 5;

pub(super) async fn reply(server: &Arc<Server>, headers: &HeaderMap, message: &Value) -> Response {
    let (id, params) = (&message["id"], &message["params"]);
    let method = message["method"].as_str().unwrap_or_default();
    if method == "tools/call" {
        return call(server, headers, id, params).await;
    }
    if method == "initialize" && server.era == Era::Session {
        return initialize(server, id, params);
    }
    if method == "subscriptions/listen" && server.era == Era::Stateless {
        return listen(server, id);
    }
    match result(server.era, method, params) {
        Ok(mut result) => {
            if server.era == Era::Stateless {
                result["resultType"] = json!("complete");
                if method != "completion/complete" && method != "prompts/get" {
                    result["ttlMs"] = json!(0);
                    result["cacheScope"] = json!("private");
                }
            }
            Json(json!({ "jsonrpc": "2.0", "id": id, "result": result })).into_response()
        }
        Err(error) => {
            let status = if server.era == Era::Stateless { StatusCode::NOT_FOUND } else { StatusCode::OK };
            (status, Json(json!({ "jsonrpc": "2.0", "id": id, "error": error }))).into_response()
        }
    }
}

fn initialize(server: &Server, id: &Value, params: &Value) -> Response {
    let wanted = params["protocolVersion"].as_str().unwrap_or(SESSION_ERA);
    let version = if wanted > SESSION_ERA { SESSION_ERA } else { wanted };
    let result = json!({
        "protocolVersion": version, "capabilities": capabilities(),
        "serverInfo": { "name": "fixture", "version": "1" }, "instructions": "Call echo.",
    });
    let session = server.open();
    ([("mcp-session-id", session)], Json(json!({ "jsonrpc": "2.0", "id": id, "result": result })))
        .into_response()
}

fn capabilities() -> Value {
    json!({
        "tools": { "listChanged": true }, "prompts": {}, "completions": {}, "logging": {},
        "resources": { "subscribe": true, "listChanged": true },
    })
}

fn result(era: Era, method: &str, params: &Value) -> Result<Value, Value> {
    Ok(match method {
        "server/discover" if era == Era::Stateless => json!({
            "supportedVersions": [STATELESS_ERA], "capabilities": capabilities(),
            "serverInfo": { "name": "fixture", "version": "1" },
        }),
        "ping" if era == Era::Session => json!({}),
        "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe" if era == Era::Session => {
            json!({})
        }
        "tools/list" => return tools(params),
        "prompts/list" => json!({ "prompts": [{ "name": "greet", "arguments": [{ "name": "city" }] }] }),
        "prompts/get" => json!({
            "messages": [{ "role": "user", "content": { "type": "text", "text": "Greet." } }],
        }),
        "completion/complete" => {
            let typed = params["argument"]["value"].as_str().unwrap_or_default();
            json!({ "completion": { "values": [format!("{typed}erlin")], "hasMore": false } })
        }
        "resources/list" => json!({ "resources": [{ "uri": "note://1", "name": "one" }] }),
        "resources/templates/list" => {
            json!({ "resourceTemplates": [{ "uriTemplate": "note://{id}", "name": "note" }] })
        }
        "resources/read" => json!({ "contents": [{ "uri": params["uri"], "text": "A note." }] }),
        _ => return Err(json!({ "code": -32601, "message": "no such method" })),
    })
}

fn tools(params: &Value) -> Result<Value, Value> {
    let begin = match params["cursor"].as_str() {
        None => 0,
        Some(cursor) => {
            let begin = cursor.strip_prefix("from-").and_then(|from| from.parse().ok());
            begin.ok_or_else(|| json!({ "code": -32602, "message": "a bad cursor" }))?
        }
    };
    let tool = |name: &&str| json!({ "name": name, "inputSchema": { "type": "object" } });
    let end = TOOLS.len().min(begin + PAGE);
    let mut list = json!({ "tools": TOOLS[begin..end].iter().map(tool).collect::<Vec<_>>() });
    if end < TOOLS.len() {
        list["nextCursor"] = json!(format!("from-{end}"));
    }
    Ok(list)
}

fn listen(server: &Arc<Server>, id: &Value) -> Response {
    let (to, frames) = mpsc::channel(8);
    let (server, id) = (Arc::clone(server), id.clone());
    background(async move {
        let meta = json!({ "io.modelcontextprotocol/subscriptionId": id });
        let acknowledged = json!({
            "jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged",
            "params": { "_meta": meta, "notifications": { "toolsListChanged": true } },
        });
        let mut news = server.news.subscribe();
        let _ = to.send(event(None, &acknowledged)).await;
        let story = async {
            while let Ok(mut message) = news.recv().await {
                message["params"]["_meta"] = meta.clone();
                let _ = to.send(event(None, &message)).await;
            }
        };
        told(&server, &to, story).await;
    });
    streamed(frames)
}

async fn call(server: &Arc<Server>, headers: &HeaderMap, id: &Value, params: &Value) -> Response {
    let arguments = &params["arguments"];
    let done =
        |content: Value| Json(json!({ "jsonrpc": "2.0", "id": id, "result": content })).into_response();
    match params["name"].as_str().unwrap_or_default() {
        "echo" => done(content(&arguments.to_string(), arguments)),
        // Digits that a float would lose.
        "number" => {
            let text = format!(
                r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[],"structuredContent":{{"big":12345678901234567890123,"small":1.10}},"resultType":"complete","x-unknown":{{"z":1,"a":2}}}}}}"#
            );
            ([("content-type", "application/json")], text).into_response()
        }
        "headers" => {
            let seen: Value = headers
                .iter()
                .map(|(name, value)| (name.to_string(), json!(String::from_utf8_lossy(value.as_bytes()))))
                .collect::<serde_json::Map<_, _>>()
                .into();
            let mut answer = done(content("headers", &seen));
            answer.headers_mut().insert("set-cookie", "upstream=1".parse().unwrap());
            answer.headers_mut().insert("access-control-allow-origin", "*".parse().unwrap());
            answer
        }
        "slow" => {
            server.gate().await;
            done(content("at last", &json!({})))
        }
        "html" => ([("content-type", "text/html")], "<h1>Not MCP</h1>").into_response(),
        "cut_json" => {
            let (to, frames) = mpsc::channel::<Frame>(2);
            let _ = to.send(Ok(r#"{"jsonrpc":"2.0","id":"#.into())).await;
            let _ = to.send(Err(std::io::Error::other("cut"))).await;
            (
                [("content-type", "application/json")],
                axum::body::Body::from_stream(tokio_stream::wrappers::ReceiverStream::new(frames)),
            )
                .into_response()
        }
        "fail" => {
            let result = json!({ "content": [{ "type": "text", "text": "it failed" }], "isError": true });
            done(result)
        }
        "ask" if server.era == Era::Stateless => Json(stateless_ask(id, params)).into_response(),
        tool @ ("progress" | "ask" | "sample" | "cut" | "polling" | "endless") => {
            let (to, frames) = mpsc::channel(8);
            let (server, tool) = (Arc::clone(server), tool.to_owned());
            let (id, params) = (id.clone(), params.clone());
            background(async move { told(&server, &to, story(&server, &tool, (&id, &params), &to)).await });
            streamed(frames)
        }
        name => {
            let error = json!({ "code": -32602, "message": format!("Unknown tool: {name}") });
            Json(json!({ "jsonrpc": "2.0", "id": id, "error": error })).into_response()
        }
    }
}

fn stateless_ask(id: &Value, params: &Value) -> Value {
    let result = match params["inputResponses"]["form"].as_object() {
        None => json!({
            "resultType": "input_required", "requestState": "state-of-the-upstream",
            "inputRequests": { "form": { "method": "elicitation/create", "params": form() } },
        }),
        Some(_) if params["requestState"] != "state-of-the-upstream" => {
            return json!({ "jsonrpc": "2.0", "id": id, "error": { "code": -32602, "message": "a foreign state" } });
        }
        Some(reply) => content("answered", &json!(reply)),
    };
    json!({ "jsonrpc": "2.0", "id": id, "result": result })
}

fn form() -> Value {
    json!({
        "mode": "form", "message": "Which colour?",
        "requestedSchema": { "type": "object", "properties": { "colour": { "type": "string" } } },
    })
}

/// A call that is told event by event.
async fn story(server: &Server, tool: &str, (id, params): (&Value, &Value), to: &mpsc::Sender<Frame>) {
    let progress = |done: u32, event_id: Option<&str>| {
        let params =
            json!({ "progressToken": params["_meta"]["progressToken"], "progress": done, "total": 2 });
        let message = json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": params });
        event(event_id, &message)
    };
    let result = match tool {
        "progress" => {
            let _ = to.send(progress(1, Some("e1"))).await;
            server.gate().await;
            let _ = to.send(progress(2, Some("e2"))).await;
            content("done", &json!({ "steps": 2 }))
        }
        "ask" => content("answered", &server.ask(to, "elicitation/create", &form()).await["result"]),
        "sample" => {
            let wanted = json!({
                "messages": [{ "role": "user", "content": { "type": "text", "text": "Say yes." } }],
                "maxTokens": 10, "tools": [{ "name": "pick", "inputSchema": { "type": "object" } }],
            });
            content("sampled", &server.ask(to, "sampling/createMessage", &wanted).await["result"])
        }
        "cut" => {
            let _ = to.send(progress(1, None)).await;
            server.gate().await;
            let _ = to.send(Err(std::io::Error::other("cut"))).await;
            return;
        }
        // It lets go of the stream at once; the answer waits for whoever resumes (2025-11-25, Resumability).
        "polling" => {
            let answer = json!({ "jsonrpc": "2.0", "id": id, "result": content("polled", &json!({})) });
            server.parked.lock().unwrap().insert("parked".to_owned(), answer);
            let _ = to.send(Ok("id: parked\nretry: 10\ndata: \n\n".into())).await;
            return;
        }
        // Until the reader leaves or the call is cancelled.
        _ => {
            let _ = to.send(progress(1, None)).await;
            return server.cancelled.acquire().await.unwrap().forget();
        }
    };
    let _ = to.send(event(Some("last"), &json!({ "jsonrpc": "2.0", "id": id, "result": result }))).await;
}

fn content(text: &str, structured: &Value) -> Value {
    json!({ "content": [{ "type": "text", "text": text }], "structuredContent": structured, "resultType": "complete" })
}

/// Runs beside the answer; it ends with the stream that it writes to.
#[expect(clippy::disallowed_methods, reason = "a fixture: it ends with the test's runtime")]
fn background(work: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(work);
}

/// Tells a story to a reader, and notices when the reader leaves before its end.
async fn told(server: &Server, to: &mpsc::Sender<Frame>, story: impl Future<Output = ()>) {
    tokio::select! {
        () = story => {}
        () = to.closed() => server.dropped.add_permits(1),
    }
}
