use axum::body::Body;
use http::Method;
use portico_oauth_types::ScopeSet;

use crate::catalogue::testing::{ORIGIN, endpoint, server};
use crate::testing::{Bench, call};

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;

fn body(text: &str) -> Body {
    Body::from(text.to_owned())
}

#[tokio::test]
async fn rs_13_every_method_is_challenged_without_a_token() {
    let bench = Bench::new().await;
    for method in [Method::POST, Method::GET, Method::DELETE] {
        let mut request = bench.request(method).body(body(INITIALIZE)).unwrap();
        request.headers_mut().remove("authorization");
        let answer = bench.send(request).await;
        bench.assert_refused(&answer, (401, -32000, "token_missing"), 0);
        let challenge = answer.headers["www-authenticate"].to_str().unwrap();
        assert_eq!(
            challenge,
            "Bearer scope=\"mcp\", resource_metadata=\"http://127.0.0.1:8080/.well-known/oauth-protected-resource/demo/mcp\""
        );
        assert!(answer.headers.contains_key("x-correlation-id"));
    }
}

#[tokio::test]
async fn rs_20_a_token_for_another_endpoint_is_refused() {
    let bench = Bench::new().await;
    for endpoint in ["other", "mcp"] {
        let mut request = bench.request(Method::POST).body(body(INITIALIZE)).unwrap();
        let token = format!("Bearer {}", bench.token(endpoint));
        request.headers_mut().insert("authorization", token.parse().unwrap());
        let answer = bench.send(request).await;
        bench.assert_refused(&answer, (401, -32000, "invalid_token"), 0);
        assert_eq!(answer.json()["error"]["data"]["token"], "token_audience_wrong");
    }
}

#[tokio::test]
async fn rs_24_a_token_in_the_query_is_ignored() {
    let bench = Bench::new().await;
    let mut request = bench.request(Method::POST).body(body(INITIALIZE)).unwrap();
    *request.uri_mut() = format!("/demo/mcp?access_token={}", bench.token("demo")).parse().unwrap();
    request.headers_mut().remove("authorization");
    bench.assert_refused(&bench.send(request).await, (401, -32000, "token_missing"), 0);
}

#[tokio::test]
async fn rs_23_an_expired_token_is_refused() {
    let bench = Bench::new().await;
    let request = bench.request(Method::POST).body(body(INITIALIZE)).unwrap();
    bench.clock.advance(chrono::Duration::hours(1));
    bench.issuer.heartbeat();
    bench.assert_refused(&bench.send(request).await, (401, -32000, "invalid_token"), 0);
}

#[tokio::test]
async fn trust_that_is_too_old_closes_the_door() {
    let bench = Bench::new().await;
    let request = bench.request(Method::POST).body(body(INITIALIZE)).unwrap();
    bench.clock.advance(chrono::Duration::seconds(121));
    let answer = bench.send(request).await;
    assert_eq!(answer.refusal(), (503, -32603, "trust_stale".to_owned()));
}

#[tokio::test]
async fn rs_11_a_token_without_the_scope_is_asked_to_step_up() {
    let bench = Bench::new().await;
    let mut request = bench.request(Method::POST).body(body(INITIALIZE)).unwrap();
    let scopes = ScopeSet::parse("registry:read").unwrap();
    let token = bench.issuer.token(&bench.alice, &format!("{ORIGIN}/demo/mcp"), scopes);
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let answer = bench.send(request).await;
    bench.assert_refused(&answer, (403, -32000, "insufficient_scope"), 0);
    assert!(
        answer.headers["www-authenticate"]
            .to_str()
            .unwrap()
            .starts_with("Bearer error=\"insufficient_scope\"")
    );
}

#[tokio::test]
async fn a_private_endpoint_needs_a_grant() {
    let bench = Bench::new().await;
    let mut items = bench.demo();
    if let Some(portico_proto_registry::catalogue_item::Value::Endpoint(item)) = &mut items[2].1.value {
        item.visibility = portico_proto_registry::Visibility::Private.into();
    }
    bench.catalogue(items);
    bench.assert_refused(&bench.post(INITIALIZE).await, (403, -32000, "access_denied"), 0);
}

#[tokio::test]
async fn rs_32_forged_host_and_origin_are_refused() {
    let bench = Bench::new().await;
    let mut request = bench.request(Method::POST).body(body(INITIALIZE)).unwrap();
    request.headers_mut().insert("host", "evil.example".parse().unwrap());
    let answer = bench.send(request).await;
    bench.assert_refused(&answer, (421, -32600, "wrong_host"), 0);
    assert!(answer.text().contains("http://127.0.0.1:8080/demo/mcp"));
    let request =
        bench.request(Method::POST).header("origin", "https://evil.example").body(body(INITIALIZE)).unwrap();
    let answer = bench.send(request).await;
    bench.assert_refused(&answer, (403, -32600, "origin_not_allowed"), 0);
    assert!(!answer.headers.contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn rs_36_preflight_needs_no_token_and_answers_are_readable() {
    let bench = Bench::with(|settings| settings.allowed_origins = vec!["https://ok.example".into()]).await;
    let mut request =
        bench.request(Method::OPTIONS).header("origin", "https://ok.example").body(Body::empty()).unwrap();
    request.headers_mut().remove("authorization");
    assert_eq!(bench.send(request).await.status, 204);
    let request =
        bench.request(Method::POST).header("origin", "https://ok.example").body(body(INITIALIZE)).unwrap();
    let answer = bench.send(request).await;
    assert_eq!(answer.headers["access-control-allow-origin"], "https://ok.example");
    assert_eq!(answer.headers["vary"], "Origin");
}

#[tokio::test]
async fn an_unknown_endpoint_is_404_and_a_new_one_is_served() {
    let bench = Bench::new().await;
    let mut request = bench.request(Method::POST).body(body(INITIALIZE)).unwrap();
    *request.uri_mut() = "/nope/mcp".parse().unwrap();
    bench.assert_refused(&bench.send(request).await, (404, -32600, "unknown_endpoint"), 0);
    bench.catalogue(Vec::new());
    bench.assert_refused(&bench.post(INITIALIZE).await, (404, -32600, "unknown_endpoint"), 0);
    bench.catalogue(bench.demo());
    assert_eq!(bench.post(INITIALIZE).await.status, 200);
}

#[tokio::test]
async fn s3_02_bad_bodies_are_refused_and_recorded() {
    let bench = Bench::with(|settings| settings.requests.max_body_bytes = 2_000).await;
    let deep =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"a","params":{}{}}}"#, "[".repeat(70), "]".repeat(70));
    for (text, expected) in [
        ("{", (400, -32700, "malformed_json")),
        ("\"x\"", (400, -32600, "invalid_message")),
        (r#"[{"jsonrpc":"2.0","id":1,"method":"tools/list"}]"#, (400, -32600, "invalid_message")),
        (r#"{"jsonrpc":"2.0","id":1,"method":"a","m\u0065thod":"b"}"#, (400, -32600, "duplicate_key")),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":["a"]}"#,
            (400, -32600, "invalid_message"),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":1,"name":2}}"#,
            (400, -32600, "duplicate_key"),
        ),
        (&deep, (400, -32600, "body_too_deep")),
        (&"x".repeat(2_001), (413, -32600, "body_too_large")),
    ] {
        let answer = bench.post(text).await;
        bench.assert_refused(&answer, expected, 0);
    }
}

#[tokio::test]
async fn media_types_are_checked() {
    let bench = Bench::new().await;
    let mut request = bench.request(Method::POST).body(body(INITIALIZE)).unwrap();
    request.headers_mut().insert("content-type", "text/plain".parse().unwrap());
    bench.assert_refused(&bench.send(request).await, (415, -32600, "unsupported_media_type"), 0);
    let mut request = bench.request(Method::POST).body(body(INITIALIZE)).unwrap();
    request.headers_mut().insert("accept", "application/json".parse().unwrap());
    bench.assert_refused(&bench.send(request).await, (406, -32600, "not_acceptable"), 0);
    let request = bench.request(Method::PUT).body(body(INITIALIZE)).unwrap();
    bench.assert_refused(&bench.send(request).await, (405, -32600, "method_not_allowed"), 0);
}

#[tokio::test]
async fn a_principal_that_calls_too_often_is_slowed_down() {
    let bench = Bench::with(|settings| settings.limits.principal_burst = 2).await;
    assert_eq!(bench.post(INITIALIZE).await.status, 200);
    assert_eq!(bench.post(INITIALIZE).await.status, 200);
    let answer = bench.post(INITIALIZE).await;
    bench.assert_refused(&answer, (429, -32000, "rate_limited"), 2);
    assert!(answer.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn rs_06_metadata_comes_from_settings_and_is_404_where_nothing_is() {
    let bench = Bench::new().await;
    let get = |path: &str, host: &str| {
        http::Request::builder().uri(path).header("host", host).body(Body::empty()).unwrap()
    };
    let answer = bench.send(get("/.well-known/oauth-protected-resource/demo/mcp", "127.0.0.1:8080")).await;
    assert_eq!(answer.json()["resource"], "http://127.0.0.1:8080/demo/mcp");
    assert_eq!(answer.headers["access-control-allow-origin"], "*");
    for path in ["", "/nope/mcp", "/demo"] {
        let path = format!("/.well-known/oauth-protected-resource{path}");
        let answer = bench.send(get(&path, "127.0.0.1:8080")).await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.json()["reason"], "unknown_resource");
    }
    let preflight =
        http::Request::options("/.well-known/oauth-protected-resource/demo/mcp").body(Body::empty());
    let preflight = bench.send(preflight.unwrap()).await;
    assert_eq!(preflight.status, 204);
    assert!(
        preflight.headers["access-control-allow-headers"].to_str().unwrap().contains("mcp-protocol-version")
    );
    let forged = bench.send(get("/.well-known/oauth-protected-resource/demo/mcp", "evil.example")).await;
    assert_eq!(forged.status, 421);
}

#[tokio::test]
async fn s3_07_a_sound_correlation_id_is_kept_and_reaches_the_server() {
    let bench = Bench::new().await;
    let request =
        bench.request(Method::POST).header("x-correlation-id", "abc-12345").body(body(INITIALIZE)).unwrap();
    assert_eq!(bench.send(request).await.headers["x-correlation-id"], "abc-12345");
    assert_eq!(bench.server.last().headers["x-correlation-id"], "abc-12345");
    let request =
        bench.request(Method::POST).header("x-correlation-id", "a b").body(body(INITIALIZE)).unwrap();
    assert_ne!(bench.send(request).await.headers["x-correlation-id"], "a b");
}

#[tokio::test]
async fn rs_25_the_agents_token_and_cookies_never_reach_a_server() {
    let bench = Bench::new().await;
    let session = bench.initialize("2025-11-25").await;
    let mut request = bench.session_request(&session, &call(1, "stream"));
    request.headers_mut().insert("cookie", "a=b".parse().unwrap());
    request.headers_mut().insert("x-forwarded-for", "1.2.3.4".parse().unwrap());
    let answer = bench.send(request).await;
    for seen in bench.server.seen() {
        for name in ["authorization", "cookie", "x-forwarded-for", "origin"] {
            assert!(!seen.headers.contains_key(name), "{name}");
        }
        assert_eq!(seen.headers["host"], bench.server.address.to_string());
    }
    for name in ["set-cookie", "location"] {
        assert!(!answer.headers.contains_key(name), "{name}");
    }
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
}

#[tokio::test]
async fn an_endpoint_whose_server_is_gone_says_so() {
    let bench = Bench::new().await;
    bench.catalogue(vec![server(1, "demo"), endpoint("demo", &[1])]);
    let answer = bench.post(INITIALIZE).await;
    assert_eq!(answer.refusal(), (503, -32603, "no_instance".to_owned()));
}
