use http::StatusCode;
use http::header::AUTHORIZATION;
use portico_ids::PrincipalId;
use portico_oauth_types::Scope;
use secrecy::ExposeSecret as _;
use serde_json::json;

use super::harness::{Browser, CALLBACK, ORIGIN, Portico, request};
use crate::actor::{Actor, Deed};
use crate::domain::resource::Target;
use crate::tokens::Claimant;
use crate::trust::principal_revoked;

#[tokio::test]
async fn as_29_revoking_answers_200_whatever_the_token_was() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    for token in ["unknown", "a.b.c"] {
        let answer = portico.post("/oauth2/revoke", &[("client_id", &client), ("token", token)]).await;
        assert_eq!(answer.status, StatusCode::OK);
    }
    let answer = portico.post("/oauth2/revoke", &[("token", "x")]).await;
    answer.is_error(StatusCode::UNAUTHORIZED, "invalid_client");
}

#[tokio::test]
async fn as_29_revoking_a_refresh_token_ends_its_access_tokens() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    let tokens = portico.tokens(&client, CALLBACK, &[]).await;
    let (access, refresh) =
        (tokens["access_token"].as_str().unwrap(), tokens["refresh_token"].as_str().unwrap());
    portico.post("/oauth2/revoke", &[("client_id", &client), ("token", refresh)]).await;
    portico.refresh(&client, refresh).await.is_error(StatusCode::BAD_REQUEST, "invalid_grant");
    assert!(portico.app().verifier.verify(access, &format!("{ORIGIN}/mcp")).is_err());
}

#[tokio::test]
async fn as_29_an_access_token_is_revoked_by_its_own_client_only() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    let other = portico.public_client(CALLBACK).await;
    let tokens = portico.tokens(&client, CALLBACK, &[]).await;
    let access = tokens["access_token"].as_str().unwrap();
    let valid = || portico.app().verifier.verify(access, &format!("{ORIGIN}/mcp")).is_ok();
    let refresh = tokens["refresh_token"].as_str().unwrap();
    for token in [access, refresh] {
        portico.post("/oauth2/revoke", &[("client_id", &other), ("token", token)]).await;
    }
    assert!(valid());
    portico.post("/oauth2/revoke", &[("client_id", &client), ("token", access)]).await;
    assert!(!valid());
    assert_eq!(portico.refresh(&client, refresh).await.status, StatusCode::OK, "the grant goes on");
}

#[tokio::test]
async fn as_29_introspection_tells_a_client_about_its_own_tokens_only() {
    let portico = Portico::start().await;
    let credentials = portico.service_account().await;
    let basic = Portico::basic(&credentials);
    let own =
        portico.post_as("/oauth2/token", &[("grant_type", "client_credentials")], Some(&basic)).await.json();
    let own = own["access_token"].as_str().unwrap();
    let client = portico.public_client(CALLBACK).await;
    let foreign = portico.tokens(&client, CALLBACK, &[]).await;
    let about = |token: String| {
        let (portico, basic) = (&portico, basic.clone());
        async move { portico.post_as("/oauth2/introspect", &[("token", &token)], Some(&basic)).await.json() }
    };
    let answer = about(own.to_owned()).await;
    assert_eq!((&answer["active"], &answer["client_id"]), (&json!(true), &json!(credentials.client_id)));
    for token in
        [foreign["access_token"].as_str().unwrap(), foreign["refresh_token"].as_str().unwrap(), "unknown"]
    {
        assert_eq!(about(token.to_owned()).await, json!({"active": false}));
    }
    portico.post_as("/oauth2/revoke", &[("token", own)], Some(&basic)).await;
    assert_eq!(about(own.to_owned()).await, json!({"active": false}));
}

#[tokio::test]
async fn as_29_introspection_needs_a_client_that_authenticates() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    let answer = portico.post("/oauth2/introspect", &[("client_id", &client), ("token", "x")]).await;
    answer.is_error(StatusCode::UNAUTHORIZED, "invalid_client");
    let answer = portico.post("/oauth2/introspect", &[("token", "x")]).await;
    answer.is_error(StatusCode::UNAUTHORIZED, "invalid_client");
}

#[tokio::test]
async fn userinfo_tells_who_is_logged_in_and_needs_openid() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    let ask = |token: String| {
        let portico = &portico;
        async move {
            let request =
                http::Request::get("/oauth2/userinfo").header(AUTHORIZATION, format!("Bearer {token}"));
            portico.send(request.body(axum::body::Body::empty()).unwrap()).await
        }
    };
    let tokens = portico.tokens(&client, CALLBACK, &[("scope", "openid profile mcp")]).await;
    let answer = ask(tokens["access_token"].as_str().unwrap().to_owned()).await;
    assert_eq!(answer.json()["preferred_username"], "admin");
    assert!(answer.json().get("email").is_none());
    let plain = portico.tokens(&client, CALLBACK, &[]).await;
    let answer = ask(plain["access_token"].as_str().unwrap().to_owned()).await;
    answer.is_error(StatusCode::FORBIDDEN, "insufficient_scope");
    for wrong in ["x", tokens["id_token"].as_str().unwrap(), tokens["refresh_token"].as_str().unwrap()] {
        let answer = ask(wrong.to_owned()).await;
        answer.is_error(StatusCode::UNAUTHORIZED, "invalid_token");
        assert!(answer.header("www-authenticate").starts_with("Bearer error=\"invalid_token\""));
    }
    assert_eq!(portico.get("/oauth2/userinfo").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn rs_27_a_change_while_a_token_is_being_made_revokes_it() {
    let portico = Portico::start().await;
    let app = portico.app();
    let admin = app.stores.users.find("admin").await.unwrap().unwrap();
    let token = |issuing| async {
        let claimant = Claimant {
            issuing,
            client_id: "c",
            target: &Target::Root,
            scopes: Scope::Mcp.into(),
            grant_id: None,
            session: None,
        };
        app.access_token(claimant).await.unwrap().access_token.expose_secret().to_owned()
    };
    let counts = |token: &str| app.verifier.verify(token, &format!("{ORIGIN}/mcp")).is_ok();
    let begun = app.issuing(PrincipalId::User(admin.id)).await.unwrap();
    let principal = begun.subject.to_string();
    let writes = [principal_revoked(&principal, app.clock.now(), app.settings.token_lifetime())];
    let change = app.change(&Actor::service(), Deed::done("user.password", &principal, "")).publish(writes);
    app.stores.users.set_password(admin.id, "$argon2id$new", &change).await.unwrap();
    app.spread().await;
    assert!(!counts(&token(begun).await));
    assert!(counts(&token(app.issuing(PrincipalId::User(admin.id)).await.unwrap()).await));
}

#[tokio::test]
async fn as_10_a_code_that_comes_again_and_again_is_recorded_once() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    let answer = portico.authorize(&mut Browser::default(), &request(&client, CALLBACK)).await;
    let code = answer.parameter("code").unwrap();
    let tokens = portico.redeem(&client, CALLBACK, &code).await.json();
    let again = || async { portico.redeem(&client, CALLBACK, &code).await };
    again().await.is_error(StatusCode::BAD_REQUEST, "invalid_grant");
    let refresh = tokens["refresh_token"].as_str().unwrap();
    portico.refresh(&client, refresh).await.is_error(StatusCode::BAD_REQUEST, "invalid_grant");
    let revision = portico.app().stores.trust.revision().await.unwrap();
    again().await.is_error(StatusCode::BAD_REQUEST, "invalid_grant");
    assert_eq!(portico.app().stores.trust.revision().await.unwrap(), revision);
}

#[tokio::test]
async fn as_15_an_application_whose_access_was_taken_away_redeems_no_code() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    let mut browser = Browser::default();
    let answer = portico.authorize(&mut browser, &request(&client, CALLBACK)).await;
    let code = answer.parameter("code").unwrap();
    let page = browser.get(&portico, "/account").await;
    let pairs = [("form", page.field("form")), ("client_id", client.clone())];
    assert_eq!(browser.submit(&portico, "/account/applications", &pairs).await.status, StatusCode::OK);
    portico.redeem(&client, CALLBACK, &code).await.is_error(StatusCode::BAD_REQUEST, "invalid_grant");
}
