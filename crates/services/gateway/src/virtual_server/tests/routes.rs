use axum::body::Body;
use http::Request;
use portico_proto_registry::catalogue_item::Value as ItemValue;
use portico_proto_registry::{Names, Visibility};
use serde_json::{Value, json};

use super::member::{Setup, tools};
use super::{Virtual, names};
use crate::catalogue::testing::endpoint;

#[tokio::test]
async fn a_call_goes_to_its_member_under_the_members_own_name_and_nothing_else_changes() {
    let bench = Virtual::new(Names::Prefixed, vec![Setup::default(), Setup::default()]).await;
    let session = bench.open().await;
    let body = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"arguments":{"name":"two__x","big":12345678901234567890123,"n":1.10}, "name" : "two__echo"}}"#;
    let answer = bench.bench.in_session(&session, body).await.json();
    assert_eq!(answer["result"]["content"][0]["text"], "echo at two");
    let seen = bench.members[1].seen("tools/call").pop().unwrap();
    assert_eq!(seen.message["params"]["name"], "echo");
    assert_eq!(seen.message["params"]["arguments"]["name"], "two__x");
    assert!(bench.members[0].seen("tools/call").is_empty());
    assert!(bench.members.iter().all(|m| m.seen("tools/list").is_empty()), "a prefix needs no list");
}

#[tokio::test]
async fn an_unknown_name_is_refused_and_no_call_is_made() {
    let bench = Virtual::new(Names::Prefixed, vec![Setup::default(), Setup::default()]).await;
    let session = bench.open().await;
    for name in ["echo", "three__echo", "two_echo", "two__", ""] {
        let refused = bench.ask(&session, "tools/call", json!({"name": name})).await;
        assert_eq!(refused["error"]["data"]["reason"], "unknown_name", "{name}: {refused}");
        assert_eq!(refused["error"]["code"], -32602);
    }
    let plain = Virtual::new(Names::Plain, vec![Setup::default(), Setup::default()]).await;
    let session = plain.open().await;
    let refused = plain.ask(&session, "tools/call", json!({"name": "echo"})).await;
    assert_eq!(refused["error"]["data"]["reason"], "unknown_name");
    assert!(plain.members.iter().all(|member| member.seen("tools/call").is_empty()));
}

#[tokio::test]
async fn a22_a_second_name_for_servers_that_do_not_look_at_case_reaches_none() {
    let bench = Virtual::new(Names::Prefixed, vec![Setup::default(), Setup::default()]).await;
    let session = bench.open().await;
    for params in [
        r#"{"name":"two__echo","Name":"hidden"}"#,
        r#"{"NAME":"hidden","name":"two__echo"}"#,
        r#"{"name":"two__echo"},"Params":{"name":"hidden"}"#,
    ] {
        let body = format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{params}}}"#);
        let refused = bench.bench.in_session(&session, &body).await.json();
        assert_eq!(refused["error"]["data"]["reason"], "duplicate_key", "{params}");
    }
    let reference = json!({"ref": {"type": "ref/prompt", "name": "two__p", "Name": "hidden"}});
    let refused = bench.ask(&session, "completion/complete", reference).await;
    assert_eq!(refused["error"]["data"]["reason"], "duplicate_key");
    assert!(bench.members[1].seen("tools/call").is_empty());
}

#[tokio::test]
async fn a_shortened_name_finds_its_tool() {
    let long = "x".repeat(80);
    let setup = Setup { tools: tools(&[&long, "short"]), ..Setup::default() };
    let bench = Virtual::new(Names::Prefixed, vec![Setup::default(), setup]).await;
    let session = bench.open().await;
    let listed = names(&bench.ask(&session, "tools/list", json!({})).await, "tools");
    assert_eq!((listed[0].len(), listed[1].as_str()), (64, "two__short"));
    let answer = bench.ask(&session, "tools/call", json!({"name": listed[0]})).await;
    assert_eq!(answer["result"]["content"][0]["text"], format!("{long} at two"));
    let answer = bench.stateless("tools/call", Some(&listed[0]), json!({"name": listed[0]})).await.json();
    assert_eq!(answer["result"]["content"][0]["text"], format!("{long} at two"));
    let seen = bench.members[1].seen("tools/call").pop().unwrap();
    assert_eq!(seen.headers["mcp-name"], long.as_str(), "Mcp-Name says what the body says");
}

fn with_resources(uris: &[&str], templates: &[&str]) -> Setup {
    Setup {
        resources: uris.iter().map(|uri| json!({"uri": uri, "name": "r"})).collect(),
        templates: templates.iter().map(|template| json!({"uriTemplate": template, "name": "t"})).collect(),
        capabilities: json!({"resources": {"subscribe": true}, "completions": {}, "prompts": {}}),
        prompts: vec![json!({"name": "p"})],
        ..Setup::default()
    }
}

#[tokio::test]
async fn a_resource_is_read_from_who_lists_it_then_by_template_then_from_who_showed_it() {
    let one = with_resources(&["file:///docs/a", "twice:1"], &["file:///{path}"]);
    let two = with_resources(&["twice:1"], &["file:///docs/{path}"]);
    let bench = Virtual::new(Names::Prefixed, vec![one, two]).await;
    let session = bench.open().await;
    let listed = bench.ask(&session, "resources/list", json!({})).await;
    assert_eq!(
        listed["result"]["resources"].as_array().unwrap().len(),
        2,
        "a URI listed twice is listed once"
    );
    assert_eq!(listed["result"]["_meta"]["portico/warnings"][0]["names"], json!(["twice:1"]));
    for (uri, owner) in
        [("file:///docs/a", "one"), ("twice:1", "one"), ("file:///docs/b", "two"), ("file:///other", "one")]
    {
        let read = bench.ask(&session, "resources/read", json!({"uri": uri})).await;
        assert_eq!(read["result"]["by"], owner, "{uri}");
        assert_eq!(read["result"]["params"]["uri"], uri, "URIs are never rewritten");
    }
    let shown = "made-by:///two";
    let refused = bench.ask(&session, "resources/read", json!({"uri": shown})).await;
    assert_eq!(
        (&refused["error"]["code"], &refused["error"]["data"]["reason"], &refused["error"]["data"]["uri"]),
        (&json!(-32002), &json!("unknown_resource"), &json!(shown))
    );
    let refused = bench.stateless("resources/read", Some(shown), json!({"uri": shown})).await.json();
    assert_eq!(
        (&refused["error"]["code"], &refused["error"]["data"]["uri"]),
        (&json!(-32602), &json!(shown)),
        "2026-07-28 has no code of its own for it"
    );
    bench.ask(&session, "tools/call", json!({"name": "two__link"})).await;
    assert_eq!(bench.ask(&session, "resources/read", json!({"uri": shown})).await["result"]["by"], "two");
    let bob = bench.bench.token_of(&bench.bench.issuer.user(), "demo");
    let mut stolen = bench.stateless_request("resources/read", Some(shown), json!({"uri": shown}));
    stolen.headers_mut().insert("authorization", format!("Bearer {bob}").parse().unwrap());
    assert_eq!(bench.bench.send(stolen).await.refusal().2, "unknown_name", "it was shown to somebody else");
}

#[tokio::test]
async fn completions_go_to_the_owner_of_the_prompt_or_template() {
    let one = with_resources(&[], &["one:///{path}"]);
    let two = with_resources(&[], &["two:///{path}"]);
    let bench = Virtual::new(Names::Prefixed, vec![one, two]).await;
    let session = bench.open().await;
    let complete = |reference: Value| json!({"ref": reference, "argument": {"name": "path", "value": "a"}});
    let prompt = complete(json!({"type": "ref/prompt", "name": "two__p"}));
    let answer = bench.ask(&session, "completion/complete", prompt).await;
    assert_eq!(
        (&answer["result"]["by"], &answer["result"]["params"]["ref"]["name"]),
        (&json!("two"), &json!("p"))
    );
    let template = complete(json!({"type": "ref/resource", "uri": "two:///{path}"}));
    assert_eq!(bench.ask(&session, "completion/complete", template.clone()).await["result"]["by"], "two");
    assert_eq!(bench.stateless("completion/complete", None, template).await.json()["result"]["by"], "two");
    let refused = bench.ask(&session, "completion/complete", json!({})).await;
    assert_eq!(refused["error"]["code"], -32602);
    let got = bench.ask(&session, "prompts/get", json!({"name": "one__p"})).await;
    assert_eq!((&got["result"]["by"], &got["result"]["params"]["name"]), (&json!("one"), &json!("p")));
}

#[tokio::test]
async fn the_root_serves_what_the_caller_may_use_and_nothing_else() {
    let with = |names: &[&str]| Setup { tools: tools(names), ..Setup::default() };
    let bench = Virtual::new(Names::Plain, vec![with(&["a"]), with(&["b"]), with(&["c"])]).await;
    bench.publish(Names::Plain, |items| {
        items.pop();
        items.push(endpoint("pub-one", &[1]));
        let mut some = endpoint("pub-two", &[2]);
        if let Some(ItemValue::Endpoint(item)) = &mut some.1.value {
            item.members[0].tools = vec!["b".to_owned()];
        }
        items.push(some);
        let mut private = endpoint("private", &[3]);
        if let Some(ItemValue::Endpoint(item)) = &mut private.1.value {
            item.visibility = Visibility::Private.into();
        }
        items.push(private);
    });
    let request = |method: &str, name: Option<&str>, params: Value| -> Request<Body> {
        let mut request = bench.stateless_request(method, name, params);
        *request.uri_mut() = "/mcp".parse().unwrap();
        let token = format!("Bearer {}", bench.bench.token("mcp"));
        request.headers_mut().insert("authorization", token.parse().unwrap());
        request
    };
    let listed = bench.bench.send(request("tools/list", None, json!({}))).await.json();
    assert_eq!(names(&listed, "tools"), ["one__a", "two__b"]);
    let called =
        bench.bench.send(request("tools/call", Some("one__a"), json!({"name": "one__a"}))).await.json();
    assert_eq!(called["result"]["content"][0]["text"], "a at one");
    for name in ["three__c", "two__other"] {
        let refused = bench.bench.send(request("tools/call", Some(name), json!({"name": name}))).await;
        assert_eq!(refused.refusal().2, "unknown_name", "{name}");
    }
    assert!(bench.members[2].seen("tools/list").is_empty() && bench.members[2].seen("tools/call").is_empty());
}
