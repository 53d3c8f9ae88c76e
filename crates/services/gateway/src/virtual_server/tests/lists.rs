use http::Method;
use portico_proto_registry::Names;
use serde_json::json;

use super::super::listed::What;
use super::member::{Setup, tools};
use super::{Virtual, choose, kill, names, speaks, warnings};

fn with_tools(names: &[&str]) -> Setup {
    Setup { tools: tools(names), ..Setup::default() }
}

#[tokio::test]
async fn lists_of_several_pages_are_merged_in_the_members_order() {
    let two = Setup { page: 2, ..with_tools(&["e", "d", "c", "b", "a"]) };
    let bench = Virtual::new(Names::Prefixed, vec![with_tools(&["x"]), two]).await;
    let session = bench.open().await;
    let listed = bench.ask(&session, "tools/list", json!({})).await;
    assert_eq!(names(&listed, "tools"), ["one__x", "two__e", "two__d", "two__c", "two__b", "two__a"]);
    assert!(
        listed["result"].get("_meta").is_none() && listed["result"].get("nextCursor").is_none(),
        "{listed}"
    );
    assert_eq!(bench.members[1].seen("tools/list").len(), 3);
}

#[tokio::test]
async fn a_list_is_fetched_once_until_its_server_says_that_it_changed() {
    let bench =
        Virtual::new(Names::Plain, vec![Setup { ttl_ms: 60_000, ..with_tools(&["a"]) }, with_tools(&["b"])])
            .await;
    let session = bench.open().await;
    for _ in 0..3 {
        bench.ask(&session, "tools/list", json!({})).await;
    }
    assert_eq!(bench.members[0].seen("tools/list").len(), 1);
    let get = bench.bench.request(Method::GET).header("mcp-session-id", &session);
    let stream = bench.bench.open(get.body(axum::body::Body::empty()).unwrap()).await;
    bench.members[0].change(|setup| setup.tools = tools(&["a", "new"]));
    bench.members[0].tell(1, r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#).await;
    super::session_era::next_message(&mut stream.into_body()).await;
    assert_eq!(names(&bench.ask(&session, "tools/list", json!({})).await, "tools"), ["a", "new", "b"]);
}

#[tokio::test]
async fn one_dead_member_hides_nothing_but_itself() {
    let bench =
        Virtual::new(Names::Plain, vec![with_tools(&["a"]), with_tools(&["b"]), with_tools(&["c"])]).await;
    let mut dead = Vec::new();
    bench.publish(Names::Plain, |items| dead.clone_from(items));
    kill(&mut dead, 2);
    bench.bench.catalogue(dead);
    let session = bench.open().await;
    let listed = bench.ask(&session, "tools/list", json!({})).await;
    assert_eq!(names(&listed, "tools"), ["a", "c"]);
    assert_eq!(warnings(&listed), [("two".to_owned(), "upstream_unreachable".to_owned())]);
    let called = bench.ask(&session, "tools/call", json!({"name": "c"})).await;
    assert_eq!(called["result"]["content"][0]["text"], "c at three");
    let stateless = bench.stateless("tools/list", None, json!({})).await.json();
    assert_eq!(names(&stateless, "tools"), ["a", "c"]);
    assert_eq!(warnings(&stateless), [("two".to_owned(), "upstream_unreachable".to_owned())]);
}

#[tokio::test]
async fn when_every_member_is_dead_the_agent_hears_why() {
    let bench = Virtual::new(Names::Plain, vec![with_tools(&["a"]), with_tools(&["b"])]).await;
    let mut dead = Vec::new();
    bench.publish(Names::Plain, |items| dead.clone_from(items));
    kill(&mut dead, 1);
    kill(&mut dead, 2);
    bench.bench.catalogue(dead);
    let refused = bench.stateless("tools/list", None, json!({})).await.refusal();
    assert_eq!(refused, (502, -32603, "upstream_unreachable".to_owned()));
    let body = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{}}}"#;
    let refused = bench.bench.post(body).await;
    assert_eq!(refused.refusal(), (502, -32603, "upstream_unreachable".to_owned()));
    assert!(!refused.headers.contains_key("mcp-session-id"));
}

#[tokio::test]
async fn when_one_speaks_another_era_and_the_other_is_dead_the_agent_hears_of_the_death() {
    let bench = Virtual::new(Names::Plain, vec![with_tools(&["a"]), with_tools(&["b"])]).await;
    let mut dead = Vec::new();
    bench.publish(Names::Plain, |items| dead.clone_from(items));
    kill(&mut dead, 1);
    speaks(&mut dead, 2, &["2025-11-25"]);
    bench.bench.catalogue(dead);
    assert_eq!(bench.stateless("tools/list", None, json!({})).await.refusal().2, "upstream_unreachable");
    bench.publish(Names::Plain, |items| {
        speaks(items, 1, &["2025-11-25"]);
        speaks(items, 2, &["2025-11-25"]);
    });
    let refused = bench.stateless("server/discover", None, json!({})).await;
    assert_eq!(refused.refusal(), (400, -32022, "era_not_bridged".to_owned()));
}

#[tokio::test]
async fn lists_are_served_also_where_no_memory_is_left_for_them() {
    let bench = Virtual::with(Names::Plain, vec![with_tools(&["a"]), with_tools(&["b"])], |upstream| {
        upstream.list_cache_bytes = 1;
    });
    let bench = bench.await;
    let session = bench.open().await;
    for _ in 0..3 {
        assert_eq!(names(&bench.ask(&session, "tools/list", json!({})).await, "tools"), ["a", "b"]);
    }
    let called = bench.ask(&session, "tools/call", json!({"name": "b"})).await;
    assert_eq!(called["result"]["content"][0]["text"], "b at two");
}

#[tokio::test]
async fn a_slow_member_is_left_out_and_comes_when_it_has_answered() {
    let slow = Setup { stuck: true, ttl_ms: 60_000, ..with_tools(&["b"]) };
    let bench = Virtual::with(Names::Plain, vec![with_tools(&["a"]), slow], |upstream| {
        upstream.list_timeout_ms = 1_500;
    });
    let bench = bench.await;
    let session = bench.open().await;
    let listed = bench.ask(&session, "tools/list", json!({})).await;
    assert_eq!(names(&listed, "tools"), ["a"]);
    assert_eq!(warnings(&listed), [("two".to_owned(), "upstream_timeout".to_owned())]);
    bench.members[1].change(|setup| setup.stuck = false);
    // The first fetch goes on for those who ask later; it is not made again.
    bench.bench.engine().virtual_servers.lists.landed().await;
    let again = bench.ask(&session, "tools/list", json!({})).await;
    assert_eq!(names(&again, "tools"), ["a", "b"]);
    assert_eq!(bench.members[1].seen("tools/list").len(), 1);
}

#[tokio::test]
async fn a_list_asked_for_after_a_change_is_never_one_from_before_it() {
    let slow = Setup { stuck: true, ttl_ms: 60_000, ..with_tools(&["old"]) };
    let bench = Virtual::new(Names::Plain, vec![slow, with_tools(&["a"])]).await;
    let server = crate::catalogue::testing::server_id(1);
    let list = || async { bench.stateless("tools/list", None, json!({})).await.json() };
    let (before, after) = tokio::join!(list(), async {
        while bench.members[0].seen("tools/list").is_empty() {
            tokio::task::yield_now().await;
        }
        bench.bench.engine().virtual_servers.lists.changed(server, What::Tools);
        let after = list();
        tokio::pin!(after);
        // Asked again at the server although the first answer is still to come.
        while bench.members[0].seen("tools/list").len() < 2 {
            assert!(futures_util::poll!(&mut after).is_pending());
            tokio::task::yield_now().await;
        }
        bench.members[0].change(|setup| (setup.tools, setup.stuck) = (tools(&["new"]), false));
        after.await
    });
    assert_eq!(names(&after, "tools"), ["new", "a"]);
    assert_eq!(names(&before, "tools").len(), 2);
}

#[tokio::test]
async fn a_name_that_stands_twice_belongs_to_the_first_member_and_the_other_is_reported() {
    let bench =
        Virtual::new(Names::Plain, vec![with_tools(&["a", "same"]), with_tools(&["same", "b"])]).await;
    let session = bench.open().await;
    let listed = bench.ask(&session, "tools/list", json!({})).await;
    assert_eq!(names(&listed, "tools"), ["a", "same", "b"]);
    assert_eq!(warnings(&listed), [("two".to_owned(), "name_collision".to_owned())]);
    assert_eq!(listed["result"]["_meta"]["portico/warnings"][0]["names"], json!(["same"]));
    let called = bench.ask(&session, "tools/call", json!({"name": "same"})).await;
    assert_eq!(called["result"]["content"][0]["text"], "same at one");
}

#[tokio::test]
async fn a_long_list_is_paged_with_cursors_that_belong_to_their_caller() {
    let many = |letter: char, count: usize| -> Setup {
        let all: Vec<String> = (0..count).map(|n| format!("{letter}{n}")).collect();
        with_tools(&all.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let bench = Virtual::new(Names::Plain, vec![many('a', 400), many('b', 700)]).await;
    let session = bench.open().await;
    let mut all = Vec::new();
    let mut params = json!({});
    let mut pages = 0;
    let cursor = loop {
        let page = bench.ask(&session, "tools/list", params.clone()).await;
        all.extend(names(&page, "tools"));
        pages += 1;
        match page["result"].get("nextCursor") {
            Some(next) => params = json!({"cursor": next}),
            None => break params["cursor"].as_str().unwrap().to_owned(),
        }
    };
    assert_eq!((pages, all.len()), (3, 1100));
    assert_eq!(all.iter().collect::<std::collections::HashSet<_>>().len(), 1100);
    assert_eq!(
        (all[0].as_str(), all[399].as_str(), all[400].as_str(), all[1099].as_str()),
        ("a0", "a399", "b0", "b699")
    );
    for foreign in ["400", "", &cursor[1..], &format!("{cursor}A")] {
        let refused = bench.ask(&session, "tools/list", json!({"cursor": foreign})).await;
        assert_eq!(refused["error"]["code"], -32602, "{foreign}");
        assert_eq!(refused["error"]["data"]["reason"], "unknown_handle");
    }
    let other_list = bench.ask(&session, "prompts/list", json!({"cursor": cursor})).await;
    assert_eq!(other_list["error"]["code"], -32602);
    let bob = bench.bench.token_of(&bench.bench.issuer.user(), "demo");
    let mut stolen = bench.stateless_request("tools/list", None, json!({"cursor": cursor}));
    stolen.headers_mut().insert("authorization", format!("Bearer {bob}").parse().unwrap());
    assert_eq!(bench.bench.send(stolen).await.json()["error"]["data"]["reason"], "unknown_handle");
}

#[tokio::test]
async fn rs_35_what_was_not_chosen_is_neither_listed_nor_called() {
    let one = Setup {
        prompts: vec![json!({"name": "p"}), json!({"name": "q"})],
        resources: vec![json!({"uri": "a:1", "name": "a"}), json!({"uri": "a:2", "name": "b"})],
        ..with_tools(&["open", "closed"])
    };
    let bench = Virtual::new(Names::Plain, vec![one]).await;
    bench.publish(Names::Plain, |items| {
        choose(items, 0, |member| {
            member.tools = vec!["open".to_owned()];
            member.prompts = vec!["p".to_owned()];
            member.resources = vec!["a:1".to_owned()];
        });
    });
    let session = bench.open().await;
    assert_eq!(names(&bench.ask(&session, "tools/list", json!({})).await, "tools"), ["open"]);
    assert_eq!(names(&bench.ask(&session, "prompts/list", json!({})).await, "prompts"), ["p"]);
    assert_eq!(names(&bench.ask(&session, "resources/list", json!({})).await, "resources"), ["a"]);
    for (method, params, code, reason) in [
        ("tools/call", json!({"name": "closed"}), -32602, "unknown_name"),
        ("prompts/get", json!({"name": "q"}), -32602, "unknown_name"),
        ("resources/read", json!({"uri": "a:2"}), -32002, "unknown_resource"),
        ("resources/subscribe", json!({"uri": "a:2"}), -32002, "unknown_resource"),
        ("completion/complete", json!({"ref": {"type": "ref/prompt", "name": "q"}}), -32602, "unknown_name"),
    ] {
        let refused = bench.ask(&session, method, params.clone()).await;
        assert_eq!(refused["error"]["data"]["reason"], reason, "{method}: {refused}");
        assert_eq!(refused["error"]["code"], code);
        assert!(bench.members[0].seen(method).is_empty(), "{method} reached the server");
    }
    let called = bench.ask(&session, "tools/call", json!({"name": "open"})).await;
    assert_eq!(called["result"]["content"][0]["text"], "open at one");
    let refused = bench.stateless("tools/call", Some("closed"), json!({"name": "closed"})).await;
    assert_eq!(refused.refusal(), (200, -32602, "unknown_name".to_owned()));
}

#[tokio::test]
async fn members_of_the_other_era_are_left_out_with_a_warning_and_a_call_says_so() {
    let bench = Virtual::new(Names::Prefixed, vec![with_tools(&["a"]), with_tools(&["b"])]).await;
    bench.publish(Names::Prefixed, |items| {
        speaks(items, 1, &["2025-11-25"]);
        speaks(items, 2, &["2026-07-28"]);
    });
    let session = bench.open().await;
    let listed = bench.ask(&session, "tools/list", json!({})).await;
    assert_eq!(names(&listed, "tools"), ["one__a"]);
    assert_eq!(warnings(&listed), [("two".to_owned(), "era_not_bridged".to_owned())]);
    let called = bench.ask(&session, "tools/call", json!({"name": "two__b"})).await;
    assert_eq!(called["error"]["data"]["reason"], "era_not_bridged");
    let listed = bench.stateless("tools/list", None, json!({})).await.json();
    assert_eq!(names(&listed, "tools"), ["two__b"]);
    assert_eq!(warnings(&listed), [("one".to_owned(), "era_not_bridged".to_owned())]);
    let called = bench.stateless("tools/call", Some("one__a"), json!({"name": "one__a"})).await;
    assert_eq!(called.refusal().2, "era_not_bridged");
    assert!(bench.members[0].seen("tools/call").is_empty() && bench.members[1].seen("tools/call").is_empty());
}

#[tokio::test]
async fn under_plain_names_a_call_says_that_its_owner_speaks_the_other_era_if_the_owner_is_known() {
    let bench = Virtual::new(Names::Plain, vec![with_tools(&["a"]), with_tools(&["b"])]).await;
    let publish = |chosen: &[&str]| {
        bench.publish(Names::Plain, |items| {
            speaks(items, 1, &["2025-11-25"]);
            speaks(items, 2, &["2026-07-28"]);
            choose(items, 1, |member| member.tools = chosen.iter().map(|name| (*name).to_owned()).collect());
        });
    };
    publish(&[]);
    let session = bench.open().await;
    let call =
        async |name: &str| bench.ask(&session, "tools/call", json!({"name": name})).await["error"].clone();
    for name in ["b", "nobody's"] {
        let refused = call(name).await;
        assert_eq!(
            (&refused["code"], &refused["data"]["reason"]),
            (&json!(-32602), &json!("unknown_name")),
            "{name}"
        );
    }
    let refused = bench.ask(&session, "resources/read", json!({"uri": "nobody:1"})).await["error"].clone();
    assert_eq!((&refused["code"], &refused["data"]["reason"]), (&json!(-32002), &json!("unknown_resource")));
    let refused = bench.stateless("tools/call", Some("x"), json!({"name": "x"})).await;
    assert_eq!(refused.refusal(), (200, -32602, "unknown_name".to_owned()));
    // A client of the other era lists it: the owner is known from now on.
    assert_eq!(names(&bench.stateless("tools/list", None, json!({})).await.json(), "tools"), ["b"]);
    let refused = call("b").await;
    assert_eq!(refused["data"]["reason"], "era_not_bridged");
    assert!(refused["message"].as_str().unwrap().contains("two"));
    assert_eq!(call("nobody's").await["data"]["reason"], "unknown_name");
    // So it is when the owner of the endpoint chose it by name.
    publish(&["chosen"]);
    assert_eq!(call("chosen").await["data"]["reason"], "era_not_bridged");
}
