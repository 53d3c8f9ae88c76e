use axum::body::Body;
use http::Method;
use portico_proto_registry::catalogue_item::Value;

use crate::catalogue::testing::{endpoint, instance, server};
use crate::testing::{Bench, META, call, stateless_body};

/// What each mood of a server becomes.
#[tokio::test]
async fn answers_that_are_no_mcp_become_clear_errors() {
    let bench = Bench::new().await;
    let session = bench.initialize("2025-11-25").await;
    for (tool, status, reason) in [
        ("html", 502, "upstream_not_mcp"),
        ("fake", 502, "upstream_not_mcp"),
        ("redirect", 502, "upstream_not_mcp"),
        ("unauthorized", 502, "upstream_unauthorized"),
        ("failing", 502, "upstream_failed"),
        ("cut", 502, "upstream_lost"),
    ] {
        let answer = bench.in_session(&session, &call(4, tool)).await;
        assert_eq!(answer.refusal(), (status, -32603, reason.to_owned()), "{tool}");
        assert_eq!(answer.json()["id"], 4, "{tool}");
        assert!(!answer.text().contains("stack trace"));
        assert_eq!(bench.last_audit(), ("failed".into(), reason.into()), "{tool}");
    }
}

#[tokio::test]
async fn a_stream_that_breaks_off_ends_with_an_error_of_the_same_id() {
    let bench = Bench::new().await;
    let session = bench.initialize("2025-11-25").await;
    let answer = bench.in_session(&session, &call(9, "broken")).await;
    let last = answer.events().pop().unwrap();
    let error: serde_json::Value = serde_json::from_slice(&last.data).unwrap();
    assert_eq!((error["id"].as_u64(), error["error"]["code"].as_i64()), (Some(9), Some(-32603)));
    assert_eq!(error["error"]["data"]["reason"], "upstream_lost");
}

#[tokio::test]
async fn a_slow_server_is_given_up() {
    let bench = Bench::new().await;
    let session = bench.initialize("2025-11-25").await;
    // From now on, so that opening the session has all the time it needs.
    let mut items = bench.demo();
    if let Some(Value::Instance(item)) = &mut items[1].1.value {
        item.timeout_ms = 50;
    }
    bench.catalogue(items);
    let answer = bench.in_session(&session, &call(4, "slow")).await;
    assert_eq!(answer.refusal(), (504, -32603, "upstream_timeout".to_owned()));
}

#[tokio::test]
async fn a_server_that_does_not_listen_is_unreachable() {
    let bench = Bench::new().await;
    let url = "http://127.0.0.1:32767/mcp";
    bench.catalogue(vec![server(1, "demo"), instance(1, 1, url), endpoint("demo", &[1])]);
    let answer = bench.stateless_call("echo", "").await;
    assert_eq!(answer.refusal(), (502, -32603, "upstream_unreachable".to_owned()));
}

#[tokio::test]
async fn a_forbidden_address_is_never_dialled() {
    let bench = Bench::new().await;
    bench.catalogue(vec![
        server(1, "demo"),
        instance(1, 1, "http://169.254.169.254/mcp"),
        endpoint("demo", &[1]),
    ]);
    let answer = bench.stateless_call("echo", "").await;
    assert_eq!(answer.refusal(), (502, -32603, "address_refused".to_owned()));
}

#[tokio::test]
async fn a_large_answer_streams_whole() {
    let bench = Bench::new().await;
    let session = bench.initialize("2025-11-25").await;
    let answer = bench.in_session(&session, &call(4, "large")).await;
    assert_eq!(answer.json()["result"]["text"].as_str().unwrap().len(), 600_000);
    assert_eq!(bench.last_audit(), ("allowed".into(), "ok".into()));
}

#[tokio::test]
async fn the_servers_own_credential_is_sent_and_nothing_else() {
    let bench = Bench::new().await;
    let mut items = bench.demo();
    if let Some(Value::Instance(item)) = &mut items[1].1.value {
        item.bearer_secret_ref = "team/key".to_owned();
    }
    bench.catalogue(items);
    assert_eq!(bench.stateless_call("echo", "").await.refusal().2, "no_instance");
    bench.engine().catalogue.apply_credentials_for_tests("team/key", "s3cret");
    assert_eq!(bench.stateless_call("echo", "").await.status, 200);
    assert_eq!(bench.server.last().headers["authorization"], "Bearer s3cret");
}

#[tokio::test]
async fn servers_of_the_other_era_are_refused_with_the_versions_that_work() {
    let bench = Bench::new().await;
    let speaking = |versions: &[&str]| {
        let mut items = bench.demo();
        if let Some(Value::Instance(item)) = &mut items[1].1.value {
            item.protocol_versions = versions.iter().map(|v| (*v).to_owned()).collect();
        }
        bench.catalogue(items);
    };
    speaking(&["2025-11-25"]);
    let answer = bench.stateless_call("echo", "").await;
    assert_eq!(answer.refusal(), (400, -32022, "era_not_bridged".to_owned()));
    assert_eq!(answer.json()["error"]["data"]["supported"][0], "2025-11-25");
    speaking(&["2026-07-28"]);
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;
    let answer = bench.post(body).await;
    assert_eq!(answer.refusal(), (400, -32022, "era_not_bridged".to_owned()));
    assert_eq!(answer.json()["error"]["data"]["supported"][0], "2026-07-28");
    assert!(bench.server.seen().is_empty());
}

#[tokio::test]
async fn a_stateless_server_whose_era_nobody_has_seen_is_recognised_by_its_answer_to_initialize() {
    let bench = Bench::new().await;
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;
    for status in [http::StatusCode::OK, http::StatusCode::NOT_FOUND] {
        bench.server.speak_stateless_only(status);
        let answer = bench.post(body).await;
        assert_eq!(answer.refusal(), (400, -32022, "era_not_bridged".to_owned()), "{status}");
        assert_eq!(answer.json()["error"]["data"]["supported"][0], "2026-07-28");
        assert!(!answer.headers.contains_key("mcp-session-id"));
        assert_eq!(bench.last_audit(), ("failed".into(), "era_not_bridged".into()));
    }
}

#[tokio::test]
async fn a_server_whose_era_nobody_has_seen_is_recognised_by_its_answer() {
    let bench = Bench::new().await;
    bench.server.speak_sessions_only();
    for method in ["tools/list", "prompts/list"] {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{META}}}}}"#);
        let request = bench
            .request(Method::POST)
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", method)
            .body(Body::from(body))
            .unwrap();
        assert_eq!(
            bench.send(request).await.refusal(),
            (400, -32022, "era_not_bridged".to_owned()),
            "{method}"
        );
    }
}

#[tokio::test]
async fn a_full_spool_refuses_what_may_change_something() {
    let bench = Bench::with(|settings| settings.audit.spool_bytes = 1_000).await;
    assert_eq!(
        bench.stateless_call("echo", "").await.refusal(),
        (503, -32603, "audit_unavailable".to_owned())
    );
    let body = stateless_body("echo", "").replace("tools/call", "tools/list");
    let mut request = bench.stateless_request("echo").body(Body::from(body)).unwrap();
    request.headers_mut().insert("mcp-method", "tools/list".parse().unwrap());
    assert_eq!(request.method(), Method::POST);
    assert_eq!(bench.send(request).await.status, 200);
}
