use axum::body::Body;
use axum::response::Response;
use http::Method;
use http_body_util::BodyExt;

use crate::testing::{Bench, META, stateless_body};

#[tokio::test]
async fn a_stateless_call_passes_with_its_headers() {
    let bench = Bench::new().await;
    let answer = bench.stateless_call("echo", "").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = bench.server.last();
    assert_eq!(seen.text(), stateless_body("echo", ""));
    assert_eq!(seen.headers["mcp-protocol-version"], "2026-07-28");
    assert_eq!(
        (seen.headers["mcp-method"].as_bytes(), seen.headers["mcp-name"].as_bytes()),
        (&b"tools/call"[..], &b"echo"[..])
    );
    assert!(!seen.headers.contains_key("mcp-session-id"));
    assert!(!answer.headers.contains_key("mcp-session-id"));
}

#[tokio::test]
async fn rs_33_headers_that_differ_from_the_body_are_refused() {
    let bench = Bench::new().await;
    for (name, value) in [
        ("mcp-protocol-version", Some("2025-11-25")),
        ("mcp-protocol-version", None),
        ("mcp-method", Some("tools/list")),
        ("mcp-method", None),
        ("mcp-name", Some("Echo")),
        ("mcp-name", Some("=?base64?!?=")),
        ("mcp-name", None),
    ] {
        let mut request =
            bench.stateless_request("echo").body(Body::from(stateless_body("echo", ""))).unwrap();
        request.headers_mut().remove(name);
        if let Some(value) = value {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let answer = bench.send(request).await;
        bench.assert_refused(&answer, (400, -32020, "header_mismatch"), 0);
    }
    for name in ["mcp-protocol-version", "mcp-method", "mcp-name"] {
        let request = bench.stateless_request("echo").header(name, "other");
        let answer = bench.send(request.body(Body::from(stateless_body("echo", ""))).unwrap()).await;
        bench.assert_refused(&answer, (400, -32020, "header_mismatch"), 0);
    }
    let encoded = bench.stateless_request("x").body(Body::from(stateless_body("echo", ""))).unwrap();
    let (mut head, body) = encoded.into_parts();
    head.headers.insert("mcp-name", "=?base64?ZWNobw==?=".parse().unwrap());
    assert_eq!(bench.send(http::Request::from_parts(head, body)).await.status, 200);
}

#[tokio::test]
async fn versions_methods_and_capabilities_are_checked() {
    let bench = Bench::new().await;
    let send = async |method: &str, version: &str, meta: &str| {
        let body =
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"_meta":{{{meta}}}}}}}"#);
        let request = bench
            .request(Method::POST)
            .header("mcp-protocol-version", version)
            .header("mcp-method", method)
            .body(Body::from(body))
            .unwrap();
        bench.send(request).await
    };
    let version = |v: &str| format!(r#""io.modelcontextprotocol/protocolVersion":"{v}""#);
    let whole = format!(r#"{},"io.modelcontextprotocol/clientCapabilities":{{}}"#, version("2026-07-28"));
    let answer = send("tools/list", "1900-01-01", &version("1900-01-01")).await;
    bench.assert_refused(&answer, (400, -32022, "unsupported_version"), 0);
    assert_eq!(answer.json()["error"]["data"]["supported"][0], "2026-07-28");
    assert_eq!(answer.json()["error"]["data"]["requested"], "1900-01-01");
    let answer = send("tools/list", "2026-07-28", &version("2026-07-28")).await;
    bench.assert_refused(&answer, (400, -32602, "invalid_params"), 0);
    let answer = send("tools/list", "2026-07-28", "").await;
    bench.assert_refused(&answer, (400, -32602, "invalid_params"), 0);
    for removed in ["initialize", "ping", "logging/setLevel", "resources/subscribe"] {
        let answer = send(removed, "2026-07-28", &whole).await;
        bench.assert_refused(&answer, (404, -32601, "method_not_found"), 0);
    }
    let answer = send("x/unknown", "2026-07-28", &whole).await;
    assert_eq!((answer.status.as_u16(), answer.json()["error"]["code"].as_i64()), (404, Some(-32601)));
    for method in [Method::GET, Method::DELETE] {
        let request =
            bench.request(method).header("mcp-protocol-version", "2026-07-28").body(Body::empty()).unwrap();
        assert_eq!(bench.send(request).await.refusal(), (405, -32600, "method_not_allowed".to_owned()));
    }
}

#[tokio::test]
async fn rs_31_request_state_is_sealed_to_its_caller_and_request() {
    let bench = Bench::new().await;
    let asked = bench.stateless_call("ask", "").await;
    let state = asked.json()["result"]["requestState"].as_str().unwrap().to_owned();
    assert_ne!(state, "server-state");
    let retry = format!(r#""requestState":"{state}","inputResponses":{{}},"#);
    let answer = bench.stateless_call("ask", &retry).await;
    assert_eq!(answer.json()["result"]["got"], "server-state", "{}", answer.text());
    let seen = bench.server.seen().len();
    for (tool, state) in [("echo", state.as_str()), ("ask", "server-state"), ("ask", &state[1..])] {
        let answer = bench.stateless_call(tool, &format!(r#""requestState":"{state}","#)).await;
        bench.assert_refused(&answer, (200, -32602, "unknown_handle"), seen);
    }
    let mut foreign = bench.stateless_request("ask").body(Body::from(stateless_body("ask", &retry))).unwrap();
    let bob = bench.token_of(&bench.issuer.user(), "demo");
    foreign.headers_mut().insert("authorization", format!("Bearer {bob}").parse().unwrap());
    bench.assert_refused(&bench.send(foreign).await, (200, -32602, "unknown_handle"), seen);
    // A gateway that has not listed the server's tools yet does not do so for a foreign state either.
    let other = bench.replica(8);
    let body = stateless_body("ask", r#""requestState":"server-state","#);
    let foreign = other.stateless_request("ask").body(Body::from(body)).unwrap();
    other.assert_refused(&other.send(foreign).await, (200, -32602, "unknown_handle"), seen);
    let answer = other.stateless_call("ask", &retry).await;
    assert_eq!(answer.json()["result"]["got"], "server-state", "{}", answer.text());
}

#[tokio::test]
async fn mirrored_parameters_are_compared_after_listing_the_tools_once() {
    let bench = Bench::new().await;
    let call = async |header: Option<&str>| {
        let mut request =
            bench.stateless_request("region").body(Body::from(stateless_body("region", ""))).unwrap();
        if let Some(header) = header {
            request.headers_mut().insert("mcp-param-text", header.parse().unwrap());
        }
        request.headers_mut().insert("mcp-param-other", "kept".parse().unwrap());
        bench.send(request).await
    };
    assert_eq!(call(None).await.refusal(), (400, -32020, "header_mismatch".to_owned()));
    assert_eq!(call(Some("ho")).await.refusal(), (400, -32020, "header_mismatch".to_owned()));
    assert_eq!(call(Some("hi")).await.status, 200);
    let seen = bench.server.seen();
    let lists = seen.iter().filter(|seen| seen.json()["method"] == "tools/list").count();
    assert_eq!(lists, 2, "both pages, once");
    let last = seen.last().unwrap();
    assert_eq!(
        (last.headers["mcp-param-text"].as_bytes(), last.headers["mcp-param-other"].as_bytes()),
        (&b"hi"[..], &b"kept"[..])
    );
}

#[tokio::test]
async fn rs_31_request_state_is_sealed_also_in_an_answer_that_is_too_large_to_be_held_back() {
    let bench = Bench::with(|settings| settings.upstream.inspect_bytes = 16).await;
    let asked = bench.stateless_call("ask", "").await.json();
    let state = asked["result"]["requestState"].as_str().unwrap();
    assert_ne!(state, "server-state");
    let retry = format!(r#""requestState":"{state}","inputResponses":{{}},"#);
    assert_eq!(bench.stateless_call("ask", &retry).await.json()["result"]["got"], "server-state");
}

/// Asks for a stream with the id l-1.
async fn listen(bench: &Bench) -> Response {
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":"l-1","method":"subscriptions/listen","params":{{"notifications":{{}},{META}}}}}"#
    );
    let request = bench
        .request(Method::POST)
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "subscriptions/listen")
        .body(Body::from(body))
        .unwrap();
    bench.open(request).await
}

#[tokio::test]
async fn a_stream_that_stays_ends_well_when_its_agent_closes_it() {
    let bench = Bench::new().await;
    drop(listen(&bench).await);
    assert_eq!(bench.last_audit(), ("allowed".into(), "agent_gone".into()));
}

#[tokio::test]
async fn a_disconnect_is_the_cancellation() {
    let bench = Bench::new().await;
    let request = bench.stateless_request("hold").body(Body::from(stateless_body("hold", ""))).unwrap();
    let mut body = bench.open(request).await.into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    bench.server.reader_gone().await;
    assert_eq!(bench.last_audit(), ("failed".into(), "agent_gone".into()));
}

#[tokio::test]
async fn a_listen_stream_keeps_its_id_and_ends_with_a_result_when_the_token_ends() {
    let bench = Bench::new().await;
    let response = listen(&bench).await;
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    bench.clock.advance(chrono::Duration::hours(1));
    bench.issuer.heartbeat();
    let answer = crate::testing::Read::of(response).await;
    let events = answer.events();
    assert_eq!(events.len(), 2, "{}", answer.text());
    assert!(
        String::from_utf8_lossy(&events[0].data)
            .contains(r#""io.modelcontextprotocol/subscriptionId":"l-1""#)
    );
    assert!(String::from_utf8_lossy(&events[1].data).contains(r#""id":"l-1","result""#));
}
