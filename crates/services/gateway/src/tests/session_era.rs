use axum::body::Body;
use http::Method;
use http_body_util::BodyExt;

use crate::testing::{Bench, call};

#[tokio::test]
async fn s3_45_a_tool_call_round_trips_byte_for_byte() {
    let bench = Bench::new().await;
    let session = bench.initialize("2025-11-25").await;
    let sent = call(7, "echo");
    let answer = bench.in_session(&session, &sent).await;
    assert_eq!(
        answer.text(),
        r#"{"jsonrpc":"2.0","id":7,"result":{"content":[],"n":1.10,"big":12345678901234567890123}}"#
    );
    let seen = bench.server.last();
    assert_eq!(seen.text(), sent);
    assert_eq!(seen.headers["mcp-session-id"], "upstream-1");
    assert_eq!(seen.headers["mcp-protocol-version"], "2025-11-25");
    assert_ne!(session, "upstream-1");
    assert_eq!(session.len(), 43);
    let record = bench.audit().pop().unwrap();
    assert_eq!(
        (record.action.as_str(), record.name.as_str(), record.outcome.as_str()),
        ("tools/call", "echo", "allowed")
    );
    assert_eq!(record.target, "endpoint:demo");
    assert_eq!(record.principal, bench.alice.to_string());
    assert!(record.response_bytes > 0);
}

#[tokio::test]
async fn rs_30_a_foreign_session_looks_like_an_unknown_one() {
    let bench = Bench::new().await;
    let session = bench.initialize("2025-11-25").await;
    let seen = bench.server.seen().len();
    let bob = bench.token_of(&bench.issuer.user(), "demo");
    let mut request = bench.session_request(&session, &call(1, "echo"));
    request.headers_mut().insert("authorization", format!("Bearer {bob}").parse().unwrap());
    let foreign = bench.send(request).await;
    bench.assert_refused(&foreign, (404, -32600, "unknown_session"), seen);
    let unknown = bench.in_session("nope", &call(1, "echo")).await;
    bench.assert_refused(&unknown, (404, -32600, "unknown_session"), seen);
    let strip = |text: &str| text.split("\"correlation_id\"").next().unwrap().to_owned();
    assert_eq!(strip(foreign.text()), strip(unknown.text()));
}

#[tokio::test]
async fn versions_and_sessions_must_fit() {
    let bench = Bench::new().await;
    let session = bench.initialize("2025-06-18").await;
    let seen = bench.server.seen().len();
    let mut request = bench.session_request(&session, &call(1, "echo"));
    request.headers_mut().insert("mcp-protocol-version", "2025-11-25".parse().unwrap());
    bench.assert_refused(&bench.send(request).await, (400, -32600, "version_mismatch"), seen);
    bench.assert_refused(&bench.post(&call(1, "echo")).await, (400, -32600, "session_required"), seen);
    let mut request = bench.session_request(&session, &call(1, "echo"));
    request.headers_mut().insert("mcp-protocol-version", "2025-06-18".parse().unwrap());
    assert_eq!(bench.send(request).await.status, 200);
}

#[tokio::test]
async fn a_session_named_twice_is_no_session() {
    let bench = Bench::new().await;
    let session = bench.initialize("2025-11-25").await;
    let seen = bench.server.seen().len();
    let mut request = bench.session_request(&session, &call(1, "echo"));
    request.headers_mut().append("mcp-session-id", "other".parse().unwrap());
    bench.assert_refused(&bench.send(request).await, (404, -32600, "unknown_session"), seen);
    let mut request = bench.session_request(&session, &call(1, "echo"));
    request.headers_mut().insert("mcp-protocol-version", http::HeaderValue::from_bytes(b"\xff").unwrap());
    bench.assert_refused(&bench.send(request).await, (400, -32600, "version_mismatch"), seen);
}

#[tokio::test]
async fn delete_ends_the_session_here_and_at_the_server() {
    let bench = Bench::new().await;
    let session = bench.initialize("2025-11-25").await;
    let delete =
        |id: &str| bench.request(Method::DELETE).header("mcp-session-id", id).body(Body::empty()).unwrap();
    assert_eq!(bench.send(delete(&session)).await.status, 204);
    let told = bench.server.wait_for(|seen| seen.method == Method::DELETE).await;
    assert_eq!(told.headers["mcp-session-id"], "upstream-1");
    assert_eq!(bench.in_session(&session, &call(1, "echo")).await.status, 404);
    assert_eq!(bench.send(delete(&session)).await.status, 404);
    assert_eq!(bench.send(bench.request(Method::DELETE).body(Body::empty()).unwrap()).await.status, 400);
}

#[tokio::test]
async fn a_server_that_forgot_the_session_gets_a_new_one_unnoticed() {
    let bench = Bench::new().await;
    let session = bench.initialize("2025-11-25").await;
    bench.server.forget();
    let answer = bench.in_session(&session, &call(3, "echo")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(bench.server.last().headers["mcp-session-id"], "upstream-2");
    assert_eq!(bench.server.sessions(), 1);
}

#[tokio::test]
async fn s3_46_events_stream_with_ids_and_end_with_the_answer() {
    let bench = Bench::new().await;
    let session = bench.initialize("2025-11-25").await;
    let answer = bench.in_session(&session, &call(2, "stream")).await;
    assert_eq!(answer.headers["content-type"], "text/event-stream");
    assert_eq!(answer.headers["x-accel-buffering"], "no");
    let events = answer.events();
    assert_eq!(events.len(), 3, "{}", answer.text());
    assert!(events[0].data.is_empty() && events[0].id.is_some(), "a priming event comes first");
    assert!(String::from_utf8_lossy(&events[1].data).contains(r#""progress":1.10"#));
    assert!(String::from_utf8_lossy(&events[2].data).contains("12345678901234567890123"));
    assert_eq!(bench.last_audit(), ("allowed".into(), "ok".into()));
}

#[tokio::test]
async fn older_agents_get_no_priming_event() {
    let bench = Bench::new().await;
    let session = bench.initialize("2025-06-18").await;
    assert_eq!(bench.in_session(&session, &call(2, "stream")).await.events().len(), 2);
}

#[tokio::test]
async fn s3_69_a_question_of_the_server_is_relayed_and_its_answer_too() {
    let bench = Bench::new().await;
    let session = bench.initialize("2025-11-25").await;
    let response = bench.open(bench.session_request(&session, &call(2, "ask"))).await;
    let mut body = response.into_body();
    let mut text = String::new();
    while !text.contains("elicitation/create") {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        text.push_str(std::str::from_utf8(&frame).unwrap());
    }
    assert!(text.contains(r#""id":"q-1""#));
    let answer =
        bench.in_session(&session, r#"{"jsonrpc":"2.0","id":"q-1","result":{"action":"accept"}}"#).await;
    assert_eq!(answer.status, 202);
    let rest = body.collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&rest).contains(r#""said":{"action":"accept"}"#));
}

#[tokio::test]
async fn s3_27_a_lost_stream_is_resumed_without_the_call_being_cancelled() {
    let bench = Bench::new().await;
    let session = bench.initialize("2025-11-25").await;
    let response = bench.open(bench.session_request(&session, &call(2, "hold"))).await;
    let mut body = response.into_body();
    let mut text = String::new();
    while !text.contains("progress") {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        text.push_str(std::str::from_utf8(&frame).unwrap());
    }
    drop(body);
    bench.server.release();
    let resume = |id: &str| {
        let request =
            bench.request(Method::GET).header("mcp-session-id", &session).header("last-event-id", id);
        request.body(Body::empty()).unwrap()
    };
    let resumed = bench.send(resume("0-1")).await;
    let events = resumed.events();
    assert_eq!(events.len(), 1, "{}", resumed.text());
    assert!(String::from_utf8_lossy(&events[0].data).contains(r#""id":2,"result""#));
    let again = bench.send(resume("0-0")).await;
    assert_eq!(again.events().len(), 2, "the missed progress and the answer");
    let bob = bench.token_of(&bench.issuer.user(), "demo");
    let mut foreign = resume("0-0");
    foreign.headers_mut().insert("authorization", format!("Bearer {bob}").parse().unwrap());
    assert_eq!(bench.send(foreign).await.status, 404);
}

/// Reads a stream until it has brought this.
async fn read_until(body: &mut Body, wanted: &str) -> String {
    let mut text = String::new();
    while !text.contains(wanted) {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        text.push_str(std::str::from_utf8(&frame).unwrap());
    }
    text
}

fn cancelled(id: u32) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#)
}

#[tokio::test]
async fn a_cancelled_call_ends_at_once_though_its_server_stays_silent() {
    let bench = Bench::new().await;
    let session = bench.initialize("2025-11-25").await;
    let response = bench.open(bench.session_request(&session, &call(2, "hold"))).await;
    let mut body = response.into_body();
    read_until(&mut body, "progress").await;
    // Another call's id ends nothing.
    assert_eq!(bench.in_session(&session, &cancelled(3)).await.status, 202);
    assert!(bench.audit().iter().all(|record| record.reason != "cancelled"));
    assert_eq!(bench.in_session(&session, &cancelled(2)).await.status, 202);
    assert_eq!(bench.server.last().text(), cancelled(2));
    let rest = body.collect().await.unwrap().to_bytes();
    assert!(rest.is_empty(), "a cancelled call has no answer");
    bench.server.reader_gone().await;
    let records = bench.audit();
    let record = records.iter().find(|record| record.reason == "cancelled").unwrap();
    assert_eq!((record.action.as_str(), record.outcome.as_str()), ("tools/call", "failed"));
}

#[tokio::test]
async fn a_call_whose_agent_is_away_can_be_cancelled() {
    let bench = Bench::new().await;
    let session = bench.initialize("2025-11-25").await;
    for (id, tool) in [(2, "hold"), (3, "dormant")] {
        let mut body = bench.open(bench.session_request(&session, &call(id, tool))).await.into_body();
        // The priming event, which comes before anything of the server.
        body.frame().await.unwrap().unwrap();
        drop(body);
        assert_eq!(bench.in_session(&session, &cancelled(id)).await.status, 202);
        let ended = || bench.audit().iter().filter(|record| record.reason == "cancelled").count();
        while ended() < usize::try_from(id).unwrap() - 1 {
            tokio::task::yield_now().await;
        }
    }
    assert!(bench.server.seen().iter().all(|seen| seen.method != Method::GET), "nothing was asked for again");
}

#[tokio::test]
async fn a_stream_that_the_server_suspends_is_fetched_by_its_event_id() {
    let bench = Bench::new().await;
    let session = bench.initialize("2025-11-25").await;
    let answer = bench.in_session(&session, &call(5, "suspended")).await;
    let events = answer.events();
    assert_eq!(events.last().unwrap().retry, Some(1), "the waiting time is passed on: {}", answer.text());
    let request =
        bench.request(Method::GET).header("mcp-session-id", &session).header("last-event-id", "0-0");
    let resumed = bench.send(request.body(Body::empty()).unwrap()).await;
    assert!(resumed.text().contains(r#""resumed":true"#), "{}", resumed.text());
}

#[tokio::test]
async fn the_get_stream_is_relayed_and_ends_with_its_reader() {
    let bench = Bench::new().await;
    let session = bench.initialize("2025-11-25").await;
    let request = bench.request(Method::GET).header("mcp-session-id", &session).body(Body::empty()).unwrap();
    let response = bench.open(request).await;
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    let mut text = String::new();
    while !text.contains("list_changed") {
        text.push_str(
            std::str::from_utf8(&body.frame().await.unwrap().unwrap().into_data().unwrap()).unwrap(),
        );
    }
    drop(body);
    bench.server.reader_gone().await;
}

#[tokio::test]
async fn a_server_without_get_stream_answers_405_through_the_gateway() {
    let bench = Bench::new().await;
    bench.server.offer_no_get();
    let session = bench.initialize("2025-11-25").await;
    let request = bench.request(Method::GET).header("mcp-session-id", &session).body(Body::empty()).unwrap();
    assert_eq!(bench.send(request).await.refusal().0, 405);
    let request = bench.request(Method::GET).body(Body::empty()).unwrap();
    assert_eq!(bench.send(request).await.refusal().2, "session_required");
}

#[tokio::test]
async fn rs_26_a_revoked_token_closes_a_standing_stream() {
    let bench = Bench::new().await;
    let session = bench.initialize("2025-11-25").await;
    let request = bench.request(Method::GET).header("mcp-session-id", &session).body(Body::empty()).unwrap();
    let response = bench.open(request).await;
    bench.issuer.revoke_principal(&bench.alice, crate::testing::start() + chrono::Duration::hours(1));
    let body = tokio::time::timeout(std::time::Duration::from_secs(5), response.into_body().collect()).await;
    assert!(body.is_ok(), "the stream goes on after the revocation");
}

#[tokio::test]
async fn rs_26_a_call_ends_with_an_error_when_its_caller_is_revoked() {
    let bench = Bench::new().await;
    let session = bench.initialize("2025-11-25").await;
    let response = bench.open(bench.session_request(&session, &call(8, "hold"))).await;
    bench.issuer.revoke_principal(&bench.alice, crate::testing::start() + chrono::Duration::hours(1));
    let answer = crate::testing::Read::of(response).await;
    let last: serde_json::Value = serde_json::from_slice(&answer.events().pop().unwrap().data).unwrap();
    assert_eq!(
        (last["id"].as_u64(), last["error"]["data"]["reason"].as_str()),
        (Some(8), Some("invalid_token"))
    );
}

#[tokio::test]
async fn cursors_travel_sealed_and_bound_to_their_caller() {
    let bench = Bench::new().await;
    let session = bench.initialize("2025-11-25").await;
    let page = bench.in_session(&session, r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#).await;
    let cursor = page.json()["result"]["nextCursor"].as_str().unwrap().to_owned();
    assert!(page.text().contains(r#"{"name":"echo","n":1.10}"#));
    assert_ne!(cursor, "page-2");
    let next = |method: &str, cursor: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":2,"method":"{method}","params":{{"cursor":"{cursor}"}}}}"#)
    };
    let second = bench.in_session(&session, &next("tools/list", &cursor)).await;
    assert!(second.json()["result"]["tools"].is_array(), "{}", second.text());
    for (method, cursor) in [("tools/list", "page-2"), ("prompts/list", cursor.as_str()), ("tools/list", "")]
    {
        let answer = bench.in_session(&session, &next(method, cursor)).await;
        assert_eq!(answer.refusal(), (200, -32602, "unknown_handle".to_owned()));
    }
    bench.clock.advance(chrono::Duration::minutes(5));
    bench.issuer.heartbeat();
}

#[tokio::test]
async fn batches_are_split_for_the_revision_that_has_them() {
    let bench = Bench::new().await;
    let batch = format!(
        "[{}, {},{}]",
        call(1, "echo"),
        r#"{"jsonrpc":"2.0","method":"notifications/x"}"#,
        call(2, "stream")
    );
    let session = bench.initialize("2025-03-26").await;
    let answer = bench.in_session(&session, &batch).await;
    let answers = answer.json();
    assert_eq!(
        answers.as_array().unwrap().iter().map(|a| a["id"].as_u64().unwrap()).collect::<Vec<_>>(),
        [1, 2]
    );
    assert!(answer.text().contains("12345678901234567890123"));
    let records: Vec<String> =
        bench.audit().iter().rev().take(3).map(|record| record.action.clone()).collect();
    assert_eq!(records, ["tools/call", "notifications/x", "tools/call"]);
    let later = bench.initialize("2025-06-18").await;
    assert_eq!(bench.in_session(&later, &batch).await.refusal().2, "invalid_message");
    let with_initialize = r#"[{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}]"#;
    assert_eq!(bench.in_session(&session, with_initialize).await.refusal().2, "invalid_message");
}

#[tokio::test]
async fn ping_is_answered_by_the_gateway() {
    let bench = Bench::new().await;
    let session = bench.initialize("2025-11-25").await;
    let seen = bench.server.seen().len();
    let answer = bench.in_session(&session, r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#).await;
    assert_eq!(answer.text(), r#"{"jsonrpc":"2.0","id":"p","result":{}}"#);
    assert_eq!(bench.server.seen().len(), seen);
}

#[tokio::test]
async fn s3_68_subscriptions_and_the_log_level_are_told_again_to_a_server_that_forgot() {
    let bench = Bench::new().await;
    let session = bench.initialize("2025-11-25").await;
    for (method, params) in
        [("resources/subscribe", r#"{"uri":"file:///a"}"#), ("logging/setLevel", r#"{"level":"debug"}"#)]
    {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        assert_eq!(bench.in_session(&session, &body).await.status, 200);
    }
    let before = bench.server.seen().len();
    bench.server.forget();
    assert_eq!(bench.in_session(&session, &call(2, "echo")).await.status, 200);
    let told: Vec<String> = bench.server.seen()[before..]
        .iter()
        .map(|seen| seen.json()["method"].as_str().unwrap_or("").to_owned())
        .collect();
    assert_eq!(
        told,
        [
            "tools/call",
            "initialize",
            "notifications/initialized",
            "logging/setLevel",
            "resources/subscribe",
            "tools/call"
        ]
    );
}

#[tokio::test]
async fn s3_67_completion_passes_through() {
    let bench = Bench::new().await;
    let session = bench.initialize("2025-11-25").await;
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"p"},"argument":{"name":"a","value":"x"},"context":{"arguments":{"b":"c"}}}}"#;
    bench.in_session(&session, body).await;
    assert_eq!(bench.server.last().text(), body);
}

#[tokio::test]
async fn rs_26_a_standing_stream_ends_with_its_token() {
    let bench = Bench::new().await;
    let session = bench.initialize("2025-11-25").await;
    let request = bench.request(Method::GET).header("mcp-session-id", &session).body(Body::empty()).unwrap();
    let response = bench.open(request).await;
    bench.clock.advance(chrono::Duration::hours(1));
    bench.issuer.heartbeat();
    let body = tokio::time::timeout(std::time::Duration::from_secs(5), response.into_body().collect()).await;
    assert!(body.is_ok(), "the stream goes on after its token has expired");
    bench.server.reader_gone().await;
}

#[tokio::test]
async fn s3_34_a_trace_goes_on_at_the_server_wherever_it_came_in() {
    let bench = Bench::new().await;
    let session = bench.initialize("2025-11-25").await;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut request = bench.session_request(&session, &call(1, "echo"));
    request.headers_mut().insert("traceparent", parent.parse().unwrap());
    bench.send(request).await;
    assert_eq!(bench.server.last().headers["traceparent"], parent);
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{{"name":"echo","_meta":{{"traceparent":"{parent}"}}}}}}"#
    );
    bench.in_session(&session, &body).await;
    assert_eq!(bench.server.last().headers["traceparent"], parent);
    assert_eq!(bench.server.last().text(), body);
    assert_eq!(bench.audit().pop().unwrap().trace_id, "0af7651916cd43dd8448eb211c80319c");
}

#[tokio::test]
async fn s3_17_calls_are_counted_by_their_end() {
    let bench = Bench::new().await;
    let session = bench.initialize("2025-11-25").await;
    bench.in_session(&session, &call(1, "echo")).await;
    bench.in_session("nope", &call(1, "echo")).await;
    let page = bench.metrics.render();
    assert!(page.contains("portico_gateway_calls_total{reason=\"ok\"} 3"), "{page}");
    assert!(page.contains("portico_gateway_calls_total{reason=\"unknown_session\"} 1"), "{page}");
}

#[tokio::test]
async fn a_session_that_a_server_opens_with_an_unsound_answer_is_closed_again() {
    let bench = Bench::new().await;
    let body = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"1999-01-01","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;
    // The server agrees to a revision that does not exist.
    assert_eq!(bench.post(body).await.refusal(), (502, -32603, "upstream_not_mcp".to_owned()));
    let told = bench.server.wait_for(|seen| seen.method == Method::DELETE).await;
    assert_eq!(told.headers["mcp-session-id"], "upstream-1");
}

#[tokio::test]
async fn a_server_that_calls_a_forgotten_session_a_bad_request_gets_a_new_one_for_its_stream_too() {
    let bench = Bench::new().await;
    let session = bench.initialize("2025-11-25").await;
    bench.server.refuse_unknown_sessions_as_bad_requests();
    bench.server.forget();
    let request = bench.request(Method::GET).header("mcp-session-id", &session).body(Body::empty()).unwrap();
    assert_eq!(bench.open(request).await.status(), 200);
    assert_eq!(bench.server.last().headers["mcp-session-id"], "upstream-2");
}

#[tokio::test]
async fn a_session_that_is_opened_anew_is_used_by_nobody_before_its_server_has_heard_so() {
    let bench = Bench::new().await;
    let session = bench.initialize("2025-11-25").await;
    for _ in 0..3 {
        bench.server.forget();
        let (one, two) = (call(1, "echo"), call(2, "echo"));
        let calls = [&one, &two, &one, &two, &one, &two].map(|body| bench.in_session(&session, body));
        for answer in futures_util::future::join_all(calls).await {
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    }
    let mut ready = std::collections::HashSet::from(["upstream-1".to_owned()]);
    for seen in bench.server.seen() {
        let Some(id) = seen.headers.get("mcp-session-id") else { continue };
        let id = id.to_str().unwrap().to_owned();
        match seen.json()["method"].as_str() {
            Some("notifications/initialized") => drop(ready.insert(id)),
            Some("tools/call") => assert!(ready.contains(&id), "{id} is called too early"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_notification_that_the_server_does_not_take_is_refused_as_the_server_refuses_it() {
    let bench = Bench::new().await;
    let session = bench.initialize("2025-11-25").await;
    let answer = bench.in_session(&session, r#"{"jsonrpc":"2.0","method":"notifications/refused"}"#).await;
    assert_eq!((answer.status.as_u16(), answer.json()["error"]["message"].as_str()), (400, Some("not now")));
    let answer = bench.in_session(&session, r#"{"jsonrpc":"2.0","method":"notifications/taken"}"#).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (202, ""));
}

#[tokio::test]
async fn an_answer_that_the_gateway_waits_for_ends_in_time_though_its_server_keeps_the_stream_busy() {
    let bench = Bench::with(|settings| settings.upstream.idle_timeout_ms = 300).await;
    let body = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"patient","version":"1"}}}"#;
    let answer = tokio::time::timeout(std::time::Duration::from_secs(10), bench.post(body)).await;
    assert_eq!(answer.expect("it ends").refusal(), (504, -32603, "upstream_timeout".to_owned()));
}
