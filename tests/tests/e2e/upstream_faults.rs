//! Servers that stall, lie, break off or are not there: the agent gets a clear error, Portico and the others go on.

use acceptance::deployment::{Deployment, Plan, url_spec};
use acceptance::http::Answer;
use acceptance::mcp::{Session, Stateless};
use acceptance::upstream::{Era, Mood, Upstream};
use acceptance::{DEADLINE, eventually};
use portico_proto_registry as registry;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use serde_json::json;

use crate::expect::{Refusal, refused};

async fn failed_and_recorded(deployment: &Deployment, answer: &Answer, refusal: Refusal<'_>) {
    refused(answer, refusal);
    let record = deployment.record(&answer.correlation()).await;
    assert_eq!((record.outcome.as_str(), record.reason.as_str()), ("failed", refusal.2), "{record:?}");
    assert!(!answer.text().contains("127.0.0.1"), "no internals in {}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_server_is_given_up_in_time() {
    let plan = Plan::new().set("gateway.upstream.answer_timeout_ms", "400");
    let deployment = plan.start().await;
    let upstream = Upstream::start(Era::Session).await;
    let session = Session::open(&deployment.publish("notes", &upstream).await).await;
    let answer = session.ask("tools/call", &json!({ "name": "slow", "arguments": {} })).await;
    failed_and_recorded(&deployment, &answer, (504, -32603, "upstream_timeout")).await;
    session.call("echo", &json!({})).await;
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn html_from_a_server_is_502_upstream_not_mcp_in_both_eras() {
    let deployment = Deployment::start().await;
    let (old, new) = (Upstream::start(Era::Session).await, Upstream::start(Era::Stateless).await);
    let session = Session::open(&deployment.publish("old", &old).await).await;
    let params = json!({ "name": "html", "arguments": {} });
    let answer = session.ask("tools/call", &params).await;
    failed_and_recorded(&deployment, &answer, (502, -32603, "upstream_not_mcp")).await;
    assert!(!answer.text().contains("<h1>"), "{}", answer.text());
    let stateless = Stateless::new(&deployment.publish("new", &new).await);
    failed_and_recorded(
        &deployment,
        &stateless.ask("tools/call", &params).await,
        (502, -32603, "upstream_not_mcp"),
    )
    .await;
    new.mood(Mood::Html);
    let all = stateless.ask("tools/call", &json!({ "name": "echo", "arguments": {} })).await;
    failed_and_recorded(&deployment, &all, (502, -32603, "upstream_not_mcp")).await;
    new.mood(Mood::Unauthorized);
    let all = stateless.ask("tools/call", &json!({ "name": "echo", "arguments": {} })).await;
    failed_and_recorded(&deployment, &all, (502, -32603, "upstream_unauthorized")).await;
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_becomes_an_error_and_never_half_a_message() {
    let deployment = Deployment::start().await;
    let (old, new) = (Upstream::start(Era::Session).await, Upstream::start(Era::Stateless).await);
    let session = Session::open(&deployment.publish("old", &old).await).await;
    let stateless = Stateless::new(&deployment.publish("new", &new).await);
    let params = json!({ "name": "cut_json", "arguments": {} });
    for answer in [session.ask("tools/call", &params).await, stateless.ask("tools/call", &params).await] {
        failed_and_recorded(&deployment, &answer, (502, -32603, "upstream_lost")).await;
    }
    let params = json!({ "name": "cut", "arguments": {}, "_meta": { "progressToken": "p" } });
    let streams = [
        (session.call_stream("cut", &json!({})).await, &old),
        (stateless.stream("tools/call", &params).await, &new),
    ];
    for (mut stream, upstream) in streams {
        let (_, first) = stream.message().await.expect("progress");
        assert_eq!(first["method"], "notifications/progress");
        upstream.release();
        let answer = stream.rest().await;
        let last = answer.messages().pop().expect("an error");
        assert_eq!(last["error"]["data"]["reason"], "upstream_lost", "{}", answer.text());
        let record = deployment.record(&answer.correlation()).await;
        assert_eq!((record.outcome.as_str(), record.reason.as_str()), ("failed", "upstream_lost"));
    }
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_502_and_its_return_is_noticed() {
    let deployment = Deployment::start().await;
    let mut upstream = Upstream::start(Era::Stateless).await;
    let agent = Stateless::new(&deployment.publish("notes", &upstream).await);
    upstream.go_away().await;
    let params = json!({ "name": "echo", "arguments": {} });
    let fails = async || {
        let answer = agent.ask("tools/call", &params).await;
        (answer.status != 200).then_some(answer)
    };
    let answer = eventually(DEADLINE, "the loss is noticed", fails).await;
    // A connection that was kept may break first; the worker may have noticed before.
    let refusal = match answer.json()["error"]["data"]["reason"].as_str() {
        Some("upstream_lost") => (502, -32603, "upstream_lost"),
        Some("no_instance") => (503, -32603, "no_instance"),
        _ => (502, -32603, "upstream_unreachable"),
    };
    failed_and_recorded(&deployment, &answer, refusal).await;
    upstream.forget();
    upstream.come_back().await;
    let works = async || (agent.ask("tools/call", &params).await.status == 200).then_some(());
    eventually(DEADLINE, "the return is noticed", works).await;
    assert_eq!(upstream.calls(), 1);
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_forgot_its_sessions_is_initialized_anew_without_the_agent_noticing() {
    let deployment = Deployment::start().await;
    let upstream = Upstream::start(Era::Session).await;
    let session = Session::open(&deployment.publish("notes", &upstream).await).await;
    session.call("echo", &json!({ "n": 1 })).await;
    upstream.forget_sessions();
    let again = session.call("echo", &json!({ "n": 2 })).await;
    assert_eq!(again["structuredContent"]["n"], 2);
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_era_that_the_server_does_not_speak_is_a_clear_error() {
    let deployment = Deployment::start().await;
    let (old, new) = (Upstream::start(Era::Session).await, Upstream::start(Era::Stateless).await);
    let old = Stateless::new(&deployment.publish("old", &old).await);
    let new = deployment.publish("new", &new).await;
    // Portico knows once the worker has looked.
    let says_so = async || {
        let answers = [
            old.ask("tools/list", &json!({})).await,
            new.post(acceptance::mcp::initialize("2025-11-25", &json!({}))).await,
        ];
        let clear = |answer: &Answer| answer.json()["error"]["data"]["reason"] == "era_not_bridged";
        answers.iter().all(clear).then_some(())
    };
    eventually(DEADLINE, "an error that names the era", says_so).await;
    deployment.stop().await;
}

/// Adds an instance that the worker calls unhealthy only after a hundred failed probes: the gateways have to find out alone.
async fn add_instance(deployment: &Deployment, server: &str, url: &str) {
    let api = deployment.api().await;
    let list = registry::ListServersRequest { page_size: 100, ..Default::default() };
    let servers = api.servers().list_servers(list).await.unwrap().into_inner().servers;
    let server_id = servers.into_iter().find(|found| found.name == server).unwrap().id;
    let value = |kind: Kind| Value { kind: Some(kind) };
    let probes = Struct { fields: [("retries".to_owned(), value(Kind::NumberValue(100.0)))].into() };
    let mut spec = url_spec(url);
    spec.fields.insert("health_check".to_owned(), value(Kind::StructValue(probes)));
    let instance = registry::Instance {
        name: "second".to_owned(),
        server_id,
        json_spec: Some(spec),
        ..Default::default()
    };
    let request = registry::CreateInstanceRequest { instance: Some(instance), ..Default::default() };
    api.instances().create_instance(request).await.expect("a second instance");
}

/// What all gateways have counted.
async fn counted(deployment: &Deployment, counter: &str) -> u64 {
    let metrics = deployment.gateway_metrics().await;
    let values = metrics.lines().filter_map(|line| line.strip_prefix(counter)?.trim().parse::<u64>().ok());
    values.sum()
}

const RETRIED: &str = r#"portico_gateway_retries_total{outcome="answered"}"#;
const EJECTED: &str = r#"portico_gateway_instance_ejections_total{reason="no_connection"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn s2_08_with_one_of_two_instances_dead_no_call_fails_in_either_era() {
    let deployment = Deployment::start().await;
    let (old, new) = (Upstream::start(Era::Session).await, Upstream::start(Era::Stateless).await);
    let caller = deployment.publish("old", &old).await;
    let stateless = Stateless::new(&deployment.publish("new", &new).await);
    let before = (counted(&deployment, RETRIED).await, counted(&deployment, EJECTED).await);
    let dead = [Upstream::away(Era::Session), Upstream::away(Era::Stateless)];
    add_instance(&deployment, "old", &dead[0].url()).await;
    add_instance(&deployment, "new", &dead[1].url()).await;
    // A result is asserted by each of these calls: none of them may fail, also while nobody knows of the dead instance yet.
    let found_out = async || {
        stateless.call("echo", &json!({})).await;
        Session::open(&caller).await.call("echo", &json!({})).await;
        let now = (counted(&deployment, RETRIED).await, counted(&deployment, EJECTED).await);
        (now.0 >= before.0 + 2 && now.1 >= before.1 + 2).then_some(())
    };
    eventually(DEADLINE, "the dead instances are ejected", found_out).await;
    for _ in 0..50 {
        stateless.call("echo", &json!({})).await;
        Session::open(&caller).await.call("echo", &json!({})).await;
    }
    assert!(new.calls() > 50 && old.calls() > 50);
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s2_08_with_both_instances_dead_the_error_is_that_of_one() {
    let deployment = Deployment::start().await;
    let dead = [Upstream::away(Era::Session), Upstream::away(Era::Session)];
    deployment.register("gone", &dead[0].url()).await;
    let caller = deployment.usable("gone").await;
    add_instance(&deployment, "gone", &dead[1].url()).await;
    let open = acceptance::mcp::initialize("2025-11-25", &json!({}));
    for _ in 0..5 {
        failed_and_recorded(
            &deployment,
            &caller.post(open.clone()).await,
            (502, -32603, "upstream_unreachable"),
        )
        .await;
    }
    deployment.stop().await;
}
