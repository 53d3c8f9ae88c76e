use axum::body::Body;
use http::Method;
use serde_json::Value;

use crate::testing::{Bench, META, Read, call};

const RELATED: &str = "io.modelcontextprotocol/related-task";

fn about(method: &str, task: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tasks/{method}","params":{{"taskId":"{task}"}}}}"#)
}

/// Starts the task `t-1`; gives what the agent knows it as.
async fn start(bench: &Bench, session: &str) -> String {
    let answer = bench.in_session(session, &call(4, "task")).await;
    let messages: Vec<Value> =
        answer.events().iter().filter_map(|event| serde_json::from_slice(&event.data).ok()).collect();
    let sealed = messages.last().unwrap()["result"]["task"]["taskId"].as_str().unwrap().to_owned();
    assert_ne!(sealed, "t-1");
    let told = messages.iter().find(|message| message["method"] == "notifications/tasks/status").unwrap();
    assert_eq!(told["params"]["taskId"], sealed, "a task has one name");
    sealed
}

#[tokio::test]
async fn rs_31_a_task_of_a_session_goes_by_a_sealed_id() {
    let bench = Bench::new().await;
    let session = bench.initialize("2025-11-25").await;
    let sealed = start(&bench, &session).await;
    for method in ["get", "cancel"] {
        let answer = bench.in_session(&session, &about(method, &sealed)).await.json();
        assert_eq!(
            (&answer["result"]["taskId"], &answer["result"]["status"]),
            (&sealed.clone().into(), &"completed".into())
        );
        assert_eq!(bench.server.last().text(), about(method, "t-1"));
    }
    let answer = bench.in_session(&session, &about("result", &sealed)).await.json();
    assert_eq!(answer["result"]["_meta"][RELATED]["taskId"], sealed);
    let related = |task: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":"q","result":{{"_meta":{{"{RELATED}":{{"taskId":"{task}"}}}}}}}}"#)
    };
    bench.in_session(&session, &related(&sealed)).await;
    assert_eq!(bench.server.last().text(), related("t-1"));
    bench.in_session(&session, &related("of the agent's own")).await;
    assert_eq!(bench.server.last().text(), related("of the agent's own"));
}

#[tokio::test]
async fn rs_31_a_foreign_task_is_an_unknown_one() {
    let bench = Bench::new().await;
    let session = bench.initialize("2025-11-25").await;
    let sealed = start(&bench, &session).await;
    let stranger = bench.issuer.user();
    let as_stranger = async |session: &str, body: String| -> Read {
        let mut request = bench.session_request(session, &body);
        let token = format!("Bearer {}", bench.token_of(&stranger, "demo"));
        request.headers_mut().insert("authorization", token.parse().unwrap());
        if session.is_empty() {
            request.headers_mut().remove("mcp-session-id");
        }
        bench.send(request).await
    };
    let opened = as_stranger(
        "",
        r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#
            .to_owned(),
    )
    .await;
    let other = opened.headers["mcp-session-id"].to_str().unwrap().to_owned();
    let before = bench.server.seen().len();
    for task in [sealed.as_str(), "t-1", "t-2", ""] {
        let answer = as_stranger(&other, about("get", task)).await;
        bench.assert_refused(&answer, (200, -32602, "unknown_handle"), before);
    }
    let list = r#"{"jsonrpc":"2.0","id":7,"method":"tasks/list"}"#;
    assert_eq!(as_stranger(&other, list.to_owned()).await.json()["result"]["tasks"], serde_json::json!([]));
    let own = bench.in_session(&session, list).await.json();
    assert_eq!(own["result"]["tasks"], serde_json::json!([{"taskId": sealed, "n": 1.10}]));
    assert_ne!(own["result"]["nextCursor"], "more");
}

#[tokio::test]
async fn rs_31_a_task_of_the_extension_is_named_alike_in_header_and_body() {
    let bench = Bench::new().await;
    let created = bench.stateless_call("task", "").await.json();
    let sealed = created["result"]["taskId"].as_str().unwrap().to_owned();
    assert_ne!(sealed, "t-1");
    let send = async |method: &str, header: &str, task: &str| {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"taskId":"{task}",{META}}}}}"#
        );
        let request = bench
            .request(Method::POST)
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", method)
            .header("mcp-name", header);
        bench.send(request.body(Body::from(body)).unwrap()).await
    };
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        let answer = send(method, &sealed, &sealed).await;
        assert_eq!(answer.json()["result"]["taskId"], sealed, "{method}");
        let seen = bench.server.last();
        assert_eq!(
            (seen.headers["mcp-name"].as_bytes(), &seen.json()["params"]["taskId"]),
            (&b"t-1"[..], &"t-1".into())
        );
    }
    let before = bench.server.seen().len();
    bench.assert_refused(&send("tasks/get", "t-1", "t-1").await, (200, -32602, "unknown_handle"), before);
    bench.assert_refused(&send("tasks/get", "t-1", &sealed).await, (400, -32020, "header_mismatch"), before);
    bench.assert_refused(&send("tasks/list", "x", "x").await, (404, -32601, "method_not_found"), before);
}

#[tokio::test]
async fn rs_31_a_task_goes_by_one_name_at_every_gateway_and_is_in_the_list_of_its_caller_only() {
    let a = Bench::new().await;
    let b = a.replica(8);
    a.meet();
    a.hears_of(0).await;
    b.meet();
    b.hears_of(1).await;
    a.hears_of(1).await;
    let session = a.initialize("2025-11-25").await;
    let sealed = start(&a, &session).await;
    let list = r#"{"jsonrpc":"2.0","id":7,"method":"tasks/list"}"#;
    let give_up = tokio::time::Instant::now() + std::time::Duration::from_secs(5);
    loop {
        let listed = b.in_session(&session, list).await.json()["result"]["tasks"].clone();
        if listed.as_array().is_some_and(|tasks| tasks.len() == 1 && tasks[0]["taskId"] == sealed) {
            break;
        }
        assert!(tokio::time::Instant::now() < give_up, "{listed}");
    }
    let stranger = b.token_of(&b.issuer.user(), "demo");
    let body = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{}}}"#;
    let mut request = b.request(Method::POST).body(Body::from(body)).unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {stranger}").parse().unwrap());
    let own = b.send(request).await.headers["mcp-session-id"].to_str().unwrap().to_owned();
    let mut request = b.session_request(&own, list);
    request.headers_mut().insert("authorization", format!("Bearer {stranger}").parse().unwrap());
    assert_eq!(b.send(request).await.json()["result"]["tasks"], serde_json::json!([]));
}
