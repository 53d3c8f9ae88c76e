//! Nonsense and lies are refused before any server hears of them, with a code, a reason and a record.

use acceptance::deployment::{Deployment, Plan};
use acceptance::mcp::{Session, Stateless, initialize};
use acceptance::upstream::{Era, Upstream};
use acceptance::{DEADLINE, eventually, within};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::expect::{refused, refused_and_recorded, untouched};

#[tokio::test(flavor = "multi_thread")]
async fn s2_07_malformed_messages_are_refused_before_a_server_is_called() {
    let deployment = Plan::new().set("gateway.requests.max_body_bytes", "4096").start().await;
    let upstream = Upstream::start(Era::Session).await;
    let agent = deployment.publish("notes", &upstream).await;
    let session = Session::open(&agent).await;
    let caller = &session.caller;
    let call = r#""method":"tools/call","params":{"name":"echo","arguments":{}}"#;
    let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
    let cases = [
        (String::new(), (400, -32700, "malformed_json")),
        ("{\"jsonrpc\":".to_owned(), (400, -32700, "malformed_json")),
        ("\u{feff}{}".to_owned(), (400, -32700, "malformed_json")),
        (format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping",{call}}}"#), (400, -32600, "duplicate_key")),
        (format!(r#"{{"jsonrpc":"2.0","id":1,"id":2,{call}}}"#), (400, -32600, "duplicate_key")),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","name":"fail"}}"#
                .to_owned(),
            (400, -32600, "duplicate_key"),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","Name":"fail"}}"#
                .to_owned(),
            (400, -32600, "duplicate_key"),
        ),
        (
            format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"echo","arguments":{{"a":{deep}}}}}}}"#
            ),
            (400, -32600, "body_too_deep"),
        ),
        ("1".to_owned(), (400, -32600, "invalid_message")),
        (format!(r#"{{"id":1,{call}}}"#), (400, -32600, "invalid_message")),
        (format!(r#"{{"jsonrpc":"1.0","id":1,{call}}}"#), (400, -32600, "invalid_message")),
        (format!(r#"{{"jsonrpc":"2.0","id":{{}},{call}}}"#), (400, -32600, "invalid_message")),
        (
            format!(r#"{{"jsonrpc":"2.0","id":1,{call},"x":"{}"}}"#, "x".repeat(5000)),
            (413, -32600, "body_too_large"),
        ),
    ];
    upstream.forget();
    for (body, refusal) in cases {
        let answer = caller.post(body).await;
        refused_and_recorded(&deployment, &upstream, &answer, refusal).await;
    }
    // The session has not suffered.
    session.call("echo", &json!({})).await;
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn media_types_and_methods_that_make_no_sense_are_refused() {
    let deployment = Deployment::start().await;
    let upstream = Upstream::start(Era::Session).await;
    let agent = deployment.publish("notes", &upstream).await;
    let body = initialize("2025-11-25", &json!({}));
    let form = agent.clone().with("content-type", "text/plain").post(body.clone()).await;
    refused_and_recorded(&deployment, &upstream, &form, (415, -32600, "unsupported_media_type")).await;
    let html = agent.clone().with("accept", "text/html").post(body).await;
    refused_and_recorded(&deployment, &upstream, &html, (406, -32600, "not_acceptable")).await;
    let put = agent.send(http::Method::PUT).await;
    refused_and_recorded(&deployment, &upstream, &put, (405, -32600, "method_not_allowed")).await;
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rs_33_headers_that_differ_from_the_body_are_refused() {
    let deployment = Deployment::start().await;
    let upstream = Upstream::start(Era::Stateless).await;
    let agent = deployment.publish("notes", &upstream).await;
    let stateless = Stateless::new(&agent);
    let (caller, body) = stateless.request("tools/call", &json!({ "name": "echo", "arguments": {} }));
    let lies = [
        caller.clone().with("mcp-method", "tools/list"),
        caller.clone().without("mcp-method"),
        caller.clone().with("mcp-name", "fail"),
        caller.clone().with("mcp-name", "Echo"),
        caller.clone().without("mcp-name"),
    ];
    for lie in lies {
        let answer = lie.post(body.clone()).await;
        refused_and_recorded(&deployment, &upstream, &answer, (400, -32020, "header_mismatch")).await;
    }
    let encoded = caller.clone().with("mcp-name", "=?base64?ZWNobw==?=").post(body.clone()).await;
    assert_eq!(encoded.status, 200, "the encoded form of the same name: {}", encoded.text());
    let version = caller.clone().with("mcp-protocol-version", "2025-11-25").post(body.clone()).await;
    assert_eq!(version.status, 400, "{}", version.text());
    let mut unknown: serde_json::Value = serde_json::from_str(&body).unwrap();
    unknown["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2099-01-01");
    upstream.forget();
    let unknown = caller.with("mcp-protocol-version", "2099-01-01").post(unknown.to_string()).await;
    refused_and_recorded(&deployment, &upstream, &unknown, (400, -32022, "unsupported_version")).await;
    assert!(unknown.json()["error"]["data"]["supported"].is_array(), "{}", unknown.text());
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rs_30_unknown_ended_and_missing_sessions_are_refused() {
    let deployment = Deployment::start().await;
    let upstream = Upstream::start(Era::Session).await;
    let agent = deployment.publish("notes", &upstream).await;
    let session = Session::open(&agent).await;
    let list = session.request_text("tools/list", &json!({}));
    upstream.forget();
    let missing = agent.post(list.clone()).await;
    refused_and_recorded(&deployment, &upstream, &missing, (400, -32600, "session_required")).await;
    let unknown = agent.clone().with("mcp-session-id", &"A".repeat(43)).post(list.clone()).await;
    refused_and_recorded(&deployment, &upstream, &unknown, (404, -32600, "unknown_session")).await;
    let wrong = session.caller.clone().with("mcp-protocol-version", "2025-03-26").post(list.clone()).await;
    refused_and_recorded(&deployment, &upstream, &wrong, (400, -32600, "version_mismatch")).await;
    assert!(session.caller.send(http::Method::DELETE).await.status.is_success());
    for gateway in deployment.replicas("gateway") {
        let mut caller = deployment.caller_at(&gateway, "notes");
        caller.headers.extend(session.caller.headers.clone());
        let ended = async || {
            let answer = caller.post(list.clone()).await;
            (answer.status != 200).then_some(answer)
        };
        let ended = eventually(DEADLINE, "a session ends everywhere", ended).await;
        refused(&ended, (404, -32600, "unknown_session"));
    }
    for method in [http::Method::GET, http::Method::DELETE] {
        refused(&session.caller.send(method).await, (404, -32600, "unknown_session"));
    }
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_not_there_is_404_for_everybody() {
    let deployment = Deployment::start().await;
    let upstream = Upstream::start(Era::Session).await;
    let agent = deployment.publish("notes", &upstream).await;
    for path in ["/nothing/mcp", "/Notes/mcp", "/%6eotes/mcp", "/notes%2fmcp/mcp"] {
        let mut caller = agent.clone();
        caller.url = deployment.url(path);
        let answer = caller.post(initialize("2025-11-25", &json!({}))).await;
        assert_eq!(answer.status, 404, "{path}: {}", answer.text());
        untouched(&upstream, &answer);
    }
    let mut nobody = agent.clone().without("authorization");
    nobody.url = deployment.url("/nothing/mcp");
    let answer = nobody.post(initialize("2025-11-25", &json!({}))).await;
    refused_and_recorded(&deployment, &upstream, &answer, (404, -32600, "unknown_endpoint")).await;
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a12_a_client_that_sends_its_body_too_slowly_is_cut_off() {
    let deployment = Plan::new().set("gateway.requests.body_timeout_ms", "300").start().await;
    let upstream = Upstream::start(Era::Session).await;
    let agent = deployment.publish("notes", &upstream).await;
    let origin = url::Url::parse(&deployment.ready.origin).unwrap();
    let address = origin.socket_addrs(|| None).unwrap()[0];
    let token = agent.headers["authorization"].to_str().unwrap();
    let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /notes/mcp HTTP/1.1\r\nHost: {address}\r\nAuthorization: {token}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nContent-Length: 100\r\n\r\n{{"
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    // After the refusal the connection ends.
    let mut answer = String::new();
    within(DEADLINE, "the refusal", connection.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("body_too_slow"), "{answer}");
    let correlation = answer.split("x-correlation-id: ").nth(1).unwrap().split("\r\n").next().unwrap();
    assert_eq!(deployment.record(correlation).await.reason, "body_too_slow");
    assert_eq!(upstream.calls(), 0);
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s2_06_s3_16_a_principal_over_its_limit_is_told_when_to_come_back() {
    let plan = Plan::new()
        .set("gateway.limits.principal_per_minute", "6")
        .set("gateway.limits.principal_burst", "8");
    let deployment = plan.start().await;
    let upstream = Upstream::start(Era::Session).await;
    let agent = deployment.publish("notes", &upstream).await;
    let mut limited = None;
    for _ in 0..12 {
        let answer = agent.post(initialize("2025-11-25", &json!({}))).await;
        if answer.status == 429 {
            limited = Some(answer);
            break;
        }
    }
    let answer = limited.expect("a limit");
    refused_and_recorded(&deployment, &upstream, &answer, (429, -32000, "rate_limited")).await;
    assert!(answer.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
    let metrics = deployment.http.get(&deployment.admin_url("/metrics")).await.text();
    assert!(metrics.contains("rate_limited"), "the refusal is counted");
    deployment.stop().await;
}
