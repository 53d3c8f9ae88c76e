use http::StatusCode;
use portico_oauth_types::{Scope, ScopeSet};

use super::harness::{ORIGIN, Portico};

async fn ask(portico: &Portico, basic: &str, more: &[(&str, &str)]) -> super::harness::Answer {
    let mut pairs = vec![("grant_type", "client_credentials")];
    pairs.extend_from_slice(more);
    portico.post_as("/oauth2/token", &pairs, Some(basic)).await
}

#[tokio::test]
async fn s1_11_a_service_account_gets_a_short_lived_token_for_one_resource() {
    let portico = Portico::start().await;
    let credentials = portico.service_account().await;
    let basic = Portico::basic(&credentials);
    let api = format!("{ORIGIN}/api");
    let tokens = ask(&portico, &basic, &[("resource", &api), ("scope", "admin")]).await.json();
    assert_eq!(tokens["scope"], "admin");
    assert!(tokens.get("refresh_token").is_none() && tokens.get("id_token").is_none());
    let token = tokens["access_token"].as_str().unwrap();
    let claims = portico.claims(token);
    assert_eq!(claims.sub.to_string(), format!("service-account:{}", credentials.client_id));
    assert_eq!((claims.aud.as_str(), claims.exp - claims.iat), (api.as_str(), 600));
    assert!(claims.grant_id.is_none() && claims.sid.is_none());
    let principal = portico.app().verifier.verify(token, &api).unwrap();
    assert!(principal.may(Scope::Admin) && principal.may(Scope::RegistryWrite));
    assert!(portico.app().verifier.verify(token, &format!("{ORIGIN}/mcp")).is_err());
}

#[tokio::test]
async fn as_26_client_credentials_never_get_scopes_of_a_login() {
    let portico = Portico::start().await;
    let basic = Portico::basic(&portico.service_account().await);
    let tokens = ask(&portico, &basic, &[("scope", "mcp openid offline_access")]).await.json();
    assert_eq!(tokens["scope"].as_str().unwrap().parse::<ScopeSet>(), Ok(Scope::Mcp.into()));
}

#[tokio::test]
async fn client_credentials_are_refused_for_wrong_secrets_targets_and_scopes() {
    let portico = Portico::start().await;
    let credentials = portico.service_account().await;
    let basic = Portico::basic(&credentials);
    let target = format!("{ORIGIN}/missing/mcp");
    ask(&portico, &basic, &[("resource", &target)]).await.is_error(StatusCode::BAD_REQUEST, "invalid_target");
    ask(&portico, &basic, &[("scope", "admin")]).await.is_error(StatusCode::BAD_REQUEST, "invalid_scope");
    let two = format!("{ORIGIN}/open/mcp");
    let api = format!("{ORIGIN}/api");
    let both = [("resource", two.as_str()), ("resource", api.as_str())];
    ask(&portico, &basic, &both).await.is_error(StatusCode::BAD_REQUEST, "invalid_target");
    let wrong = crate::ServiceCredentials {
        client_id: credentials.client_id,
        client_secret: "wrong".to_owned().into(),
    };
    ask(&portico, &Portico::basic(&wrong), &[]).await.is_error(StatusCode::UNAUTHORIZED, "invalid_client");
}

#[tokio::test]
async fn a_new_secret_ends_the_old_one_and_its_tokens_and_the_next_token_counts_at_once() {
    let portico = Portico::start().await;
    let old = Portico::basic(&portico.service_account().await);
    let before = ask(&portico, &old, &[]).await.json();
    portico.advance(chrono::Duration::milliseconds(10));
    let new = Portico::basic(&portico.service_account().await);
    let audience = format!("{ORIGIN}/mcp");
    let verifier = &portico.app().verifier;
    assert!(verifier.verify(before["access_token"].as_str().unwrap(), &audience).is_err());
    ask(&portico, &old, &[]).await.is_error(StatusCode::UNAUTHORIZED, "invalid_client");
    let after = ask(&portico, &new, &[]).await.json();
    verifier.verify(after["access_token"].as_str().unwrap(), &audience).unwrap();
}

#[tokio::test]
async fn as_13_a_bound_issuer_gives_tokens_for_its_endpoint() {
    let portico = Portico::start().await;
    let basic = Portico::basic(&portico.service_account().await);
    let path = "/issuer/open/oauth2/token";
    let answer = portico.post_as(path, &[("grant_type", "client_credentials")], Some(&basic)).await.json();
    let claims = portico.claims(answer["access_token"].as_str().unwrap());
    assert_eq!((claims.aud, claims.iss), (format!("{ORIGIN}/open/mcp"), ORIGIN.to_owned()));
    let other = format!("{ORIGIN}/closed/mcp");
    let pairs = [("grant_type", "client_credentials"), ("resource", other.as_str())];
    portico.post_as(path, &pairs, Some(&basic)).await.is_error(StatusCode::BAD_REQUEST, "invalid_target");
}
