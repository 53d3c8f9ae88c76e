//! One route, several servers.

use acceptance::deployment::Deployment;
use acceptance::mcp::{Caller, Session, Stateless};
use acceptance::upstream::{Era, Upstream};
use acceptance::{DEADLINE, eventually};
use serde_json::{Value, json};

/// A virtual server of two session-era servers.
async fn stage(names: &str) -> (Deployment, [Upstream; 2], Caller) {
    let deployment = Deployment::start().await;
    let upstreams = [Upstream::start(Era::Session).await, Upstream::start(Era::Session).await];
    deployment.publish("left", &upstreams[0]).await;
    deployment.publish("right", &upstreams[1]).await;
    let create = ["endpoint", "create", "both", "--server", "left", "--server", "right", "--names", names];
    let created = deployment.cli(&create).await;
    assert_eq!(created.code, Some(0), "{}", created.output);
    let agent = deployment.usable("both").await;
    upstreams.iter().for_each(Upstream::forget);
    (deployment, upstreams, agent)
}

async fn names(session: &Session) -> (Vec<String>, Value) {
    let (mut names, mut params, mut meta) = (Vec::new(), json!({}), Value::Null);
    loop {
        let page = session.result("tools/list", &params).await;
        names.extend(
            page["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap().to_owned()),
        );
        if !page["_meta"].is_null() {
            meta = page["_meta"].clone();
        }
        let Some(cursor) = page["nextCursor"].as_str() else { return (names, meta) };
        params = json!({ "cursor": cursor });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_17_s2_08_prefixed_names_lead_to_their_server() {
    let (deployment, [left, right], agent) = stage("prefixed").await;
    let session = Session::open(&agent).await;
    let (names, _) = names(&session).await;
    assert_eq!(names.len(), 26, "{names:?}");
    assert!(
        names.contains(&"left__echo".to_owned()) && names.contains(&"right__echo".to_owned()),
        "{names:?}"
    );
    assert_eq!(session.call("right__echo", &json!({ "a": 1 })).await["structuredContent"]["a"], 1);
    assert_eq!((left.calls(), right.calls()), (0, 1));
    let unknown = session.ask("tools/call", &json!({ "name": "middle__echo", "arguments": {} })).await;
    assert_eq!(unknown.message()["error"]["code"], -32602, "{}", unknown.text());
    let mut stream = session.call_stream("left__ask", &json!({})).await;
    let (_, question) = stream.message().await.unwrap();
    session.respond(&question["id"], &json!({ "action": "accept", "content": { "colour": "red" } })).await;
    let (_, last) = stream.message().await.unwrap();
    assert_eq!(last["result"]["structuredContent"]["content"]["colour"], "red", "{last}");
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_47_a_dead_member_never_hides_the_others() {
    let (deployment, [mut left, right], agent) = stage("prefixed").await;
    left.go_away().await;
    let session = Session::open(&agent).await;
    let (names, meta) = names(&session).await;
    assert!(names.contains(&"right__echo".to_owned()), "{names:?}");
    assert!(names.iter().all(|name| !name.starts_with("left__")), "{names:?}");
    assert!(meta.to_string().contains("left"), "a warning names the member that is missing: {meta}");
    session.call("right__echo", &json!({})).await;
    assert_eq!(right.calls(), 1);
    let answer = session.ask("tools/call", &json!({ "name": "left__echo", "arguments": {} })).await;
    assert!(answer.message()["error"].is_object(), "{}", answer.text());
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collision_under_plain_names_is_refused_with_the_names() {
    let deployment = Deployment::start().await;
    let upstreams = [Upstream::start(Era::Session).await, Upstream::start(Era::Session).await];
    deployment.publish("left", &upstreams[0]).await;
    deployment.publish("right", &upstreams[1]).await;
    // What collides is known once the worker has seen the tools.
    let refused = async || {
        let create =
            ["endpoint", "create", "both", "--server", "left", "--server", "right", "--names", "plain"];
        let created = deployment.cli(&create).await;
        if created.code == Some(0) {
            deployment.cli(&["endpoint", "delete", "both"]).await;
            return None;
        }
        Some(created)
    };
    let refused = eventually(DEADLINE, "the collision is noticed", refused).await;
    assert!(refused.output.contains("echo"), "{}", refused.output);
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_01_the_root_offers_everything_that_the_caller_may_use_and_leaves_out_the_other_era() {
    let deployment = Deployment::start().await;
    let (old, new) = (Upstream::start(Era::Session).await, Upstream::start(Era::Stateless).await);
    deployment.publish("old", &old).await;
    deployment.publish("new", &new).await;
    let root = deployment.agent("mcp").await;
    let lists = async || {
        let session = Session::open(&root).await;
        let (names, meta) = names(&session).await;
        names.contains(&"old__echo".to_owned()).then_some((session, names, meta))
    };
    let (session, names, _) = eventually(DEADLINE, "the root lists the server", lists).await;
    assert!(names.iter().any(|name| name.starts_with("demo__")), "{names:?}");
    assert!(names.iter().all(|name| !name.starts_with("new__")), "{names:?}");
    session.call("old__echo", &json!({})).await;
    let stateless = Stateless::new(&root);
    assert_eq!(stateless.call("new__echo", &json!({ "a": 1 })).await["structuredContent"]["a"], 1);
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rs_34_rs_35_what_one_principal_may_see_is_neither_listed_for_nor_called_by_another() {
    let deployment = Deployment::start().await;
    let upstream = Upstream::start(Era::Session).await;
    deployment.publish("secretive", &upstream).await;
    let administrator = Session::open(&deployment.agent("mcp").await).await;
    let (all, _) = names(&administrator).await;
    assert!(all.iter().any(|name| name.starts_with("secretive__")), "{all:?}");
    let created = deployment.cli(&["--json", "service-account", "create", "robot"]).await;
    let created: Value = serde_json::from_str(&created.output).unwrap();
    let account = (created["client_id"].as_str().unwrap(), created["client_secret"].as_str().unwrap());
    let token = deployment.token_of(account, &deployment.url("/mcp"), "mcp").await;
    let root = Caller::new(deployment.http.clone(), deployment.url("/mcp"), &token);
    let session = Session::open(&root).await;
    let (names, _) = names(&session).await;
    assert!(names.iter().all(|name| !name.starts_with("secretive")), "{names:?}");
    upstream.forget();
    let answer = session.ask("tools/call", &json!({ "name": "secretive__echo", "arguments": {} })).await;
    assert!(answer.message()["error"].is_object(), "{}", answer.text());
    crate::expect::untouched(&upstream, &answer);
    deployment.stop().await;
}
