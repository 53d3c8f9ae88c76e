//! Servers that are deleted or disabled, and instances that are replaced, while agents have sessions there.

use std::time::Duration;

use axum::body::Body;
use http::Method;
use portico_proto_registry::catalogue_item::Value;

use crate::catalogue::testing::{Item, endpoint, instance, server};
use crate::session_era::departed;
use crate::testing::{Bench, Read, TestServer, call};

fn disabled(bench: &Bench) -> Vec<Item> {
    let mut items = bench.demo();
    if let Some(Value::Server(server)) = &mut items[0].1.value {
        server.enabled = false;
    }
    items
}

/// Does at once what a gateway does when its calls to them have ended.
async fn close_departed(bench: &Bench) {
    departed::close(bench.engine(), &departed::take(bench.engine())).await;
}

fn deletes(server: &TestServer) -> usize {
    server.seen().iter().filter(|seen| seen.method == Method::DELETE).count()
}

async fn open_get(bench: &Bench, session: &str) -> axum::response::Response {
    let request = bench.request(Method::GET).header("mcp-session-id", session);
    bench.open(request.body(Body::empty()).unwrap()).await
}

/// What is left of a stream that is expected to end.
async fn rest(response: axum::response::Response) -> Read {
    tokio::time::timeout(Duration::from_secs(10), Read::of(response)).await.expect("the stream ends")
}

#[tokio::test]
async fn s3_27_a_disabled_server_hears_no_more_of_its_sessions_than_their_end() {
    let bench = Bench::new().await;
    let session = bench.initialize("2025-11-25").await;
    let stream = open_get(&bench, &session).await;
    let seen = bench.server.seen().len();
    bench.catalogue(disabled(&bench));
    let answer = bench.in_session(&session, &call(1, "echo")).await;
    assert_eq!(answer.refusal().2, "no_instance", "{}", answer.text());
    assert_eq!(bench.server.seen().len(), seen);
    rest(stream).await;
    close_departed(&bench).await;
    let told = bench.server.last();
    assert_eq!(
        (told.method, &told.headers["mcp-session-id"]),
        (Method::DELETE, &"upstream-1".parse().unwrap())
    );
    assert_eq!(bench.server.sessions(), 0);
    for _ in 0..3 {
        bench.catalogue(disabled(&bench));
        assert!(
            departed::take(bench.engine()).is_empty(),
            "what else changes meanwhile is not its end again"
        );
    }
    // The agent's own session goes on, with a new one at the server once it is enabled again.
    bench.catalogue(bench.demo());
    assert_eq!(bench.in_session(&session, &call(2, "echo")).await.status, 200);
    assert_eq!(bench.server.last().headers["mcp-session-id"], "upstream-2");
    assert_eq!(open_get(&bench, &session).await.status(), 200, "and so do its streams");
    close_departed(&bench).await;
    assert_eq!(deletes(&bench.server), 1, "nothing is gone this time");
}

#[tokio::test]
async fn s3_27_sessions_at_a_deleted_server_are_closed_with_the_credential_they_had() {
    let bench = Bench::new().await;
    let mut items = bench.demo();
    if let Some(Value::Instance(item)) = &mut items[1].1.value {
        item.bearer_secret_ref = "team/key".to_owned();
    }
    bench.catalogue(items);
    bench.engine().catalogue.apply_credentials_for_tests("team/key", "s3cret");
    let session = bench.initialize("2025-11-25").await;
    let stream = open_get(&bench, &session).await;
    bench.catalogue(Vec::new());
    rest(stream).await;
    close_departed(&bench).await;
    let told = bench.server.last();
    assert_eq!(told.method, Method::DELETE);
    assert_eq!(told.headers["authorization"], "Bearer s3cret");
    assert!(bench.metrics.render().contains("portico_gateway_upstream_sessions_closed_total 1"));
}

#[tokio::test]
async fn s3_27_the_session_at_a_replaced_instance_is_closed_and_goes_on_at_the_new_one() {
    let bench = Bench::new().await;
    let other = TestServer::start(&bench.tasks).await;
    let session = bench.initialize("2025-11-25").await;
    let stream = open_get(&bench, &session).await;
    let url = format!("http://{}/mcp", other.address);
    bench.catalogue(vec![server(1, "demo"), endpoint("demo", &[1]), instance(2, 1, &url)]);
    // The agent opens it anew, and hears the new instance.
    rest(stream).await;
    assert_eq!(bench.in_session(&session, &call(1, "echo")).await.status, 200);
    assert_eq!(other.sessions(), 1);
    close_departed(&bench).await;
    // The session at hand is the new one by now, but the shared map still has the old one.
    assert_eq!((deletes(&bench.server), deletes(&other)), (1, 0));
    assert_eq!(bench.in_session(&session, &call(2, "echo")).await.status, 200);
}

#[tokio::test]
async fn s3_27_an_instance_that_moved_is_told_at_its_old_address() {
    let bench = Bench::new().await;
    let other = TestServer::start(&bench.tasks).await;
    bench.initialize("2025-11-25").await;
    let url = format!("http://{}/mcp", other.address);
    bench.catalogue(vec![server(1, "demo"), endpoint("demo", &[1]), instance(1, 1, &url)]);
    close_departed(&bench).await;
    assert_eq!((deletes(&bench.server), deletes(&other)), (1, 0));
}

#[tokio::test]
async fn s3_27_of_two_gateways_one_closes_the_sessions_at_a_deleted_server() {
    let a = Bench::new().await;
    let b = a.replica(8);
    let session = a.initialize("2025-11-25").await;
    assert_eq!(b.in_session(&session, &call(1, "echo")).await.status, 200);
    for bench in [&a, &b] {
        bench.catalogue(Vec::new());
    }
    tokio::join!(close_departed(&a), close_departed(&b));
    assert_eq!(deletes(&a.server), 1);
}

#[tokio::test]
async fn an_instance_whose_credential_is_on_its_way_is_not_gone() {
    let bench = Bench::new().await;
    bench.initialize("2025-11-25").await;
    let mut items = bench.demo();
    if let Some(Value::Instance(item)) = &mut items[1].1.value {
        item.bearer_secret_ref = "team/key".to_owned();
    }
    bench.catalogue(items);
    assert!(departed::take(bench.engine()).is_empty());
    bench.engine().catalogue.apply_credentials_for_tests("team/key", "s3cret");
    assert!(departed::take(bench.engine()).is_empty());
}

#[tokio::test]
async fn what_is_gone_is_told_when_its_calls_have_ended() {
    let bench = Bench::new().await;
    departed::spawn(bench.engine(), &bench.tasks);
    let session = bench.initialize("2025-11-25").await;
    let response = bench.open(bench.session_request(&session, &call(2, "hold"))).await;
    bench.catalogue(Vec::new());
    assert_eq!(deletes(&bench.server), 0, "a call is under way");
    bench.server.release();
    assert!(rest(response).await.text().contains(r#""id":2,"result""#), "it ends well");
    bench.server.wait_for(|seen| seen.method == Method::DELETE).await;
}
