use portico_proto_registry::Names;
use serde_json::json;

use super::member::{Setup, tools};
use super::session_era::next_message;
use super::{Virtual, kill, names, warnings};

#[tokio::test]
async fn discover_says_what_the_live_members_can() {
    let one = Setup { capabilities: json!({"tools": {"listChanged": true}}), ..Setup::default() };
    let two = Setup { capabilities: json!({"prompts": {}}), ..Setup::default() };
    let bench = Virtual::new(Names::Plain, vec![one, two]).await;
    let found = bench.stateless("server/discover", None, json!({})).await.json();
    assert_eq!(found["result"]["capabilities"], json!({"tools": {"listChanged": true}, "prompts": {}}));
    assert_eq!(found["result"]["supportedVersions"][0], "2026-07-28");
    assert_eq!(
        (&found["result"]["resultType"], &found["result"]["cacheScope"]),
        (&json!("complete"), &json!("private"))
    );
    assert_eq!(found["result"]["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "portico");
    let mut dead = Vec::new();
    bench.publish(Names::Plain, |items| dead.clone_from(items));
    kill(&mut dead, 1);
    bench.bench.catalogue(dead);
    let found = bench.stateless("server/discover", None, json!({})).await.json();
    assert_eq!(found["result"]["capabilities"], json!({"prompts": {}}));
    assert_eq!(warnings(&found), [("one".to_owned(), "upstream_unreachable".to_owned())]);
}

#[tokio::test]
async fn a_merged_list_is_private_and_holds_as_long_as_each_part_of_it() {
    let with = |names: &[&str], ttl_ms| Setup { tools: tools(names), ttl_ms, ..Setup::default() };
    let bench = Virtual::new(Names::Plain, vec![with(&["a"], 60_000), with(&["b"], 20_000)]).await;
    let listed = bench.stateless("tools/list", None, json!({})).await.json();
    assert_eq!(names(&listed, "tools"), ["a", "b"]);
    let ttl = listed["result"]["ttlMs"].as_u64().unwrap();
    assert!((1..=20_000).contains(&ttl), "{ttl}");
    assert_eq!(listed["result"]["cacheScope"], "private", "servers said public");
    bench.stateless("tools/list", None, json!({})).await;
    assert_eq!(bench.members[0].seen("tools/list").len(), 1);
    let seen = bench.members[0].seen("tools/list").pop().unwrap();
    assert_eq!(
        (seen.headers["mcp-method"].as_bytes(), seen.headers["mcp-protocol-version"].as_bytes()),
        (&b"tools/list"[..], &b"2026-07-28"[..])
    );
    let capabilities = &seen.message["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"];
    assert_eq!(capabilities, &json!({"elicitation": {}}));
}

#[tokio::test]
async fn rs_33_headers_mirror_the_members_own_name_and_annotated_arguments() {
    let annotated = json!({"name": "region", "inputSchema": {"type": "object", "properties": {"where": {"type": "string", "x-mcp-header": "Region"}}}});
    let invalid = json!({"name": "bad", "inputSchema": {"type": "object", "properties": {"a": {"type": "number", "x-mcp-header": "A"}}}});
    let bench = Virtual::new(
        Names::Prefixed,
        vec![Setup { tools: vec![annotated, invalid], ..Setup::default() }, Setup::default()],
    )
    .await;
    let listed = bench.stateless("tools/list", None, json!({})).await.json();
    assert_eq!(names(&listed, "tools"), ["one__region"], "invalid annotations leave a tool out");
    let params = json!({"name": "one__region", "arguments": {"where": "eu"}});
    let mut call = bench.stateless_request("tools/call", Some("one__region"), params.clone());
    call.headers_mut().insert("mcp-param-region", "eu".parse().unwrap());
    assert_eq!(bench.bench.send(call).await.json()["result"]["content"][0]["text"], "region at one");
    let seen = bench.members[0].seen("tools/call").pop().unwrap();
    assert_eq!(
        (seen.headers["mcp-name"].as_bytes(), seen.headers["mcp-param-region"].as_bytes()),
        (&b"region"[..], &b"eu"[..])
    );
    let mut call = bench.stateless_request("tools/call", Some("one__region"), params.clone());
    call.headers_mut().insert("mcp-param-region", "us".parse().unwrap());
    assert_eq!(bench.bench.send(call).await.refusal(), (400, -32020, "header_mismatch".to_owned()));
    let call = bench.stateless_request("tools/call", Some("region"), params);
    assert_eq!(bench.bench.send(call).await.refusal(), (400, -32020, "header_mismatch".to_owned()));
}

#[tokio::test]
async fn a_request_state_goes_back_to_the_server_that_made_it_and_to_no_other() {
    let bench = Virtual::new(Names::Prefixed, vec![Setup::default(), Setup::default()]).await;
    let asked = bench.stateless("tools/call", Some("two__ask"), json!({"name": "two__ask"})).await.json();
    let state = asked["result"]["requestState"].as_str().unwrap().to_owned();
    assert_ne!(state, "kept");
    let retry = json!({"name": "two__ask", "requestState": state, "inputResponses": {}});
    let done = bench.stateless("tools/call", Some("two__ask"), retry).await.json();
    assert_eq!((&done["result"]["got"], &done["result"]["by"]), (&json!("kept"), &json!("two")));
    let stolen = json!({"name": "one__ask", "requestState": state, "inputResponses": {}});
    let refused = bench.stateless("tools/call", Some("one__ask"), stolen).await;
    assert_eq!(refused.refusal(), (200, -32602, "unknown_handle".to_owned()));
    assert!(bench.members[0].seen("tools/call").is_empty());
}

#[tokio::test]
async fn rs_31_a_foreign_request_state_is_refused_before_any_member_is_asked_for_its_list() {
    let with = |names: &[&str]| Setup { tools: tools(names), ..Setup::default() };
    let bench = Virtual::new(Names::Plain, vec![with(&["other"]), with(&["ask"])]).await;
    let call = async |state: &str| {
        let params = json!({"name": "ask", "requestState": state, "inputResponses": {}});
        bench.stateless("tools/call", Some("ask"), params).await
    };
    assert_eq!(call("kept").await.refusal(), (200, -32602, "unknown_handle".to_owned()));
    let asked = bench.members.iter().map(|member| member.seen("tools/list").len()).sum::<usize>();
    assert_eq!(asked, 0);
    let first = bench.stateless("tools/call", Some("ask"), json!({"name": "ask"})).await.json();
    let own = call(first["result"]["requestState"].as_str().unwrap()).await.json();
    assert_eq!((&own["result"]["got"], &own["result"]["by"]), (&json!("kept"), &json!("two")));
}

#[tokio::test]
async fn listen_is_acknowledged_once_and_then_brings_what_all_members_tell() {
    let with = |name: &str| Setup {
        resources: vec![json!({"uri": format!("{name}:1"), "name": "r"})],
        ..Setup::default()
    };
    let bench = Virtual::new(Names::Plain, vec![with("a"), with("b")]).await;
    let wanted =
        json!({"notifications": {"toolsListChanged": true, "resourceSubscriptions": ["b:1", "nobody:1"]}});
    let request = bench.stateless_request("subscriptions/listen", None, wanted);
    let mut stream = bench.bench.open(request).await.into_body();
    let acknowledged = next_message(&mut stream).await;
    assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged");
    let params = &acknowledged["params"];
    assert_eq!(params["notifications"], json!({"toolsListChanged": true, "resourceSubscriptions": ["b:1"]}));
    assert_eq!(params["_meta"]["io.modelcontextprotocol/subscriptionId"], 1);
    let asked = &bench.members[0].seen("subscriptions/listen")[0].message;
    assert_eq!(
        asked["params"]["notifications"],
        json!({"toolsListChanged": true}),
        "another's resource is not told"
    );
    assert_eq!(asked["id"], 1);
    bench.members[1]
        .tell(1, r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"b:1"}}"#)
        .await;
    assert_eq!(next_message(&mut stream).await["params"]["uri"], "b:1");
    bench.members[0].tell(1, r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#).await;
    assert_eq!(next_message(&mut stream).await["method"], "notifications/tools/list_changed");
    let refused = bench.stateless("subscriptions/listen", None, json!({})).await;
    assert_eq!(refused.refusal(), (400, -32602, "invalid_params".to_owned()));
}
