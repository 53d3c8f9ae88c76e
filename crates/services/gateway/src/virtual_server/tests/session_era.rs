use axum::body::Body;
use axum::response::Response;
use http::Method;
use http_body_util::BodyExt;
use portico_mcp_types::sse::Decoder;
use portico_proto_registry::Names;
use serde_json::{Value, json};

use super::member::{Setup, tools};
use super::{Virtual, choose, warnings};
use crate::catalogue::testing::endpoint;

/// The next message on a stream.
pub(super) async fn next_message(body: &mut Body) -> Value {
    let mut decoder = Decoder::new(1 << 20);
    loop {
        while let Some(event) = decoder.next_event().unwrap() {
            if !event.data.is_empty() {
                return serde_json::from_slice(&event.data).unwrap();
            }
        }
        let frame = body.frame().await.expect("the stream goes on").unwrap();
        decoder.push(&frame.into_data().unwrap());
    }
}

async fn stream_of(bench: &Virtual, session: &str) -> Response {
    let get = bench.bench.request(Method::GET).header("mcp-session-id", session);
    let response = bench.bench.open(get.body(Body::empty()).unwrap()).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (200, &"text/event-stream".parse().unwrap())
    );
    response
}

#[tokio::test]
async fn initialize_says_what_the_live_members_can_and_opens_no_session_twice() {
    let one = Setup { capabilities: json!({"tools": {}, "logging": {}}), ..Setup::default() };
    let two =
        Setup { capabilities: json!({"resources": {"subscribe": true}, "tasks": {}}), ..Setup::default() };
    let bench = Virtual::new(Names::Plain, vec![one, two]).await;
    let body = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2099-01-01","capabilities":{"roots":{}}}}"#;
    let answer = bench.bench.post(body).await;
    let session = answer.headers["mcp-session-id"].to_str().unwrap().to_owned();
    let result = answer.json()["result"].clone();
    assert_eq!(result["protocolVersion"], "2025-11-25");
    assert_eq!(result["capabilities"], json!({"tools": {}, "logging": {}, "resources": {"subscribe": true}}));
    assert_eq!(result["instructions"], "one: about one\n\ntwo: about two");
    assert!(warnings(&json!({"result": result})).is_empty());
    bench.ask(&session, "tools/list", json!({})).await;
    assert_eq!(
        (bench.members[0].seen("initialize").len(), bench.members[0].seen("notifications/initialized").len()),
        (1, 1)
    );
    // What the servers can is known now: the next session opens theirs when it needs them.
    let again = bench.bench.post(body).await;
    assert_eq!(again.status, 200);
    assert_eq!(bench.members[0].seen("initialize").len(), 1);
}

#[tokio::test]
async fn a_question_of_a_member_is_answered_to_that_member_under_its_own_id() {
    let bench = Virtual::new(Names::Prefixed, vec![Setup::default(), Setup::default()]).await;
    let session = bench.open().await;
    let call = json!({"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": {"name": "two__ask"}})
        .to_string();
    let response = bench.bench.open(bench.bench.session_request(&session, &call)).await;
    let mut body = response.into_body();
    let question = next_message(&mut body).await;
    assert_eq!(question["method"], "elicitation/create");
    assert_ne!(question["id"], 1, "ids of several servers collide");
    let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept"}});
    assert_eq!(bench.bench.in_session(&session, &answer.to_string()).await.status, 202);
    let done = next_message(&mut body).await;
    assert_eq!(
        (&done["id"], &done["result"]["id"], &done["result"]["by"]),
        (&json!(9), &json!(1), &json!("two"))
    );
    assert_eq!(done["result"]["said"], json!({"action": "accept"}));
    for id in [json!(1), json!("x"), json!("00000000-0000-7000-8000-0000000000ff/1")] {
        let stray = json!({"jsonrpc": "2.0", "id": id, "result": {}});
        assert_eq!(
            bench.bench.in_session(&session, &stray.to_string()).await.refusal().2,
            "invalid_message",
            "{id}"
        );
    }
}

#[tokio::test]
async fn what_members_say_on_their_own_account_comes_on_one_stream_with_ids_that_grow() {
    let with = |name: &str| Setup {
        resources: vec![json!({"uri": format!("{name}:1"), "name": "r"})],
        capabilities: json!({"resources": {"subscribe": true}}),
        ..Setup::default()
    };
    let bench = Virtual::new(Names::Plain, vec![with("a"), with("b")]).await;
    let session = bench.open().await;
    let mut stream = stream_of(&bench, &session).await.into_body();
    bench.ask(&session, "resources/subscribe", json!({"uri": "b:1"})).await;
    assert_eq!(bench.members[1].seen("resources/subscribe").len(), 1);
    assert!(bench.members[0].seen("resources/subscribe").is_empty());
    bench.members[1]
        .tell(1, r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"b:1"}}"#)
        .await;
    assert_eq!(next_message(&mut stream).await["params"]["uri"], "b:1");
    bench.members[0]
        .tell(1, r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}"#)
        .await;
    assert_eq!(next_message(&mut stream).await["params"]["level"], "info");
    bench.ask(&session, "resources/unsubscribe", json!({"uri": "b:1"})).await;
    assert_eq!(bench.members[1].seen("resources/unsubscribe").len(), 1);
}

#[tokio::test]
async fn with_the_session_its_stream_ends_and_nothing_stays_open_at_the_members() {
    let bench = Virtual::new(Names::Plain, vec![Setup::default(), Setup::default()]).await;
    let session = bench.open().await;
    let stream = stream_of(&bench, &session).await;
    for member in &bench.members {
        member.tell(1, r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#).await;
    }
    let delete = bench.bench.request(Method::DELETE).header("mcp-session-id", &session);
    assert_eq!(bench.bench.send(delete.body(Body::empty()).unwrap()).await.status, 204);
    // Reading to its end shows that it has one.
    stream.into_body().collect().await.unwrap();
    for member in &bench.members {
        while member.seen("DELETE").is_empty() {
            tokio::task::yield_now().await;
        }
        let opened = member.seen("GET").pop().unwrap().headers["mcp-session-id"].clone();
        assert_eq!(member.seen("DELETE")[0].headers["mcp-session-id"], opened);
        assert_eq!(member.seen("initialize").len(), 1);
    }
}

#[tokio::test]
async fn a_stream_whose_endpoint_gets_other_members_says_so_and_ends() {
    let bench = Virtual::new(Names::Plain, vec![Setup::default(), Setup::default()]).await;
    let session = bench.open().await;
    let mut stream = stream_of(&bench, &session).await.into_body();
    // A change of something else leaves it open.
    bench.publish(Names::Plain, |items| items.push(endpoint("other", &[1])));
    bench.members[0].tell(1, r#"{"jsonrpc":"2.0","method":"notifications/message","params":{}}"#).await;
    assert_eq!(next_message(&mut stream).await["method"], "notifications/message");
    bench.publish(Names::Plain, |items| choose(items, 1, |member| member.tools = vec!["some".to_owned()]));
    assert_eq!(next_message(&mut stream).await["method"], "notifications/tools/list_changed");
    assert!(stream.collect().await.is_ok(), "it ends");
    let mut stream = stream_of(&bench, &session).await.into_body();
    bench.publish(Names::Plain, |items| {
        items.pop();
    });
    while stream.frame().await.is_some() {}
}

#[tokio::test]
async fn a_log_level_reaches_open_members_now_and_others_when_they_are_opened() {
    let logging = || Setup { capabilities: json!({"tools": {}, "logging": {}}), ..Setup::default() };
    let bench = Virtual::new(Names::Prefixed, vec![logging(), logging()]).await;
    bench.open().await;
    // A second session: nothing is open behind it yet.
    let session = bench.open().await;
    bench.ask(&session, "tools/call", json!({"name": "one__x"})).await;
    let set = bench.ask(&session, "logging/setLevel", json!({"level": "debug"})).await;
    assert_eq!(set["result"], json!({}));
    assert_eq!(
        (bench.members[0].seen("logging/setLevel").len(), bench.members[1].seen("logging/setLevel").len()),
        (1, 0)
    );
    bench.ask(&session, "tools/call", json!({"name": "two__x"})).await;
    assert_eq!(bench.members[1].seen("logging/setLevel")[0].message["params"]["level"], "debug");
    let refused = bench.ask(&session, "logging/setLevel", json!({"level": "loud"})).await;
    assert_eq!(refused["error"]["code"], -32602);
}

#[tokio::test]
async fn a_log_level_is_no_method_where_no_member_logs() {
    let bench = Virtual::new(Names::Plain, vec![Setup::default(), Setup::default()]).await;
    let session = bench.open().await;
    let body = r#"{"jsonrpc":"2.0","id":3,"method":"logging/setLevel","params":{"level":"debug"}}"#;
    let refused = bench.bench.in_session(&session, body).await;
    assert_eq!(refused.refusal(), (200, -32601, "method_not_found".to_owned()));
    assert!(bench.members.iter().all(|member| member.seen("logging/setLevel").is_empty()));
}

#[tokio::test]
async fn notifications_reach_open_members_and_an_unknown_method_does_not_end_the_session() {
    let bench = Virtual::new(
        Names::Plain,
        vec![Setup { tools: tools(&["a"]), ..Setup::default() }, Setup::default()],
    )
    .await;
    let session = bench.open().await;
    let cancelled = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5}}"#;
    assert_eq!(bench.bench.in_session(&session, cancelled).await.status, 202);
    while bench.members.iter().any(|member| member.seen("notifications/cancelled").is_empty()) {
        tokio::task::yield_now().await;
    }
    let body = r#"{"jsonrpc":"2.0","id":3,"method":"tasks/list","params":{}}"#;
    let refused = bench.bench.in_session(&session, body).await;
    assert_eq!(refused.refusal(), (200, -32601, "method_not_found".to_owned()));
    assert_eq!(bench.bench.last_audit().1, "method_not_found");
}
