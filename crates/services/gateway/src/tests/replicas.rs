//! Two gateways of one deployment, to which the messages of one agent come as a balancer likes.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::Method;
use http_body_util::BodyExt;
use portico_mcp_types::sse::Decoder;

use crate::session::Sessions;
use crate::session_era::expiry;
use crate::testing::{Bench, Read, call};

/// Two gateways that hear of each other.
async fn two() -> (Bench, Bench) {
    two_with(|_| {}).await
}

async fn two_with(edit: impl FnOnce(&mut crate::GatewaySettings)) -> (Bench, Bench) {
    let a = Bench::with(edit).await;
    let b = a.replica(8);
    a.meet();
    a.hears_of(0).await;
    b.meet();
    b.hears_of(1).await;
    a.hears_of(1).await;
    (a, b)
}

fn get(bench: &Bench, session: &str) -> http::request::Builder {
    bench.request(Method::GET).header("mcp-session-id", session)
}

async fn open_get(bench: &Bench, session: &str) -> Response {
    bench.open(get(bench, session).body(Body::empty()).unwrap()).await
}

async fn resume(bench: &Bench, session: &str, last: &str) -> Response {
    bench.open(get(bench, session).header("last-event-id", last).body(Body::empty()).unwrap()).await
}

async fn delete(bench: &Bench, session: &str) -> Read {
    let request = bench.request(Method::DELETE).header("mcp-session-id", session);
    bench.send(request.body(Body::empty()).unwrap()).await
}

/// Reads a stream until an event has brought this, and gives the event's id.
async fn id_of(body: &mut Body, wanted: &str) -> String {
    let mut decoder = Decoder::new(1 << 20);
    loop {
        while let Some(event) = decoder.next_event().unwrap() {
            if String::from_utf8_lossy(&event.data).contains(wanted) {
                return String::from_utf8(event.id.unwrap().to_vec()).unwrap();
            }
        }
        let frame = body.frame().await.expect("the stream goes on").unwrap();
        decoder.push(&frame.into_data().unwrap());
    }
}

/// What is left of a stream that is expected to end.
async fn rest(response: Response) -> Read {
    tokio::time::timeout(Duration::from_secs(20), Read::of(response)).await.expect("the stream ends")
}

fn cancelled(id: u32) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#)
}

fn deletes(bench: &Bench) -> usize {
    bench.server.seen().iter().filter(|seen| seen.method == Method::DELETE).count()
}

/// Ends what has expired, as one of the gateways does from time to time.
async fn sweep(bench: &Bench) {
    expiry::sweep(bench.engine(), &mut None).await.unwrap();
}

#[tokio::test]
async fn s3_49_a_session_goes_on_at_any_gateway_and_its_server_sees_one() {
    let (a, b) = two().await;
    let session = a.initialize("2025-11-25").await;
    for (bench, id) in [(&b, 1), (&a, 2), (&b, 3)] {
        let answer = bench.in_session(&session, &call(id, "echo")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(a.server.sessions(), 1);
    let calls = a.server.seen().into_iter().filter(|seen| seen.json()["method"] == "tools/call");
    assert!(calls.into_iter().all(|seen| seen.headers["mcp-session-id"] == "upstream-1"));
    let bob = b.token_of(&b.issuer.user(), "demo");
    let mut foreign = b.session_request(&session, &call(4, "echo"));
    foreign.headers_mut().insert("authorization", format!("Bearer {bob}").parse().unwrap());
    assert_eq!(b.send(foreign).await.refusal().2, "unknown_session");
}

#[tokio::test]
async fn s3_27_a_call_is_resumed_at_another_gateway_with_what_was_missed() {
    let (a, b) = two().await;
    let session = a.initialize("2025-11-25").await;
    let mut body = a.open(a.session_request(&session, &call(2, "hold"))).await.into_body();
    let primed = id_of(&mut body, "").await;
    drop(body);
    let resumed = resume(&b, &session, &primed).await;
    assert_eq!(resumed.headers()["content-type"], "text/event-stream");
    let mut body = resumed.into_body();
    let progress = id_of(&mut body, "progress").await;
    drop(body);
    // Coming back a second time, with the event that the other gateway passed on.
    let resumed = resume(&b, &session, &progress).await;
    a.server.release();
    let answer = rest(resumed).await;
    let events = answer.events();
    assert_eq!(events.len(), 1, "{}", answer.text());
    assert!(String::from_utf8_lossy(&events[0].data).contains(r#""id":2,"result""#));
    let again = rest(resume(&b, &session, &primed).await).await;
    assert_eq!(again.events().len(), 2, "an answer is kept for a while");
}

#[tokio::test]
async fn s3_27_the_stream_of_another_session_cannot_be_resumed() {
    let (a, b) = two().await;
    let session = a.initialize("2025-11-25").await;
    let other = b.initialize("2025-11-25").await;
    let mut body = a.open(a.session_request(&session, &call(2, "hold"))).await.into_body();
    let primed = id_of(&mut body, "").await;
    let stolen = rest(resume(&b, &other, &primed).await).await;
    assert!(stolen.text().contains("upstream_lost") && !stolen.text().contains("progress"));
}

#[tokio::test]
async fn s3_69_a_question_is_answered_through_another_gateway() {
    let (a, b) = two().await;
    let session = a.initialize("2025-11-25").await;
    let response = a.open(a.session_request(&session, &call(2, "ask"))).await;
    let mut body = response.into_body();
    id_of(&mut body, "elicitation/create").await;
    let answer = b.in_session(&session, r#"{"jsonrpc":"2.0","id":"q-1","result":{"action":"accept"}}"#).await;
    assert_eq!(answer.status, 202);
    let done = body.collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&done).contains(r#""said":{"action":"accept"}"#));
}

#[tokio::test]
async fn a_call_is_cancelled_through_another_gateway_also_before_its_server_answers() {
    let (a, b) = two().await;
    let session = a.initialize("2025-11-25").await;
    for (id, tool, cancellations) in [(2, "hold", 1), (3, "slow", 2)] {
        let running = async { rest(a.open(a.session_request(&session, &call(id, tool))).await).await };
        let cancelling = async {
            a.server.wait_for(|seen| seen.json()["id"] == id).await;
            b.in_session(&session, &cancelled(id)).await.status
        };
        let (ended, told) = tokio::join!(running, cancelling);
        assert_eq!(told, 202);
        assert!(!ended.text().contains("result"), "a cancelled call has no answer");
        assert_eq!(a.audit().iter().filter(|record| record.reason == "cancelled").count(), cancellations);
    }
}

#[tokio::test]
async fn with_the_session_its_streams_end_everywhere_and_its_server_is_told_once() {
    let (a, b) = two().await;
    let session = a.initialize("2025-11-25").await;
    b.in_session(&session, &call(1, "echo")).await;
    let mut stream = open_get(&a, &session).await;
    id_of(stream.body_mut(), "list_changed").await;
    let held = a.open(a.session_request(&session, &call(2, "hold"))).await;
    assert_eq!(delete(&b, &session).await.status, 204);
    let (_, held) = tokio::join!(rest(stream), rest(held));
    assert!(!held.text().contains("result"), "{}", held.text());
    a.server.wait_for(|seen| seen.method == Method::DELETE).await;
    for bench in [&a, &b] {
        assert_eq!(bench.in_session(&session, &call(3, "echo")).await.refusal().2, "unknown_session");
        sweep(bench).await;
    }
    assert_eq!((deletes(&a), a.server.sessions()), (1, 0));
    assert_eq!(delete(&a, &session).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_49_once_a_session_is_deleted_no_gateway_takes_a_request_for_it() {
    let (a, b) = two().await;
    for _ in 0..50 {
        let session = a.initialize("2025-11-25").await;
        assert_eq!(b.in_session(&session, &call(1, "echo")).await.status, 200);
        assert_eq!(delete(&a, &session).await.status, 204);
        assert_eq!(b.in_session(&session, &call(2, "echo")).await.status, 404);
    }
}

#[tokio::test]
async fn a_get_stream_moves_to_the_gateway_at_which_its_agent_comes_back() {
    let (a, b) = two().await;
    let session = a.initialize("2025-11-25").await;
    let mut stream = open_get(&a, &session).await.into_body();
    let primed = id_of(&mut stream, "").await;
    id_of(&mut stream, "list_changed").await;
    // The agent's connection is half open: its old gateway does not know that it has gone.
    let (moved, old) = tokio::join!(resume(&b, &session, &primed), stream.collect());
    assert!(old.unwrap().to_bytes().is_empty(), "the old stream has ended");
    a.server.reader_gone().await;
    let mut moved = moved.into_body();
    let replayed = id_of(&mut moved, "list_changed").await;
    let own = id_of(&mut moved, "list_changed").await;
    assert!(replayed.contains(&*a.engine().replicas.id), "{replayed}");
    assert!(own.contains(&*b.engine().replicas.id), "{own}");
}

#[tokio::test]
async fn s2_29_after_the_death_of_its_gateway_an_agent_learns_which_call_is_lost_and_goes_on() {
    let (a, b) = two().await;
    let session = a.initialize("2025-11-25").await;
    let mut call_body = a.open(a.session_request(&session, &call(7, "hold"))).await.into_body();
    let of_call = id_of(&mut call_body, "progress").await;
    let mut stream = open_get(&a, &session).await.into_body();
    let of_stream = id_of(&mut stream, "list_changed").await;
    drop((call_body, stream));
    a.tasks.abort();
    a.tasks.wait(Duration::from_secs(5)).await;
    let lost = rest(resume(&b, &session, &of_call).await).await;
    let error: serde_json::Value = serde_json::from_slice(&lost.events()[0].data).unwrap();
    assert_eq!(
        (&error["id"], &error["error"]["code"], &error["error"]["data"]["reason"]),
        (&7.into(), &(-32603).into(), &"upstream_lost".into())
    );
    let mut stream = resume(&b, &session, &of_stream).await.into_body();
    id_of(&mut stream, "list_changed").await;
    assert_eq!(b.in_session(&session, &call(8, "echo")).await.status, 200);
    assert_eq!(b.server.sessions(), 1);
}

#[tokio::test]
async fn s2_29_an_expired_session_is_closed_once_although_the_gateway_that_opened_it_is_dead() {
    let (a, b) = two_with(|settings| settings.sessions.idle_seconds = 600).await;
    let (used, unused) = (a.initialize("2025-11-25").await, a.initialize("2025-11-25").await);
    a.tasks.abort();
    a.tasks.wait(Duration::from_secs(5)).await;
    sweep(&b).await;
    for _ in 0..10 {
        b.clock.advance(chrono::Duration::seconds(100));
        b.issuer.heartbeat();
        assert_eq!(b.in_session(&used, &call(1, "echo")).await.status, 200);
        sweep(&b).await;
    }
    assert_eq!((deletes(&b), b.server.sessions()), (1, 1));
    assert_eq!(b.in_session(&unused, &call(1, "echo")).await.status, 404);
    let stream = open_get(&b, &used).await;
    for _ in 0..10 {
        b.clock.advance(chrono::Duration::seconds(100));
        b.issuer.heartbeat();
        sweep(&b).await;
    }
    rest(stream).await;
    assert_eq!((deletes(&b), b.server.sessions()), (2, 0));
}

#[tokio::test]
async fn a_server_that_could_not_be_told_of_an_end_is_told_later() {
    let (a, _b) = two_with(|settings| settings.sessions.idle_seconds = 60).await;
    let session = a.initialize("2025-11-25").await;
    sweep(&a).await;
    // Nothing listens at the server's address any more.
    let mut items = a.demo();
    if let Some(portico_proto_registry::catalogue_item::Value::Instance(item)) = &mut items[1].1.value {
        item.url = "http://127.0.0.1:9/mcp".to_owned();
    }
    a.catalogue(items);
    a.clock.advance(chrono::Duration::seconds(120));
    sweep(&a).await;
    assert_eq!(a.server.sessions(), 1);
    a.catalogue(a.demo());
    a.clock.advance(chrono::Duration::seconds(60));
    a.issuer.heartbeat();
    sweep(&a).await;
    assert_eq!((deletes(&a), a.server.sessions()), (1, 0));
    assert_eq!(a.in_session(&session, &call(1, "echo")).await.status, 404);
}

#[tokio::test]
async fn s0_26_a_gateway_that_drains_leaves_its_sessions_to_the_others() {
    let (a, b) = two().await;
    let session = a.initialize("2025-11-25").await;
    let stream = open_get(&a, &session).await;
    let held = a.open(a.session_request(&session, &call(2, "hold"))).await;
    a.tasks.trigger_shutdown();
    rest(stream).await;
    // A call that is still running can be cancelled and resumed elsewhere until it has ended.
    b.server.release();
    assert!(rest(held).await.text().contains("result"));
    assert!(a.tasks.wait(Duration::from_secs(10)).await.is_clean());
    assert_eq!((deletes(&b), b.server.sessions()), (0, 1));
    let answer = b.in_session(&session, &call(3, "echo")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(b.server.sessions(), 1);
}

#[tokio::test]
async fn what_an_agent_set_at_one_gateway_is_told_to_a_server_that_another_one_opens_anew() {
    let (a, b) = two().await;
    let session = a.initialize("2025-11-25").await;
    b.in_session(&session, &call(1, "echo")).await;
    let level = r#"{"jsonrpc":"2.0","id":2,"method":"logging/setLevel","params":{"level":"error"}}"#;
    let uri = r#"{"jsonrpc":"2.0","id":3,"method":"resources/subscribe","params":{"uri":"file:///a"}}"#;
    a.in_session(&session, level).await;
    b.in_session(&session, uri).await;
    a.server.forget();
    assert_eq!(b.in_session(&session, &call(4, "echo")).await.status, 200);
    let told = |method: &str| {
        let seen = b.server.seen();
        seen.iter().filter(|seen| seen.json()["method"] == method).count()
    };
    assert_eq!((told("logging/setLevel"), told("resources/subscribe")), (2, 2));
    assert_eq!(a.in_session(&session, &call(5, "echo")).await.status, 200);
    assert_eq!(a.server.sessions(), 1, "the other gateway finds what was opened anew");
}

#[tokio::test]
async fn sessions_at_hand_survive_the_loss_of_the_shared_map_and_ended_ones_do_not_come_back() {
    // No letters: neither of them tells the other, or looks by itself.
    let a = Bench::new().await;
    let b = a.replica(8);
    let map = a.coordination.ttl_map("gateway");
    let (session, ended) = (a.initialize("2025-11-25").await, a.initialize("2025-11-25").await);
    let called = a.initialize("2025-11-25").await;
    assert_eq!(a.engine().sessions.restore_if_lost().await.unwrap(), None);
    a.clock.advance(chrono::Duration::minutes(2));
    a.issuer.heartbeat();
    assert_eq!(a.in_session(&session, &call(1, "echo")).await.status, 200);
    assert_eq!(a.in_session(&ended, &call(1, "echo")).await.status, 200);
    assert_eq!(a.in_session(&called, &call(1, "echo")).await.status, 200);
    // Ended elsewhere, and the letter was lost.
    map.remove(&Sessions::key_of(&ended)).await.unwrap();
    a.clock.advance(chrono::Duration::minutes(2));
    a.issuer.heartbeat();
    assert_eq!(a.in_session(&ended, &call(2, "echo")).await.status, 404);
    // Emptied.
    for key in [Sessions::key_of(&session), Sessions::key_of(&called), "epoch".to_owned()] {
        map.remove(&key).await.unwrap();
    }
    a.clock.advance(chrono::Duration::seconds(61));
    a.issuer.heartbeat();
    assert_eq!(b.in_session(&session, &call(3, "echo")).await.status, 404);
    // A call that notices it first leaves the others to be put back.
    assert_eq!(a.in_session(&called, &call(3, "echo")).await.status, 200);
    assert_eq!(a.engine().sessions.restore_if_lost().await.unwrap(), Some(1));
    assert_eq!(b.in_session(&session, &call(4, "echo")).await.status, 200);
    assert_eq!(a.server.sessions(), 3, "one of which the wheel closes");
}

#[tokio::test]
async fn a_session_that_nobody_asks_for_costs_the_shared_map_nothing() {
    let a = Bench::new().await;
    let session = a.initialize("2025-11-25").await;
    let map = a.coordination.ttl_map("gateway");
    // Trusted for a while: not even its absence is noticed.
    map.remove(&Sessions::key_of(&session)).await.unwrap();
    a.clock.advance(chrono::Duration::seconds(59));
    for id in 0..10 {
        assert_eq!(a.in_session(&session, &call(id, "echo")).await.status, 200);
    }
    a.clock.advance(chrono::Duration::seconds(2));
    assert_eq!(a.in_session(&session, &call(11, "echo")).await.status, 404);
}

#[tokio::test]
async fn s3_49_any_of_three_gateways_finds_what_runs_on_another_one() {
    let (a, b) = two().await;
    let c = a.replica(9);
    c.meet();
    for bench in [&a, &b, &c] {
        bench.hears_of(2).await;
    }
    let session = a.initialize("2025-11-25").await;
    let mut held = a.open(a.session_request(&session, &call(2, "hold"))).await.into_body();
    let primed = id_of(&mut held, "").await;
    let other = b.open(b.session_request(&session, &call(3, "hold"))).await;
    drop(held);
    let resumed = resume(&c, &session, &primed).await;
    assert_eq!(c.in_session(&session, &cancelled(3)).await.status, 202);
    assert!(!rest(other).await.text().contains("result"));
    assert_eq!(c.in_session(&session, &cancelled(2)).await.status, 202);
    let ended = rest(resumed).await;
    assert!(ended.text().contains("progress") && !ended.text().contains("result"), "{}", ended.text());
    let streams = [open_get(&a, &session).await, open_get(&b, &session).await];
    assert_eq!(delete(&c, &session).await.status, 204);
    for stream in streams {
        rest(stream).await;
    }
    a.server.wait_for(|seen| seen.method == Method::DELETE).await;
    for bench in [&a, &b, &c] {
        assert_eq!(bench.in_session(&session, &call(4, "echo")).await.status, 404);
    }
    assert_eq!((deletes(&a), a.server.sessions()), (1, 0));
}

#[tokio::test]
async fn a_session_that_has_just_expired_is_not_kept_by_the_agent_that_comes_back() {
    let (a, b) = two_with(|settings| settings.sessions.idle_seconds = 60).await;
    let session = a.initialize("2025-11-25").await;
    a.clock.advance(chrono::Duration::seconds(90));
    a.issuer.heartbeat();
    // The other gateway has noticed, and its letter is under way.
    assert!(b.engine().sessions.end_if_expired(&session).await.unwrap());
    for bench in [&a, &b] {
        assert_eq!(bench.in_session(&session, &call(1, "echo")).await.status, 404);
    }
}

#[tokio::test]
async fn an_answer_that_is_too_large_to_be_kept_is_said_to_be_lost_and_not_withheld() {
    let (a, b) = two().await;
    let session = a.initialize("2025-11-25").await;
    let mut body = a.open(a.session_request(&session, &call(7, "huge"))).await.into_body();
    let progress = id_of(&mut body, "progress").await;
    drop(body);
    // One agent is back before the answer comes, at each gateway.
    let waiting = [resume(&a, &session, &progress).await, resume(&b, &session, &progress).await];
    a.server.release();
    for waiting in waiting {
        let lost = rest(waiting).await;
        assert!(
            lost.text().contains(r#""id":7"#) && lost.text().contains("upstream_lost"),
            "{}",
            lost.text()
        );
    }
    for bench in [&a, &b] {
        let lost = rest(resume(bench, &session, &progress).await).await;
        assert!(
            lost.text().contains(r#""id":7"#) && lost.text().contains("upstream_lost"),
            "{}",
            lost.text()
        );
    }
}

#[tokio::test]
async fn what_passed_through_this_deployment_is_not_let_in_again() {
    let (a, b) = two().await;
    assert_eq!(a.stateless_call("echo", "").await.status, 200);
    let via = a.server.seen().pop().unwrap().headers["via"].to_str().unwrap().to_owned();
    let with = |bench: &Bench, via: &str| {
        let request = bench.stateless_request("echo").header("via", via);
        request.body(Body::from(crate::testing::stateless_body("echo", ""))).unwrap()
    };
    for (bench, via) in [(&a, via.clone()), (&b, format!("1.0 proxy, {via}, 1.1 other"))] {
        let seen = bench.server.seen().len();
        let answer = bench.send(with(bench, &via)).await;
        bench.assert_refused(&answer, (508, -32600, "loop_detected"), seen);
    }
    a.engine().upstream.hop.renew();
    for foreign in ["1.1 portico-AAAA", "1.1 proxy", "portico-", ""] {
        assert_eq!(a.send(with(&a, foreign)).await.status, 200, "{foreign}");
    }
}

#[tokio::test]
async fn only_what_a_server_agreed_to_is_remembered_and_told_again() {
    let a = Bench::new().await;
    let session = a.initialize("2025-11-25").await;
    let subscribe = |uri: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":2,"method":"resources/subscribe","params":{{"uri":"{uri}"}}}}"#)
    };
    let level = |level: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":3,"method":"logging/setLevel","params":{{"level":"{level}"}}}}"#)
    };
    let known = a.engine().sessions.at_hand(&session).unwrap();
    for body in [subscribe("file:///refused"), level("nonsense")] {
        assert!(a.in_session(&session, &body).await.text().contains("-32601"));
    }
    assert!(known.record().subscriptions.is_empty() && known.record().log_level.is_none());
    for body in [subscribe("file:///a"), subscribe("file:///events"), level("error")] {
        assert!(a.in_session(&session, &body).await.text().contains(r#""result":{}"#));
    }
    while known.record().subscriptions.len() < 2 {
        tokio::task::yield_now().await;
    }
    assert!(known.record().log_level.is_some());
}
