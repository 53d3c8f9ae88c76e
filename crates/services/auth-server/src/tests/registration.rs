use axum::body::Body;
use http::{Request, StatusCode};
use serde_json::{Value, json};

use super::harness::{CALLBACK, Portico};
use crate::{AuthServerSettings, RegistrationMode, RegistrationSettings};

#[tokio::test]
async fn as_30_what_was_kept_is_echoed_and_unusable_uris_are_dropped() {
    let portico = Portico::start().await;
    let answer = portico
        .register(json!({
            "client_name": "Cur\u{202e}sor\u{0}",
            "redirect_uris": [
                "cursor://anysphere.cursor-mcp/oauth/callback", "evil://x", "http://example.com/cb",
                "http://localhost:3000/cb",
            ],
            "token_endpoint_auth_method": "none",
            "grant_types": ["authorization_code", "refresh_token", "urn:unknown"],
            "unknown_field": {"ignored": true},
        }))
        .await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(answer.header("cache-control"), "no-store");
    let client = answer.json();
    assert_eq!(client["client_name"], "Cursor");
    let kept = json!(["cursor://anysphere.cursor-mcp/oauth/callback", "http://localhost:3000/cb"]);
    assert_eq!(client["redirect_uris"], kept);
    assert_eq!(client["grant_types"], json!(["authorization_code", "refresh_token"]));
    assert_eq!(client["application_type"], "native");
    assert!(client.get("client_secret").is_none() && client.get("unknown_field").is_none());
    assert!(!client["client_id"].as_str().unwrap().starts_with("https://"));
}

#[tokio::test]
async fn as_30_registrations_without_a_usable_uri_are_refused() {
    let portico = Portico::start().await;
    for (metadata, error) in [
        (json!({}), "invalid_redirect_uri"),
        (json!({"redirect_uris": ["http://example.com/"]}), "invalid_redirect_uri"),
        (json!({"redirect_uris": vec![CALLBACK; 11]}), "invalid_redirect_uri"),
        (
            json!({"redirect_uris": [CALLBACK], "token_endpoint_auth_method": "tls"}),
            "invalid_client_metadata",
        ),
    ] {
        portico.register(metadata).await.is_error(StatusCode::BAD_REQUEST, error);
        portico.advance(chrono::Duration::seconds(1));
    }
}

#[tokio::test]
async fn as_30_bodies_are_bounded_and_must_be_json() {
    let portico = Portico::start().await;
    for body in
        ["not json".to_owned(), "[]".to_owned(), format!("{{\"client_name\":\"{}\"}}", "x".repeat(17_000))]
    {
        let request = Request::post("/oauth2/register").header("content-type", "application/json");
        let answer = portico.send(request.body(Body::from(body)).unwrap()).await;
        answer.is_error(StatusCode::BAD_REQUEST, "invalid_client_metadata");
    }
}

#[tokio::test]
async fn as_30_registration_is_limited_for_an_address() {
    let portico = Portico::start().await;
    let metadata = || json!({"redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none"});
    for _ in 0..5 {
        assert_eq!(portico.register(metadata()).await.status, StatusCode::CREATED);
    }
    let answer = portico.register(metadata()).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
    portico.advance(chrono::Duration::seconds(1));
    assert_eq!(portico.register(metadata()).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn as_30_registration_can_need_a_token_or_be_closed() {
    let with = |mode, token: Option<&str>| AuthServerSettings {
        registration: RegistrationSettings {
            mode,
            initial_access_token: token
                .map(|token| portico_settings::Secret::inline(token.to_owned().into())),
        },
        ..AuthServerSettings::default()
    };
    let closed = Portico::with(with(RegistrationMode::Closed, None)).await;
    closed
        .register(json!({"redirect_uris": [CALLBACK]}))
        .await
        .is_error(StatusCode::FORBIDDEN, "access_denied");
    let document = closed.get("/.well-known/oauth-authorization-server").await.json();
    assert!(document.get("registration_endpoint").is_none());
    let guarded = Portico::with(with(RegistrationMode::Token, Some("open sesame"))).await;
    for (token, status) in [("open sesame", StatusCode::CREATED), ("wrong", StatusCode::UNAUTHORIZED)] {
        let request = Request::post("/oauth2/register")
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {token}"))
            .body(Body::from(json!({"redirect_uris": [CALLBACK]}).to_string()))
            .unwrap();
        assert_eq!(guarded.send(request).await.status, status);
    }
}

#[tokio::test]
async fn as_30_unused_dynamic_clients_expire_and_used_ones_stay() {
    let portico = Portico::start().await;
    let unused = portico.public_client(CALLBACK).await;
    let used = portico.public_client(CALLBACK).await;
    portico.tokens(&used, CALLBACK, &[]).await;
    portico.advance(chrono::Duration::days(20));
    // Whoever asks without getting anything does not use it.
    portico.redeem(&unused, CALLBACK, "no-code").await.is_error(StatusCode::BAD_REQUEST, "invalid_grant");
    portico.advance(chrono::Duration::days(11));
    portico.app().stores.sweep.run(portico_clock::Clock::now(&portico.clock)).await.unwrap();
    let clients = &portico.app().stores.clients;
    assert!(clients.get(&unused).await.unwrap().is_none());
    assert!(clients.get(&used).await.unwrap().is_some());
    assert!(clients.get("portico-cli").await.unwrap().is_some());
}

#[tokio::test]
async fn as_31_a_confidential_client_gets_a_secret_once() {
    let portico = Portico::start().await;
    let client: Value = portico.register(json!({"redirect_uris": [CALLBACK]})).await.json();
    assert_eq!(client["token_endpoint_auth_method"], "client_secret_basic");
    assert_eq!(client["client_secret"].as_str().unwrap().len(), 43);
    assert_eq!(client["client_secret_expires_at"], 0);
}
