//! Agents up to revision 2025-11-25: sessions, streams, resuming, what servers ask of agents.

use acceptance::deployment::Deployment;
use acceptance::mcp::Session;
use acceptance::upstream::{Era, Seen, Upstream};
use serde_json::{Value, json};

async fn stage() -> (Deployment, Upstream, Session) {
    let deployment = Deployment::start().await;
    let upstream = Upstream::start(Era::Session).await;
    let agent = deployment.publish("notes", &upstream).await;
    let session = Session::open(&agent).await;
    (deployment, upstream, session)
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_09_s3_45_lists_prompts_resources_and_completion_pass_through() {
    let (deployment, _upstream, session) = stage().await;
    assert_eq!(session.initialized["serverInfo"]["name"], "fixture");
    assert_eq!(session.initialized["instructions"], "Call echo.");
    let prompts = session.result("prompts/list", &json!({})).await;
    assert_eq!(prompts["prompts"][0]["name"], "greet");
    assert!(session.result("prompts/get", &json!({ "name": "greet" })).await["messages"].is_array());
    let templates = session.result("resources/templates/list", &json!({})).await;
    assert_eq!(templates["resourceTemplates"][0]["uriTemplate"], "note://{id}");
    let read = session.result("resources/read", &json!({ "uri": "note://1" })).await;
    assert_eq!(read["contents"][0]["text"], "A note.");
    session.result("logging/setLevel", &json!({ "level": "debug" })).await;
    assert_eq!(session.call("fail", &json!({})).await["isError"], true, "a tool's error stays a result");
    let unknown = session.ask("tools/call", &json!({ "name": "nothing", "arguments": {} })).await;
    assert_eq!(unknown.message()["error"]["code"], -32602, "{}", unknown.text());
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_67_completion_of_a_prompts_parameter_passes_through() {
    let (deployment, _upstream, session) = stage().await;
    let params = json!({
        "ref": { "type": "ref/prompt", "name": "greet" }, "argument": { "name": "city", "value": "B" },
        "context": { "arguments": {} },
    });
    assert_eq!(
        session.result("completion/complete", &params).await["completion"]["values"],
        json!(["Berlin"])
    );
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_73_every_page_of_a_list_is_reached_and_cursors_are_wrapped() {
    let (deployment, upstream, session) = stage().await;
    let (mut names, mut params) = (Vec::new(), json!({}));
    loop {
        let page = session.result("tools/list", &params).await;
        names.extend(
            page["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap().to_owned()),
        );
        let Some(cursor) = page["nextCursor"].as_str() else { break };
        assert!(!cursor.starts_with("from-"), "the server's cursor reached the agent: {cursor}");
        params = json!({ "cursor": cursor });
    }
    assert_eq!((names.len(), names[0].as_str()), (13, "echo"), "{names:?}");
    upstream.forget();
    let foreign = session.ask("tools/list", &json!({ "cursor": "from-5" })).await;
    assert_eq!(foreign.message()["error"]["code"], -32602, "{}", foreign.text());
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_29_the_gateway_changes_no_digit_and_drops_no_field() {
    let (deployment, _upstream, session) = stage().await;
    let answer = session.ask("tools/call", &json!({ "name": "number", "arguments": {} })).await;
    let text = answer.text();
    assert!(text.contains(r#""big":12345678901234567890123,"small":1.10"#), "{text}");
    assert!(text.contains(r#""x-unknown":{"z":1,"a":2}"#), "{text}");
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_46_progress_streams_while_the_call_runs() {
    let (deployment, upstream, session) = stage().await;
    let mut stream = session.call_stream("progress", &json!({})).await;
    assert!(stream.header("content-type").unwrap().starts_with("text/event-stream"));
    let (_, first) = stream.message().await.unwrap();
    assert_eq!((&first["params"]["progressToken"], &first["params"]["progress"]), (&json!("p"), &json!(1)));
    // The call is still under way: nothing was held back until its end.
    upstream.release();
    let (_, second) = stream.message().await.unwrap();
    assert_eq!(second["params"]["progress"], 2);
    let (_, last) = stream.message().await.unwrap();
    assert_eq!(last["result"]["structuredContent"]["steps"], 2);
    assert!(stream.message().await.is_none());
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_stream_is_resumed_and_the_call_is_not_cancelled() {
    let (deployment, upstream, session) = stage().await;
    let mut stream = session.call_stream("progress", &json!({})).await;
    let (id, first) = stream.message().await.unwrap();
    assert_eq!(first["params"]["progress"], 1);
    let id = id.expect("events carry ids");
    assert_ne!(id, "e1", "the server's event id stays inside");
    drop(stream);
    upstream.release();
    let mut resumed = session.caller.clone().with("last-event-id", &id).listen().await;
    assert_eq!(resumed.status, 200);
    let (_, second) = resumed.message().await.expect("the missed event");
    assert_eq!(second["params"]["progress"], 2, "exactly what was missed");
    let (_, last) = resumed.message().await.unwrap();
    assert_eq!(last["result"]["structuredContent"]["steps"], 2);
    assert!(upstream.methods().iter().all(|method| method != "notifications/cancelled"));
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lets_go_of_its_stream_is_asked_for_the_rest() {
    let (deployment, _upstream, session) = stage().await;
    let mut stream = session.call_stream("polling", &json!({})).await;
    let (mut last, mut answer) = (None, None);
    // The agent is told to come back, as the server told Portico.
    for _ in 0..3 {
        while let Some(event) = stream.event().await {
            last = event.id.clone().or(last);
            answer = event.message().or(answer);
        }
        if answer.is_some() {
            break;
        }
        let id = last.as_deref().expect("an id to resume after");
        stream = session.caller.clone().with("last-event-id", id).listen().await;
    }
    assert_eq!(answer.expect("the answer")["result"]["content"][0]["text"], "polled");
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancellation_reaches_the_server() {
    let (deployment, upstream, session) = stage().await;
    let mut stream = session.call_stream("endless", &json!({})).await;
    stream.message().await.unwrap();
    session.notify("notifications/cancelled", &json!({ "requestId": 1, "reason": "enough" })).await;
    let seen = upstream.got("notifications/cancelled").await;
    let cancelled: Value = serde_json::from_str(&seen.body).unwrap();
    let call: Value = serde_json::from_str(&upstream.got("tools/call").await.body).unwrap();
    assert_eq!(cancelled["params"]["requestId"], call["id"], "in the server's own numbering");
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_68_a_subscription_brings_updates_on_the_standing_stream() {
    let (deployment, upstream, session) = stage().await;
    let mut stream = session.caller.listen().await;
    assert_eq!(stream.status, 200);
    session.result("resources/subscribe", &json!({ "uri": "note://1" })).await;
    upstream.tell("notifications/resources/updated", &json!({ "uri": "note://1" })).await;
    let (_, message) = stream.message().await.expect("an update");
    assert_eq!(message["method"], "notifications/resources/updated");
    assert_eq!(message["params"]["uri"], "note://1");
    session.result("resources/unsubscribe", &json!({ "uri": "note://1" })).await;
    upstream.tell("notifications/tools/list_changed", &json!({})).await;
    assert_eq!(stream.message().await.unwrap().1["method"], "notifications/tools/list_changed");
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn elicitation_is_relayed_and_its_answer_goes_back() {
    let (deployment, _upstream, session) = stage().await;
    let mut stream = session.call_stream("ask", &json!({})).await;
    let (_, question) = stream.message().await.unwrap();
    assert_eq!(question["method"], "elicitation/create");
    assert_eq!(question["params"]["message"], "Which colour?");
    session.respond(&question["id"], &json!({ "action": "accept", "content": { "colour": "red" } })).await;
    let (_, last) = stream.message().await.unwrap();
    assert_eq!(last["result"]["structuredContent"]["content"]["colour"], "red", "{last}");
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_69_sampling_with_tools_and_structured_output_passes_through() {
    let (deployment, _upstream, session) = stage().await;
    let mut stream = session.call_stream("sample", &json!({})).await;
    let (_, question) = stream.message().await.unwrap();
    assert_eq!(question["method"], "sampling/createMessage");
    assert_eq!(question["params"]["tools"][0]["name"], "pick");
    let reply = json!({
        "role": "assistant", "model": "m", "content": { "type": "tool_use", "id": "t", "name": "pick", "input": {} },
    });
    session.respond(&question["id"], &reply).await;
    let (_, last) = stream.message().await.unwrap();
    assert_eq!(last["result"]["structuredContent"], reply, "{last}");
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_27_a_deleted_session_is_deleted_at_the_server_too() {
    let (deployment, upstream, session) = stage().await;
    session.call("echo", &json!({})).await;
    upstream.forget();
    assert!(session.caller.send(http::Method::DELETE).await.status.is_success());
    let deleted = async || upstream.seen().into_iter().find(|seen| seen.method == http::Method::DELETE);
    acceptance::eventually(acceptance::DEADLINE, "a DELETE at the server", deleted).await;
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_27_sessions_at_a_server_that_is_disabled_or_deleted_are_closed_there() {
    let (deployment, upstream, session) = stage().await;
    let id_of = |seen: &Seen| seen.headers["mcp-session-id"].clone();
    let deletes = |id: &http::HeaderValue| {
        let seen = upstream.seen();
        seen.iter().filter(|seen| seen.method == http::Method::DELETE && id_of(seen) == id).count()
    };
    for verb in [&["server", "update", "notes", "--disable"][..], &["server", "delete", "notes"]] {
        upstream.forget();
        // After being enabled again a server is called in a new session, of which the agent notices nothing.
        session.call("echo", &json!({})).await;
        let id = id_of(&upstream.got("tools/call").await);
        let stream = session.caller.listen().await;
        let done = deployment.cli(verb).await;
        assert_eq!(done.code, Some(0), "{}", done.output);
        let closed = async || (deletes(&id) > 0).then_some(());
        acceptance::eventually(acceptance::DEADLINE, "a DELETE at the server", closed).await;
        acceptance::within(acceptance::DEADLINE, "the agent's stream ends", stream.rest()).await;
        upstream.forget();
        let refused = session.ask("tools/call", &json!({ "name": "echo", "arguments": {} })).await;
        assert_ne!(refused.status, 200, "{}", refused.text());
        assert_eq!((upstream.calls(), deletes(&id)), (0, 0));
        if verb[1] == "update" {
            let done = deployment.cli(&["server", "update", "notes", "--enable"]).await;
            assert_eq!(done.code, Some(0), "{}", done.output);
            let works = async || {
                // Several in a row: a balancer shares them out among gateways.
                for _ in 0..4 {
                    let answer = session.ask("tools/call", &json!({ "name": "echo", "arguments": {} })).await;
                    if answer.status != 200 {
                        return None;
                    }
                }
                Some(())
            };
            acceptance::eventually(acceptance::DEADLINE, "the server is called again", works).await;
        }
    }
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_revision_of_the_era_is_negotiated() {
    let deployment = Deployment::start().await;
    let upstream = Upstream::start(Era::Session).await;
    let agent = deployment.publish("notes", &upstream).await;
    for version in ["2025-03-26", "2025-06-18", "2025-11-25"] {
        let session = Session::open_with(&agent, version, &json!({})).await;
        assert_eq!(session.initialized["protocolVersion"], version);
        session.call("echo", &json!({})).await;
    }
    // Batches belong to 2025-03-26 alone.
    let batch = |session: &Session| {
        format!(
            "[{},{}]",
            session.request_text("ping", &json!({})),
            session.request_text("tools/list", &json!({}))
        )
    };
    let old = Session::open_with(&agent, "2025-03-26", &json!({})).await;
    let answer = old.caller.post(batch(&old)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let new = Session::open(&agent).await;
    assert_eq!(new.caller.post(batch(&new)).await.status, 400);
    deployment.stop().await;
}
