use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::Method;
use portico_proto_registry::catalogue_item::Value as ItemValue;
use portico_proto_registry::{CatalogueEndpoint, Visibility};

use crate::catalogue::testing::Item;
use crate::testing::{Bench, META, Read, call};

/// What is left of a stream that is expected to end.
async fn rest(stream: Response) -> Read {
    tokio::time::timeout(Duration::from_secs(20), Read::of(stream)).await.expect("the stream ends")
}

async fn listen(bench: &Bench) -> Response {
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":3,"method":"subscriptions/listen","params":{{"notifications":{{"toolsListChanged":true}},{META}}}}}"#
    );
    let request = bench
        .request(Method::POST)
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "subscriptions/listen");
    bench.open(request.body(Body::from(body)).unwrap()).await
}

async fn get(bench: &Bench, session: &str) -> Response {
    let request = bench.request(Method::GET).header("mcp-session-id", session);
    bench.open(request.body(Body::empty()).unwrap()).await
}

fn edited(bench: &Bench, edit: impl FnOnce(&mut CatalogueEndpoint)) -> Vec<Item> {
    let mut items = bench.demo();
    if let Some(ItemValue::Endpoint(endpoint)) = &mut items[2].1.value {
        edit(endpoint);
    }
    items
}

#[tokio::test]
async fn rs_26_a_standing_stream_ends_with_its_endpoint_its_member_and_the_permission() {
    for change in ["deleted", "another", "private", "disabled"] {
        let bench = Bench::new().await;
        let session = bench.initialize("2025-11-25").await;
        let (own, listened) = (get(&bench, &session).await, listen(&bench).await);
        bench.catalogue(match change {
            "deleted" => bench.demo().into_iter().take(2).collect(),
            "another" => edited(&bench, |endpoint| endpoint.members[0].tools = vec!["echo".to_owned()]),
            "private" => edited(&bench, |endpoint| endpoint.visibility = Visibility::Private.into()),
            _ => {
                let mut items = bench.demo();
                if let Some(ItemValue::Server(server)) = &mut items[0].1.value {
                    server.enabled = false;
                }
                items
            }
        });
        let (own, listened) = tokio::join!(rest(own), rest(listened));
        assert!(!own.events().is_empty(), "{change}");
        let last: serde_json::Value = serde_json::from_slice(&listened.events().pop().unwrap().data).unwrap();
        assert_eq!((&last["id"], &last["result"]["resultType"]), (&3.into(), &"complete".into()), "{change}");
    }
}

#[tokio::test]
async fn rs_26_a_call_ends_when_the_permission_is_withdrawn_and_not_because_the_endpoint_changed() {
    let bench = Bench::new().await;
    let session = bench.initialize("2025-11-25").await;
    let held = bench.open(bench.session_request(&session, &call(9, "hold"))).await;
    bench.catalogue(edited(&bench, |endpoint| endpoint.visibility = Visibility::Private.into()));
    let last = rest(held).await.events().pop().unwrap();
    let error: serde_json::Value = serde_json::from_slice(&last.data).unwrap();
    assert_eq!((&error["id"], &error["error"]["data"]["reason"]), (&9.into(), &"invalid_token".into()));
    bench.catalogue(bench.demo());
    let held = bench.open(bench.session_request(&session, &call(10, "hold"))).await;
    bench.catalogue(edited(&bench, |endpoint| endpoint.description = "other".to_owned()));
    bench.server.release();
    let last = rest(held).await.events().pop().unwrap();
    assert!(serde_json::from_slice::<serde_json::Value>(&last.data).unwrap()["result"].is_object());
}
