//! What one caller may take of a gateway that others use as well.

use std::time::Duration;

use axum::body::Body;
use http::Method;
use http_body_util::BodyExt;

use crate::session::{Binding, Record};
use crate::testing::{Bench, call};

fn batch(tools: &[&str]) -> String {
    let calls: Vec<String> = (1..).zip(tools).map(|(id, tool)| call(id, tool)).collect();
    format!("[{}]", calls.join(","))
}

#[tokio::test]
async fn every_message_of_a_batch_counts_against_the_rate() {
    let bench = Bench::with(|settings| {
        settings.limits.principal_burst = 4;
        settings.limits.principal_per_minute = 1;
    })
    .await;
    let session = bench.initialize("2025-03-26").await;
    let answers = bench.in_session(&session, &batch(&["echo", "echo", "echo"])).await.json();
    let reason = |at: usize| answers[at]["error"]["data"]["reason"].as_str();
    assert_eq!((reason(0), reason(1), reason(2)), (None, None, Some("rate_limited")), "{answers}");
    let records = bench.audit();
    let record = &records[records.len() - 2];
    assert_eq!((record.action.as_str(), record.name.as_str()), ("tools/call", "echo"));
}

#[tokio::test]
async fn the_answers_of_a_batch_take_no_more_memory_than_one_answer() {
    let bench = Bench::with(|settings| settings.upstream.max_event_bytes = 1_000_000).await;
    let session = bench.initialize("2025-03-26").await;
    let answers = bench.in_session(&session, &batch(&["large", "large", "echo"])).await.json();
    assert!(answers[0]["result"].is_object());
    assert_eq!(answers[1]["error"]["data"]["reason"], "upstream_not_mcp");
    assert!(answers[2]["result"].is_object(), "a small one still has room");
}

#[tokio::test]
async fn a12_a_principal_has_only_so_many_calls_and_streams_open() {
    let bench = Bench::with(|settings| settings.limits.principal_open = 1).await;
    let session = bench.initialize("2025-11-25").await;
    let get = bench.request(Method::GET).header("mcp-session-id", &session).body(Body::empty()).unwrap();
    let stream = bench.open(get).await;
    let seen = bench.server.seen().len();
    let refused = bench.in_session(&session, &call(1, "echo")).await;
    assert_eq!(refused.headers["retry-after"], "1");
    bench.assert_refused(&refused, (429, -32000, "rate_limited"), seen);
    drop(stream);
    // What was answered and is not read takes its place as well: somebody keeps it.
    let unread = bench.open(bench.session_request(&session, &call(1, "echo"))).await;
    assert_eq!(unread.status(), 200);
    assert_eq!(bench.in_session(&session, &call(2, "echo")).await.status, 429);
    drop(unread);
    assert_eq!(bench.in_session(&session, &call(2, "echo")).await.status, 200);
}

#[tokio::test]
async fn rs_30_one_principal_cannot_push_out_the_sessions_of_others() {
    let bench = Bench::with(|settings| settings.sessions.per_principal = 2_000).await;
    let sessions = &bench.engine().sessions;
    let record = |subject: &str| Record {
        binding: Binding { subject: subject.into(), client: "c".into(), endpoint: "e".into() },
        revision: portico_mcp_types::Revision::V2025_11_25,
        initialize: format!("{{\"clientInfo\":\"{}\"}}", "x".repeat(60_000)),
        log_level: None,
        subscriptions: Vec::new(),
    };
    let other = sessions.create(record("user:other")).await.unwrap();
    let first = sessions.create(record("user:greedy")).await.unwrap();
    for _ in 0..100 {
        sessions.create(record("user:greedy")).await.unwrap();
    }
    assert!(sessions.find(&other.id, |binding| binding.subject == "user:other").await.is_ok());
    assert!(sessions.find(&first.id, |_| true).await.is_err());
    assert!(first.ended.is_cancelled());
}

#[tokio::test]
async fn rs_26_a_resumed_stream_ends_with_the_token_that_resumed_it() {
    let bench = Bench::new().await;
    let session = bench.initialize("2025-11-25").await;
    let mut body = bench.open(bench.session_request(&session, &call(2, "hold"))).await.into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    let claims = bench.issuer.claims(
        &bench.alice,
        &format!("{}/demo/mcp", crate::catalogue::testing::ORIGIN),
        portico_oauth_types::ScopeSet::parse("mcp").unwrap(),
    );
    let mut resume = bench
        .request(Method::GET)
        .header("mcp-session-id", &session)
        .header("last-event-id", "0-1")
        .body(Body::empty())
        .unwrap();
    let token = format!("Bearer {}", bench.issuer.mint(&claims));
    resume.headers_mut().insert("authorization", token.parse().unwrap());
    let resumed = bench.open(resume).await;
    assert_eq!(resumed.status(), 200);
    bench.issuer.revoke_token(&claims.jti);
    let ended = tokio::time::timeout(Duration::from_secs(5), resumed.into_body().collect()).await;
    assert!(ended.is_ok(), "the resumed stream goes on after the revocation");
}

#[tokio::test]
async fn rs_26_a_server_that_never_pauses_hides_no_revocation() {
    let bench = Bench::new().await;
    let session = bench.initialize("2025-11-25").await;
    let mut body = bench.open(bench.session_request(&session, &call(2, "flood"))).await.into_body();
    body.frame().await.unwrap().unwrap();
    bench.issuer.revoke_principal(&bench.alice, crate::testing::start() + chrono::Duration::hours(1));
    let ended = tokio::time::timeout(Duration::from_secs(5), async {
        while let Some(frame) = body.frame().await {
            frame.unwrap();
        }
    });
    assert!(ended.await.is_ok(), "the stream goes on after the revocation");
}

/// The value of a counter of what was turned away.
fn shed(bench: &Bench, reason: &str) -> u32 {
    let text = bench.metrics.render();
    let line = format!("portico_gateway_shed_total{{reason=\"{reason}\"}} ");
    text.lines().find_map(|l| l.strip_prefix(&line)).and_then(|value| value.parse().ok()).unwrap_or(0)
}

fn anonymous(bench: &Bench) -> http::Request<Body> {
    let mut request = bench.request(Method::POST).body(Body::from(call(1, "echo"))).unwrap();
    request.headers_mut().remove("authorization");
    request
}

#[tokio::test]
async fn a12_at_overload_callers_without_a_token_are_turned_away_first_and_all_are_told_when_to_come_back() {
    let bench = Bench::with(|settings| {
        settings.limits.open_calls = 2;
        settings.limits.open_calls_reserve = 1;
    })
    .await;
    let session = bench.initialize("2025-11-25").await;
    let first = bench.open(bench.session_request(&session, &call(1, "hold"))).await;
    let refused = bench.send(anonymous(&bench)).await;
    assert_eq!(refused.refusal(), (503, -32603, "overloaded".to_owned()));
    assert_eq!(refused.headers["retry-after"], "1");
    let second = bench.open(bench.session_request(&session, &call(2, "hold"))).await;
    let seen = bench.server.seen().len();
    let refused = bench.in_session(&session, &call(3, "echo")).await;
    assert_eq!(refused.refusal(), (503, -32603, "overloaded".to_owned()));
    assert_eq!(bench.server.seen().len(), seen, "the server was touched");
    assert_eq!((shed(&bench, "anonymous"), shed(&bench, "open_calls")), (1, 1));
    bench.server.release();
    bench.server.release();
    for held in [first, second] {
        held.into_body().collect().await.unwrap();
    }
    assert_eq!(bench.send(anonymous(&bench)).await.status, 401);
    assert_eq!(bench.in_session(&session, &call(4, "echo")).await.status, 200);
}

#[tokio::test]
async fn standing_streams_have_places_of_their_own() {
    let bench = Bench::with(|settings| {
        settings.limits.open_calls = 1;
        settings.limits.open_calls_reserve = 0;
        settings.limits.open_streams = 1;
    })
    .await;
    let session = bench.initialize("2025-11-25").await;
    let get = || bench.request(Method::GET).header("mcp-session-id", &session).body(Body::empty()).unwrap();
    let stream = bench.open(get()).await;
    assert_eq!(stream.status(), 200);
    assert_eq!(bench.in_session(&session, &call(1, "echo")).await.status, 200);
    let refused = bench.send(get()).await;
    assert_eq!(refused.refusal(), (503, -32603, "overloaded".to_owned()));
    let record = bench.audit().pop().unwrap();
    assert_eq!((record.principal, record.reason.as_str()), (bench.alice.to_string(), "overloaded"));
    assert_eq!(shed(&bench, "open_streams"), 1);
    drop(stream);
    assert_eq!(bench.open(get()).await.status(), 200);
}

#[tokio::test]
async fn a_stream_whose_agent_does_not_read_is_dropped_and_its_server_is_let_go() {
    let bench = Bench::new().await;
    let request =
        bench.stateless_request("flood").body(Body::from(crate::testing::stateless_body("flood", "")));
    let mut body = bench.open(request.unwrap()).await.into_body();
    body.frame().await.unwrap().unwrap();
    let readers = &bench.engine().readers;
    let patience = Duration::from_secs(bench.engine().settings.limits.slow_reader_seconds);
    readers.let_go_of_slow(tokio::time::Instant::now() + patience / 2);
    body.frame().await.unwrap().unwrap();
    readers.let_go_of_slow(tokio::time::Instant::now() + patience * 2);
    bench.server.reader_gone().await;
    assert!(body.frame().await.unwrap().is_err(), "the agent sees that the stream was cut");
    assert_eq!(shed(&bench, "slow_reader"), 1);
    // One that waits for its server is not slow.
    let session = bench.initialize("2025-11-25").await;
    let mut held = bench.open(bench.session_request(&session, &call(2, "hold"))).await.into_body();
    let mut text = String::new();
    while !text.contains("progress") {
        text.push_str(
            std::str::from_utf8(&held.frame().await.unwrap().unwrap().into_data().unwrap()).unwrap(),
        );
    }
    {
        let mut waiting = std::pin::pin!(held.frame());
        let waker = std::task::Waker::noop();
        assert!(
            std::future::Future::poll(waiting.as_mut(), &mut std::task::Context::from_waker(waker))
                .is_pending()
        );
    }
    readers.let_go_of_slow(tokio::time::Instant::now() + patience * 2);
    bench.server.release();
    assert!(held.collect().await.is_ok());
    assert_eq!(shed(&bench, "slow_reader"), 1);
}

#[tokio::test]
async fn a16_tokens_of_a_clock_that_is_ahead_are_refused_beyond_the_leeway_and_counted() {
    let bench = Bench::new().await;
    let issued_after = |seconds: i64| {
        let mut claims = bench.issuer.claims(
            &bench.alice,
            &format!("{}/demo/mcp", crate::catalogue::testing::ORIGIN),
            portico_oauth_types::ScopeSet::parse("mcp").unwrap(),
        );
        claims.iat += seconds;
        claims.exp += seconds;
        let mut request = bench.request(Method::POST).body(Body::from(call(1, "echo"))).unwrap();
        let token = format!("Bearer {}", bench.issuer.mint(&claims));
        request.headers_mut().insert("authorization", token.parse().unwrap());
        request
    };
    for seconds in [-45, 45] {
        // Only the session is missing.
        assert_eq!(bench.send(issued_after(seconds)).await.refusal().2, "session_required");
    }
    let refused = bench.send(issued_after(120)).await;
    assert_eq!(refused.refusal().2, "invalid_token");
    assert!(refused.text().contains("120 s") && refused.text().contains("clock"), "{}", refused.text());
    assert!(bench.metrics.render().contains("portico_gateway_clock_skew_refusals_total 1"));
}

#[tokio::test]
async fn s3_31_what_is_refused_to_a_known_caller_is_recorded_under_its_name() {
    let bench = Bench::with(|settings| {
        settings.limits.principal_burst = 1;
        settings.limits.principal_per_minute = 1;
    })
    .await;
    assert_eq!(bench.post(&call(1, "echo")).await.refusal().2, "session_required");
    let refused = bench.post(&call(2, "echo")).await;
    assert_eq!(refused.refusal(), (429, -32000, "rate_limited".to_owned()));
    assert!(refused.headers.contains_key("retry-after"));
    let record = bench.audit().pop().unwrap();
    assert_eq!((record.principal, record.reason.as_str()), (bench.alice.to_string(), "rate_limited"));
    assert_eq!(shed(&bench, "rate"), 1);
}

#[tokio::test]
async fn a12_a_caller_that_is_turned_away_over_and_over_fills_no_spool() {
    let bench = Bench::with(|settings| {
        settings.limits.principal_burst = 1;
        settings.limits.principal_per_minute = 1;
        settings.limits.anonymous_records_per_minute = 3;
    })
    .await;
    for _ in 0..20 {
        bench.post(&call(1, "echo")).await;
    }
    assert_eq!(bench.audit().len(), 1 + 3);
}
