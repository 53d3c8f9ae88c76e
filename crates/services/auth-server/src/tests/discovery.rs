use axum::body::Body;
use http::{Request, StatusCode};
use serde_json::json;

use super::harness::{ORIGIN, Portico};

#[tokio::test]
async fn as_01_metadata_is_at_every_place_and_the_same_everywhere() {
    let portico = Portico::start().await;
    let root = portico.get("/.well-known/oauth-authorization-server").await;
    assert_eq!(root.status, StatusCode::OK);
    assert_eq!(root.json()["issuer"], ORIGIN);
    assert_eq!(root.json(), portico.get("/.well-known/openid-configuration").await.json());
    let bound = portico.get("/.well-known/oauth-authorization-server/issuer/open").await.json();
    assert_eq!(bound["issuer"], format!("{ORIGIN}/issuer/open"));
    assert_eq!(bound["token_endpoint"], format!("{ORIGIN}/issuer/open/oauth2/token"));
    for place in
        ["/.well-known/openid-configuration/issuer/open", "/issuer/open/.well-known/openid-configuration"]
    {
        assert_eq!(portico.get(place).await.json(), bound, "{place}");
    }
}

#[tokio::test]
async fn as_01_an_issuer_for_an_unknown_endpoint_is_not_there() {
    let portico = Portico::start().await;
    for path in [
        "/.well-known/oauth-authorization-server/issuer/nothing",
        "/issuer/nothing/.well-known/openid-configuration",
        "/issuer/nothing/oauth2/jwks",
        "/issuer/UPPER/oauth2/jwks",
    ] {
        let answer = portico.get(path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(answer.json()["reason"], "unknown_issuer");
    }
}

#[tokio::test]
async fn as_02_the_issuer_does_not_follow_the_host_header() {
    let portico = Portico::start().await;
    let ask = |host: &'static str| {
        let request = Request::get("/.well-known/oauth-authorization-server")
            .header("host", host)
            .header("x-forwarded-host", "evil.example");
        portico.send(request.body(Body::empty()).unwrap())
    };
    assert_eq!(ask("portico.example").await.json()["issuer"], ORIGIN);
    let foreign = ask("evil.example").await;
    assert_eq!(
        (foreign.status, &foreign.json()["reason"]),
        (StatusCode::MISDIRECTED_REQUEST, &json!("wrong_host"))
    );
    assert!(foreign.body.contains(ORIGIN));
}

#[tokio::test]
async fn as_03_both_documents_name_s256_only() {
    let portico = Portico::start().await;
    for path in ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"] {
        let document = portico.get(path).await.json();
        assert_eq!(document["code_challenge_methods_supported"], json!(["S256"]));
        assert_eq!(document["id_token_signing_alg_values_supported"], json!(["ES256"]));
        assert_eq!(document["authorization_response_iss_parameter_supported"], true);
    }
}

#[tokio::test]
async fn as_06_what_programs_read_is_open_to_every_origin_and_pages_are_not() {
    let portico = Portico::start().await;
    for path in ["/.well-known/oauth-authorization-server", "/oauth2/jwks", "/.well-known/portico"] {
        let answer = portico.get(path).await;
        assert_eq!(answer.header("access-control-allow-origin"), "*", "{path}");
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("access-control-allow-credentials"), "");
    }
    for path in ["/oauth2/token", "/oauth2/register", "/oauth2/revoke"] {
        let request = Request::options(path)
            .header("origin", "https://inspector.example")
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization");
        let answer = portico.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{path}");
        assert!(answer.header("access-control-allow-headers").contains("authorization"));
    }
    for path in ["/oauth2/authorize", "/login", "/account"] {
        assert_eq!(portico.get(path).await.header("access-control-allow-origin"), "", "{path}");
    }
}

#[tokio::test]
async fn every_answer_carries_a_correlation_id() {
    let portico = Portico::start().await;
    assert!(!portico.get("/login").await.header("x-correlation-id").is_empty());
    let request = Request::get("/oauth2/jwks").header("x-correlation-id", "0123456789-given");
    let answer = portico.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.header("x-correlation-id"), "0123456789-given");
}

#[tokio::test]
async fn the_command_line_finds_what_it_needs() {
    let document = Portico::start().await.get("/.well-known/portico").await.json();
    assert_eq!(document["issuer"], ORIGIN);
    assert_eq!(document["api"], format!("{ORIGIN}/api"));
    assert_eq!(document["grpc"], ORIGIN);
    assert_eq!(document["client_id"], "portico-cli");
}

#[tokio::test]
async fn keys_rotate_with_overlap_and_are_sealed_at_rest() {
    let portico = Portico::start().await;
    let before = portico.app().keys.active().unwrap().key.jwk().kid().to_owned();
    portico.app().keys.rotate(&crate::actor::Actor::service()).await.unwrap();
    let kids = || async {
        let document = portico.get("/oauth2/jwks").await.json();
        document["keys"]
            .as_array()
            .unwrap()
            .iter()
            .map(|key| key["kid"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(kids().await.len(), 2, "the new key is published before it signs");
    assert_eq!(portico.app().keys.active().unwrap().key.jwk().kid(), before);
    portico.advance(chrono::Duration::seconds(31));
    assert_ne!(portico.app().keys.active().unwrap().key.jwk().kid(), before);
    assert_eq!(kids().await.len(), 2, "the old key is published while its tokens live");
    portico.advance(chrono::Duration::minutes(13));
    assert_eq!(kids().await.len(), 1);
    for row in portico.app().stores.keys.list().await.unwrap() {
        assert!(crate::jws::SigningKey::from_pkcs8(&row.private_sealed).is_err(), "stored in the clear");
    }
}
