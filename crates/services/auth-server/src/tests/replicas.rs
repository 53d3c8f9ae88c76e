//! Two auth-servers on one database and one coordination, and nobody who keeps to one of them.

use chrono::Duration;
use http::StatusCode;
use portico_oauth_types::JwkSet;
use serde_json::Value;

use super::harness::{Answer, Browser, CALLBACK, ORIGIN, PASSWORD, Portico, form, request};
use crate::actor::Actor;

fn text<'a>(tokens: &'a Value, name: &str) -> &'a str {
    tokens[name].as_str().unwrap_or_else(|| panic!("no {name}: {tokens}"))
}

#[tokio::test]
async fn s2_29_s0_14_a_pushed_request_a_login_a_consent_and_a_code_go_on_at_any_replica() {
    for (label, portico) in Portico::replicated().await {
        let client = portico.public_client(CALLBACK).await;
        let mut browser = Browser::default();
        let pushed = portico.post("/oauth2/par", &request(&client, CALLBACK)).await.json();
        let parameters = [("client_id", client.as_str()), ("request_uri", text(&pushed, "request_uri"))];
        let answer = portico.authorize(&mut browser, &parameters).await;
        let code = answer.parameter("code").unwrap_or_else(|| panic!("{label}: no code: {answer:?}"));
        let tokens = portico.redeem(&client, CALLBACK, &code).await.json();
        for server in &portico.servers {
            let access = text(&tokens, "access_token");
            server.app().verifier.verify(access, &format!("{ORIGIN}/mcp")).unwrap();
        }
        // Signed in at one of them is signed in at all: no page asks again.
        let again = portico.authorize(&mut browser, &request(&client, CALLBACK)).await;
        assert!(again.parameter("code").is_some(), "{label}: {again:?}");
        let mut newest = text(&tokens, "refresh_token").to_owned();
        for _ in 0..4 {
            let next = portico.refresh(&client, &newest).await;
            assert_eq!(next.status, StatusCode::OK, "{label}: {next:?}");
            newest = text(&next.json(), "refresh_token").to_owned();
        }
    }
}

#[tokio::test]
async fn as_21_a_refresh_token_at_both_replicas_at_once_has_one_successor() {
    for (label, portico) in Portico::replicated().await {
        let client = portico.public_client(CALLBACK).await;
        let tokens = portico.tokens(&client, CALLBACK, &[]).await;
        let first = text(&tokens, "refresh_token");
        let (one, two) = tokio::join!(portico.refresh(&client, first), portico.refresh(&client, first));
        assert_eq!((one.status, two.status), (StatusCode::OK, StatusCode::OK), "{label}: {one:?} {two:?}");
        let (one, two) = (one.json(), two.json());
        assert_eq!(text(&one, "refresh_token"), text(&two, "refresh_token"), "{label}");
        let third = portico.refresh(&client, text(&one, "refresh_token")).await.json();
        portico.advance(Duration::seconds(31));
        // Reuse is seen wherever it happens, and ends what both of them issued.
        for _ in 0..2 {
            let reused = portico.refresh(&client, first).await;
            reused.is_error(StatusCode::BAD_REQUEST, "invalid_grant");
        }
        portico.look().await;
        for server in &portico.servers {
            let access = text(&third, "access_token");
            assert!(server.app().verifier.verify(access, &format!("{ORIGIN}/mcp")).is_err(), "{label}");
        }
    }
}

#[tokio::test]
async fn as_12_a_code_that_reaches_both_replicas_at_once_is_redeemed_once() {
    for (label, portico) in Portico::replicated().await {
        let client = portico.public_client(CALLBACK).await;
        let answer = portico.authorize(&mut Browser::default(), &request(&client, CALLBACK)).await;
        let code = answer.parameter("code").unwrap();
        let (one, two) =
            tokio::join!(portico.redeem(&client, CALLBACK, &code), portico.redeem(&client, CALLBACK, &code),);
        let redeemed = [&one, &two].iter().filter(|answer| answer.status == StatusCode::OK).count();
        assert!(redeemed <= 1, "{label}: {one:?} {two:?}");
    }
}

#[tokio::test]
async fn as_43_sign_ins_are_limited_over_all_replicas_together() {
    for (label, portico) in Portico::replicated().await {
        let mut browser = Browser::default();
        let mut refused = 0;
        for _ in 0..12 {
            let answer = browser.sign_in(&portico, "admin", "not the password").await;
            refused += u32::from(answer.status == StatusCode::TOO_MANY_REQUESTS);
        }
        assert_eq!(refused, 2, "{label}: ten a minute, whoever counts them");
        portico.advance(Duration::minutes(1));
        let answer = browser.sign_in(&portico, "admin", PASSWORD).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{label}: {answer:?}");
    }
}

async fn jwks(portico: &Portico) -> Answer {
    portico.get("/oauth2/jwks").await
}

#[tokio::test]
async fn as_24_replicas_that_start_or_rotate_at_once_agree_on_one_key_and_publish_the_same() {
    for (label, portico) in Portico::replicated().await {
        let first = jwks(&portico).await.json();
        portico.look().await;
        let published = serde_json::from_value::<JwkSet>(first).unwrap().keys;
        assert_eq!(published.len(), 1, "{label}: both started at once");
        assert_eq!(jwks(&portico).await.body, jwks(&portico).await.body, "{label}");
        let [a, b] = &portico.servers[..] else { panic!("two") };
        let actor = Actor::service();
        let (one, two) = tokio::join!(a.app().keys.rotate(&actor), b.app().keys.rotate(&actor));
        one.unwrap();
        two.unwrap();
        portico.look().await;
        let (here, there) = (jwks(&portico).await, jwks(&portico).await);
        assert_eq!(here.body, there.body, "{label}");
        // Until verifiers know the next key, the first one signs.
        let old = a.app().keys.active().unwrap().key.jwk().kid().to_owned();
        assert_eq!(old, published[0].kid(), "{label}");
        portico.advance(Duration::seconds(31));
        let signing: Vec<String> = portico
            .servers
            .iter()
            .map(|server| server.app().keys.active().unwrap().key.jwk().kid().to_owned())
            .collect();
        assert!(signing[0] == signing[1] && signing[0] != old, "{label}: {signing:?}");
    }
}

#[tokio::test]
async fn as_24_a_key_that_another_replica_has_made_is_not_made_again() {
    for (label, portico) in Portico::replicated().await {
        let [a, b] = &portico.servers[..] else { panic!("two") };
        portico.advance(Duration::days(400));
        assert!(b.app().keys.rotate_if_due().await.unwrap(), "{label}");
        // It has not looked since, and still knows the old key as the newest.
        assert!(!a.app().keys.rotate_if_due().await.unwrap(), "{label}");
    }
}

#[tokio::test]
async fn as_18_a_pushed_request_that_reaches_both_replicas_is_taken_once() {
    for (label, portico) in Portico::replicated().await {
        let reference = portico.public_client(CALLBACK).await;
        let pushed = portico.post("/oauth2/par", &request(&reference, CALLBACK)).await.json();
        let path = form(&[("client_id", reference.as_str()), ("request_uri", text(&pushed, "request_uri"))]);
        let path = format!("/oauth2/authorize?{path}");
        let (one, two) = tokio::join!(portico.get(&path), portico.get(&path));
        let taken = [&one, &two].iter().filter(|answer| answer.status == StatusCode::SEE_OTHER).count();
        assert_eq!(taken, 1, "{label}: {one:?} {two:?}");
    }
}
