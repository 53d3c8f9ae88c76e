//! Agents of revision 2026-07-28.

use acceptance::deployment::Deployment;
use acceptance::mcp::Stateless;
use acceptance::upstream::{Era, Upstream};
use serde_json::json;

async fn stage() -> (Deployment, Upstream, Stateless) {
    let deployment = Deployment::start().await;
    let upstream = Upstream::start(Era::Stateless).await;
    let agent = Stateless::new(&deployment.publish("notes", &upstream).await);
    (deployment, upstream, agent)
}

#[tokio::test(flavor = "multi_thread")]
async fn discovery_lists_and_calls_pass_through() {
    let (deployment, _upstream, agent) = stage().await;
    let discovered = agent.result("server/discover", &json!({})).await;
    assert!(
        discovered["supportedVersions"].as_array().unwrap().contains(&json!("2026-07-28")),
        "{discovered}"
    );
    let mut names = 0;
    let mut params = json!({});
    loop {
        let page = agent.result("tools/list", &params).await;
        assert_eq!(page["resultType"], "complete");
        names += page["tools"].as_array().unwrap().len();
        let Some(cursor) = page["nextCursor"].as_str() else { break };
        params = json!({ "cursor": cursor });
    }
    assert_eq!(names, 13);
    assert_eq!(agent.call("echo", &json!({ "a": 1 })).await["structuredContent"]["a"], 1);
    let read = agent.result("resources/read", &json!({ "uri": "note://1" })).await;
    assert_eq!(read["contents"][0]["text"], "A note.");
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_streams_and_a_disconnect_is_the_cancellation() {
    let (deployment, upstream, agent) = stage().await;
    let params = json!({ "name": "progress", "arguments": {}, "_meta": { "progressToken": "p" } });
    let mut stream = agent.stream("tools/call", &params).await;
    assert_eq!(stream.message().await.unwrap().1["params"]["progress"], 1);
    upstream.release();
    assert_eq!(stream.message().await.unwrap().1["params"]["progress"], 2);
    assert_eq!(stream.message().await.unwrap().1["result"]["structuredContent"]["steps"], 2);
    let mut stream = agent.stream("tools/call", &json!({ "name": "endless", "arguments": {} })).await;
    stream.message().await.unwrap();
    drop(stream);
    upstream.reader_left().await;
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_to_the_person_takes_another_round_trip() {
    let (deployment, _upstream, agent) = stage().await;
    let asked = agent.call("ask", &json!({})).await;
    assert_eq!(asked["resultType"], "input_required");
    let (key, request) = asked["inputRequests"].as_object().unwrap().iter().next().unwrap();
    assert_eq!(request["method"], "elicitation/create");
    let params = json!({
        "name": "ask", "arguments": {}, "requestState": asked["requestState"],
        "inputResponses": { key: { "action": "accept", "content": { "colour": "blue" } } },
    });
    let done = agent.result("tools/call", &params).await;
    assert_eq!(done["structuredContent"]["content"]["colour"], "blue");
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listen_stream_brings_changes_under_the_agents_own_id() {
    let (deployment, upstream, agent) = stage().await;
    let params = json!({ "notifications": { "toolsListChanged": true } });
    let mut stream = agent.stream("subscriptions/listen", &params).await;
    let (_, acknowledged) = stream.message().await.unwrap();
    assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged");
    let id = "io.modelcontextprotocol/subscriptionId";
    assert_eq!(acknowledged["params"]["_meta"][id], 1);
    upstream.tell("notifications/tools/list_changed", &json!({})).await;
    let (_, changed) = stream.message().await.unwrap();
    assert_eq!(
        (&changed["method"], &changed["params"]["_meta"][id]),
        (&json!("notifications/tools/list_changed"), &json!(1))
    );
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_revision_removed_is_refused_as_it_says() {
    let (deployment, _upstream, agent) = stage().await;
    let removed = agent.ask("ping", &json!({})).await;
    assert_eq!((removed.status.as_u16(), &removed.json()["error"]["code"]), (404, &json!(-32601)));
    let (caller, body) = agent.request("tools/list", &json!({}));
    for method in [http::Method::GET, http::Method::DELETE] {
        assert_eq!(caller.send(method).await.status, 405);
    }
    let ignored = caller.clone().with("mcp-session-id", "whatever").post(body.clone()).await;
    assert_eq!(ignored.status, 200, "a session header means nothing here: {}", ignored.text());
    let mut bare: serde_json::Value = serde_json::from_str(&body).unwrap();
    bare["params"]["_meta"].as_object_mut().unwrap().remove("io.modelcontextprotocol/clientCapabilities");
    let refused = caller.post(bare.to_string()).await;
    assert_eq!(
        (refused.status.as_u16(), &refused.json()["error"]["code"]),
        (400, &json!(-32602)),
        "{}",
        refused.text()
    );
    deployment.stop().await;
}
