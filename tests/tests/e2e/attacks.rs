//! Tokens and requests of people who want more than they may have.

use acceptance::deployment::Deployment;
use acceptance::forge::Forge;
use acceptance::mcp::{Caller, Session, Stateless, initialize};
use acceptance::oauth::Person;
use acceptance::upstream::{Era, Upstream};
use serde_json::{Value, json};

use crate::expect::{refused, refused_and_recorded, untouched};

fn open() -> String {
    initialize("2025-11-25", &json!({}))
}

fn with(mut value: Value, key: &str, new: Value) -> Value {
    match new {
        Value::Null => {
            value.as_object_mut().unwrap().remove(key);
        }
        new => value[key] = new,
    }
    value
}

#[tokio::test(flavor = "multi_thread")]
async fn rs_20_to_23_s3_14_a16_tokens_that_nobody_issued_are_refused() {
    let deployment = Deployment::start().await;
    let upstream = Upstream::start(Era::Session).await;
    let agent = deployment.publish("notes", &upstream).await;
    let genuine = deployment.token("notes").await;
    let forge = Forge::of(&deployment, &genuine).await;
    let (header, claims) = (forge.header(), forge.claims());
    // The forge works: what it makes of genuine claims is taken.
    let copied = agent.clone().token(&forge.sign(&header, &claims)).post(open()).await;
    assert_eq!(copied.status, 200, "{}", copied.text());
    let now = claims["iat"].as_i64().unwrap();
    let demo = deployment.resource("demo");
    let (head, tail) = genuine.rsplit_once('.').unwrap();
    let zero = format!("{head}.{}", "A".repeat(tail.len()));
    let claim = |key: &str, value: Value| forge.sign(&header, &with(claims.clone(), key, value));
    let typed = |key: &str, value: Value| forge.sign(&with(header.clone(), key, value), &claims);
    let tokens = [
        ("expired", claim("exp", json!(now - 120))),
        ("exp as text", claim("exp", json!((now + 300).to_string()))),
        ("no exp", claim("exp", Value::Null)),
        ("not yet", claim("nbf", json!(now + 600))),
        ("issued in the future", claim("iat", json!(now + 600))),
        ("another endpoint's audience", claim("aud", json!(demo))),
        ("the management plane's audience", claim("aud", json!(deployment.url("/api")))),
        ("two audiences", claim("aud", json!([claims["aud"], demo]))),
        ("no audience", claim("aud", Value::Null)),
        ("another issuer", claim("iss", json!("https://evil.example"))),
        ("no subject", claim("sub", Value::Null)),
        ("no jti", claim("jti", Value::Null)),
        ("no client", claim("client_id", Value::Null)),
        ("an ID token", typed("typ", json!("JWT"))),
        ("no type", typed("typ", Value::Null)),
        ("another key's id", typed("kid", json!("../../etc/passwd"))),
        ("its own key", typed("jwk", json!({ "kty": "EC" }))),
        ("a key from elsewhere", typed("jku", json!("https://evil.example/jwks"))),
        ("critical headers", typed("crit", json!(["x"]))),
        ("another algorithm's name", typed("alg", json!("RS256"))),
        ("not signed", forge.unsigned(&claims)),
        ("HS256 with the public key", forge.sign_with_public_key(&claims)),
        ("a signature of zeros", zero),
        ("half a token", genuine[..genuine.len() / 2].to_owned()),
        ("not a token", "x".to_owned()),
    ];
    upstream.forget();
    for (what, token) in tokens {
        let answer = agent.clone().token(&token).post(open()).await;
        assert_eq!(answer.status, 401, "{what}: {}", answer.text());
        let record =
            refused_and_recorded(&deployment, &upstream, &answer, (401, -32000, "invalid_token")).await;
        assert_eq!(record.principal, "anonymous", "{what}: nobody is blamed for a forged token: {record:?}");
        let challenge = answer.challenge();
        assert!(challenge.contains("error=\"invalid_token\""), "{what}: {challenge}");
        let metadata = deployment.url("/.well-known/oauth-protected-resource/notes/mcp");
        assert!(challenge.contains(&format!("resource_metadata=\"{metadata}\"")), "{what}: {challenge}");
        assert!(!answer.text().contains(&token) || token.len() < 5, "{what}: the token comes back");
    }
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rs_10_rs_14_rs_24_s2_34_no_token_or_one_in_the_query_is_refused_on_every_method() {
    let deployment = Deployment::start().await;
    let upstream = Upstream::start(Era::Session).await;
    let agent = deployment.publish("notes", &upstream).await;
    let token = deployment.token("notes").await;
    let nobody = agent.clone().without("authorization");
    for method in [http::Method::POST, http::Method::GET, http::Method::DELETE] {
        let answer = nobody.send(method).await;
        refused_and_recorded(&deployment, &upstream, &answer, (401, -32000, "token_missing")).await;
        assert!(answer.challenge().starts_with("Bearer ") && !answer.challenge().contains("error="));
    }
    let mut in_query = nobody.clone();
    in_query.url = format!("{}?access_token={token}", nobody.url);
    let answer = in_query.post(open()).await;
    let record = refused_and_recorded(&deployment, &upstream, &answer, (401, -32000, "token_missing")).await;
    assert!(!format!("{record:?}{}", answer.text()).contains(&token), "the token is not written down");
    for scheme in ["Basic YTpi", "Bearer", "Bearer  ", "DPoP x"] {
        let answer = nobody.clone().with("authorization", scheme).post(open()).await;
        assert_eq!(answer.status, 401, "{scheme}: {}", answer.text());
        untouched(&upstream, &answer);
    }
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rs_32_a_forged_host_or_origin_is_refused() {
    let deployment = Deployment::start().await;
    let upstream = Upstream::start(Era::Session).await;
    let agent = deployment.publish("notes", &upstream).await;
    for host in ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example"] {
        let answer = agent.clone().with("host", host).post(open()).await;
        refused_and_recorded(&deployment, &upstream, &answer, (421, -32600, "wrong_host")).await;
        assert!(
            answer.text().contains(deployment.ready.origin.trim_end_matches('/')),
            "it names the right URL"
        );
    }
    for origin in ["https://evil.example", "null", "http://127.0.0.1.evil.example"] {
        let answer = agent.clone().with("origin", origin).post(open()).await;
        refused_and_recorded(&deployment, &upstream, &answer, (403, -32600, "origin_not_allowed")).await;
        assert!(answer.header("access-control-allow-credentials").is_none());
    }
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rs_01_to_06_metadata_names_the_configured_origin_whatever_a_request_says() {
    let deployment = Deployment::start().await;
    let metadata = |path: &str| deployment.url(&format!("/.well-known/oauth-protected-resource{path}"));
    for (path, resource) in [("/demo/mcp", "/demo/mcp"), ("/mcp", "/mcp"), ("/api", "/api")] {
        let answer = deployment.http.get(&metadata(path)).await;
        assert_eq!(answer.status, 200, "{path}");
        let document = answer.json();
        assert_eq!(document["resource"], deployment.url(resource));
        assert_eq!(document["authorization_servers"], json!([deployment.ready.origin.trim_end_matches('/')]));
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        assert!(!document["scopes_supported"].to_string().contains("offline_access"));
    }
    for path in ["", "/", "/nothing/mcp", "/demo"] {
        assert_eq!(deployment.http.get(&metadata(path)).await.status, 404, "{path:?}");
    }
    for name in ["x-forwarded-host", "forwarded", "x-forwarded-proto"] {
        let mut headers = http::HeaderMap::new();
        headers.insert(name, "evil.example".parse().unwrap());
        let answer = deployment.http.send(http::Method::GET, &metadata("/demo/mcp"), &headers, "").await;
        assert_eq!(answer.json()["resource"], deployment.resource("demo"), "{name}");
    }
    let mut headers = http::HeaderMap::new();
    headers.insert("host", "evil.example".parse().unwrap());
    let answer = deployment.http.send(http::Method::GET, &metadata("/demo/mcp"), &headers, "").await;
    assert!(!answer.text().contains("evil"), "{}", answer.text());
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rs_30_a7_a_foreign_session_looks_like_an_unknown_one() {
    let deployment = Deployment::start().await;
    let upstream = Upstream::start(Era::Session).await;
    let agent = deployment.publish("notes", &upstream).await;
    let session = Session::open(&agent).await;
    let mut admin = Person::administrator(&deployment).await;
    let other = Caller::new(
        deployment.http.clone(),
        deployment.resource("notes"),
        &admin.access_token(&deployment.resource("notes")).await,
    );
    let hijack = other.clone().with("mcp-session-id", &session.id());
    let unknown = other.with("mcp-session-id", &"A".repeat(43));
    upstream.forget();
    for method in [http::Method::GET, http::Method::DELETE] {
        refused(&hijack.send(method).await, (404, -32600, "unknown_session"));
    }
    let list = session.request_text("tools/list", &json!({}));
    let (foreign, unknown) = (hijack.post(list.clone()).await, unknown.post(list).await);
    refused_and_recorded(&deployment, &upstream, &foreign, (404, -32600, "unknown_session")).await;
    assert_eq!(foreign.json()["error"]["message"], unknown.json()["error"]["message"], "no oracle");
    // On another route it is worth nothing either, and its owner still has it.
    let elsewhere = deployment.agent("demo").await.with("mcp-session-id", &session.id());
    refused(
        &elsewhere.post(session.request_text("tools/list", &json!({}))).await,
        (404, -32600, "unknown_session"),
    );
    session.call("echo", &json!({})).await;
    assert!(!session.id().contains("upstream"), "the server's own session id stays inside");
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rs_31_a_request_state_works_for_its_owner_and_its_request_only() {
    let deployment = Deployment::start().await;
    let upstream = Upstream::start(Era::Stateless).await;
    let agent = Stateless::new(&deployment.publish("notes", &upstream).await);
    let asked = agent.call("ask", &json!({ "n": 1 })).await;
    let state = asked["requestState"].as_str().expect("a state").to_owned();
    assert!(!state.contains("state-of-the-upstream"), "{state}");
    let reply = json!({ "form": { "action": "accept", "content": { "colour": "red" } } });
    let retry = |name: &str, arguments: Value, state: &str| json!({ "name": name, "arguments": arguments, "inputResponses": reply, "requestState": state });
    let mut admin = Person::administrator(&deployment).await;
    let token = admin.access_token(&deployment.resource("notes")).await;
    let other = Stateless::new(&agent.caller.clone().token(&token));
    let mut tampered = state.clone();
    tampered.replace_range(..1, if state.starts_with('A') { "B" } else { "A" });
    upstream.forget();
    for (who, params) in [
        (&other, retry("ask", json!({ "n": 1 }), &state)),
        (&agent, retry("ask", json!({ "n": 2 }), &state)),
        (&agent, retry("echo", json!({ "n": 1 }), &state)),
        (&agent, retry("ask", json!({ "n": 1 }), &tampered)),
        (&agent, retry("ask", json!({ "n": 1 }), "state-of-the-upstream")),
    ] {
        let answer = who.ask("tools/call", &params).await;
        let error = answer.message()["error"].clone();
        assert_eq!(error["data"]["reason"], "unknown_handle", "{}", answer.text());
        untouched(&upstream, &answer);
    }
    let done = agent.result("tools/call", &retry("ask", json!({ "n": 1 }), &state)).await;
    assert_eq!(done["structuredContent"]["content"]["colour"], "red");
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rs_25_s3_30_a6_a_server_sees_neither_token_nor_cookie_and_agents_see_no_foreign_headers() {
    let deployment = Deployment::start().await;
    let (old, new) = (Upstream::start(Era::Session).await, Upstream::start(Era::Stateless).await);
    let agent = deployment.publish("old", &old).await;
    let dressed = |caller: Caller| {
        caller.with("cookie", "a=b").with("x-forwarded-for", "1.2.3.4").with("x-internal-user", "root")
    };
    let session = Session::open(&dressed(agent)).await;
    let session_answer = session.ask("tools/call", &json!({ "name": "headers", "arguments": {} })).await;
    let mut cut = session.call_stream("cut", &json!({})).await;
    cut.message().await;
    old.release();
    cut.rest().await;
    let stateless = Stateless::new(&dressed(deployment.publish("new", &new).await));
    let stateless_answer = stateless.ask("tools/call", &json!({ "name": "headers", "arguments": {} })).await;
    for upstream in [&old, &new] {
        for seen in upstream.seen() {
            for name in ["authorization", "cookie", "x-forwarded-for", "x-internal-user", "origin"] {
                assert!(seen.headers.get(name).is_none(), "{name} reached the server: {seen:?}");
            }
            assert_eq!(seen.headers["host"], upstream.address().to_string(), "the server's own host");
        }
    }
    for answer in [session_answer, stateless_answer] {
        assert_eq!(answer.status, 200);
        assert!(
            answer.header("set-cookie").is_none() && answer.header("access-control-allow-origin").is_none()
        );
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rs_36_preflights_are_answered_without_a_token_and_never_allow_credentials() {
    let deployment = Deployment::start().await;
    let agent = deployment.agent("demo").await.without("authorization");
    let browser = agent
        .with("origin", deployment.ready.origin.trim_end_matches('/'))
        .with("access-control-request-method", "POST")
        .with("access-control-request-headers", "authorization, mcp-session-id, mcp-protocol-version");
    let answer = browser.send(http::Method::OPTIONS).await;
    assert!(answer.status.is_success(), "{}", answer.text());
    let allowed = answer.header("access-control-allow-headers").unwrap().to_lowercase();
    for name in ["authorization", "mcp-session-id", "mcp-protocol-version", "mcp-method", "last-event-id"] {
        assert!(allowed.contains(name), "{allowed}");
    }
    assert!(answer.header("access-control-allow-credentials").is_none());
    let refused = browser.clone().send(http::Method::POST).await;
    let exposed = refused.header("access-control-expose-headers").unwrap().to_lowercase();
    assert!(exposed.contains("www-authenticate") && exposed.contains("mcp-session-id"), "{exposed}");
    deployment.stop().await;
}
