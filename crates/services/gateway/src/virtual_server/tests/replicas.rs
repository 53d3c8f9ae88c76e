//! A virtual server behind two gateways.

use axum::body::Body;
use http::Method;
use portico_proto_registry::Names;
use serde_json::json;

use super::member::{Setup, tools};
use super::session_era::next_message;
use super::{Virtual, names};

/// Two gateways that hear of each other, with the same members.
async fn two(setups: Vec<Setup>) -> (Virtual, Virtual) {
    let a = Virtual::new(Names::Plain, setups).await;
    let b = Virtual { bench: a.bench.replica(8), members: a.members.clone() };
    b.publish(Names::Plain, |_| {});
    a.bench.meet();
    a.bench.hears_of(0).await;
    b.bench.meet();
    b.bench.hears_of(1).await;
    a.bench.hears_of(1).await;
    (a, b)
}

fn with(setup: &[&str]) -> Setup {
    Setup { tools: tools(setup), ttl_ms: 300_000, ..Setup::default() }
}

/// What a member calls the sessions that it has open: opened and not closed.
fn open_at(bench: &Virtual, member: usize) -> usize {
    bench.members[member].seen("initialize").len() - bench.members[member].seen("DELETE").len()
}

#[tokio::test]
async fn a_change_that_one_gateway_hears_of_is_seen_in_the_lists_of_the_other() {
    let (a, b) = two(vec![with(&["old"]), with(&["other"])]).await;
    let session = a.open().await;
    assert_eq!(names(&b.ask(&session, "tools/list", json!({})).await, "tools"), ["old", "other"]);
    let get = a.bench.request(Method::GET).header("mcp-session-id", &session);
    let mut stream = a.bench.open(get.body(Body::empty()).unwrap()).await.into_body();
    a.members[0].change(|setup| setup.tools = tools(&["new"]));
    a.members[0].tell(1, r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#).await;
    assert_eq!(next_message(&mut stream).await["method"], "notifications/tools/list_changed");
    let give_up = tokio::time::Instant::now() + std::time::Duration::from_secs(5);
    while names(&b.ask(&session, "tools/list", json!({})).await, "tools") != ["new", "other"] {
        assert!(tokio::time::Instant::now() < give_up, "the other gateway shows the old list");
    }
}

#[tokio::test]
async fn two_gateways_that_open_a_members_session_at_once_keep_one_and_close_the_other() {
    let (a, b) = two(vec![with(&["first"]), with(&["second"])]).await;
    let session = a.open().await;
    for round in 0..5 {
        let session = if round == 0 { session.clone() } else { a.open().await };
        let call = |bench: &'static str| json!({"name": "second", "arguments": {"by": bench}});
        let (one, two) =
            tokio::join!(a.ask(&session, "tools/call", call("a")), b.ask(&session, "tools/call", call("b")));
        assert!(one["result"].is_object() && two["result"].is_object(), "{one} {two}");
        let delete = b.bench.request(Method::DELETE).header("mcp-session-id", &session);
        assert_eq!(b.bench.send(delete.body(Body::empty()).unwrap()).await.status, 204);
        while open_at(&a, 1) + open_at(&a, 0) > 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn what_only_another_gateway_opened_is_closed_with_the_session() {
    let (a, b) = two(vec![with(&["first"]), with(&["second"])]).await;
    let session = a.open().await;
    a.ask(&session, "tools/call", json!({"name": "first"})).await;
    b.ask(&session, "tools/call", json!({"name": "second"})).await;
    let delete = a.bench.request(Method::DELETE).header("mcp-session-id", &session);
    assert_eq!(a.bench.send(delete.body(Body::empty()).unwrap()).await.status, 204);
    while open_at(&a, 0) + open_at(&a, 1) > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(b.bench.in_session(&session, r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).await.status, 404);
}

#[tokio::test]
async fn a_resource_that_a_call_showed_is_read_through_another_gateway() {
    let (a, b) = two(vec![with(&["first"]), with(&["link"])]).await;
    let session = a.open().await;
    a.ask(&session, "tools/call", json!({"name": "link"})).await;
    let read = b.ask(&session, "resources/read", json!({"uri": "made-by:///two"})).await;
    assert_eq!(read["result"]["by"], "two", "{read}");
    let unknown = b.ask(&session, "resources/read", json!({"uri": "made-by:///three"})).await;
    assert_eq!(unknown["error"]["data"]["reason"], "unknown_resource");
}

#[tokio::test]
async fn a11_asking_other_gateways_about_many_resources_counts_as_many_calls() {
    let (_a, b) = two(vec![with(&["first"]), with(&["second"])]).await;
    let burst = b.bench.engine().settings.limits.principal_burst;
    let uris: Vec<String> = (0..burst).map(|n| format!("nobody:///{n}")).collect();
    let wanted = json!({"notifications": {"resourceSubscriptions": uris}});
    let stream = b.bench.open(b.stateless_request("subscriptions/listen", None, wanted)).await;
    assert_eq!(stream.status(), 200);
    assert_eq!(b.stateless("server/discover", None, json!({})).await.status, 429);
}
