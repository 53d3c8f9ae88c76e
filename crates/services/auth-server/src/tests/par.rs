use http::StatusCode;
use serde_json::json;

use super::harness::{Answer, Browser, CALLBACK, CHALLENGE, ORIGIN, Portico, form, request};

fn path(issuer: &str, client: &str, request_uri: &str) -> String {
    format!("{issuer}/oauth2/authorize?{}", form(&[("client_id", client), ("request_uri", request_uri)]))
}

/// Pushes a request and returns its reference.
async fn push(portico: &Portico, client: &str) -> String {
    let answer = portico.post("/oauth2/par", &request(client, CALLBACK)).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    answer.json()["request_uri"].as_str().unwrap().to_owned()
}

#[track_caller]
fn is_page(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
    assert_eq!(answer.location(), "");
    assert!(answer.body.contains("start again"), "{}", answer.body);
}

#[tokio::test]
async fn as_18_a_pushed_request_leads_to_a_code() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    let answer = portico.post("/oauth2/par", &request(&client, CALLBACK)).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.json()["expires_in"], 60);
    let request_uri = answer.json()["request_uri"].as_str().unwrap().to_owned();
    let secret = request_uri.strip_prefix("urn:ietf:params:oauth:request_uri:").unwrap();
    assert_eq!(secret.len(), 43);
    let mut browser = Browser::default();
    let answer = browser.get(&portico, &path("", &client, &request_uri)).await;
    let answer = portico.go_on(&mut browser, answer).await;
    assert_eq!(answer.parameter("state").as_deref(), Some("opaque state"));
    assert_eq!(answer.parameter("iss").as_deref(), Some(ORIGIN));
    let code = answer.parameter("code").unwrap();
    assert_eq!(portico.redeem(&client, CALLBACK, &code).await.status, StatusCode::OK);
}

#[tokio::test]
async fn as_18_a_reference_works_once_for_a_minute_and_for_its_client_only() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    let other = portico.public_client(CALLBACK).await;
    let reference = push(&portico, &client).await;
    is_page(&portico.get(&path("", &other, &reference)).await);
    is_page(&portico.get(&path("/issuer/open", &client, &reference)).await);
    assert_eq!(portico.get(&path("", &client, &reference)).await.status, StatusCode::SEE_OTHER);
    is_page(&portico.get(&path("", &client, &reference)).await);
    let late = push(&portico, &client).await;
    portico.advance(chrono::Duration::seconds(60));
    is_page(&portico.get(&path("", &client, &late)).await);
}

#[tokio::test]
async fn as_18_what_somebody_else_wrote_into_the_table_of_pushed_requests_is_not_there() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    let other = portico.public_client(CALLBACK).await;
    let app = portico.servers[0].app();
    let key = |client: &str, reference: &str| format!(" {client} {reference}");
    let taken = async |key: &str| app.pushed.take(key).await.unwrap().unwrap();
    let put = async |key: &str, value: &[u8]| {
        let value = value.to_vec().into();
        app.pushed.put(key, value, std::time::Duration::from_mins(1)).await.unwrap();
    };

    let reference = push(&portico, &client).await;
    let genuine = taken(&key(&client, &reference)).await;
    let text = String::from_utf8(genuine.to_vec()).unwrap();
    assert!(!text.contains("redirect_uri") && !text.contains(CALLBACK), "{text}");
    // In the clear and complete, as a service without seals would have written it.
    let sealed = app.handles.open("auth.pushed", key(&client, &reference).as_bytes(), &text).unwrap();
    let plain = String::from_utf8(sealed).unwrap();
    assert!(plain.contains(CALLBACK), "{plain}");
    put(&key(&client, &reference), plain.as_bytes()).await;
    is_page(&portico.get(&path("", &client, &reference)).await);
    // Altered.
    let mut altered = genuine.to_vec();
    altered[40] ^= 1;
    put(&key(&client, &reference), &altered).await;
    is_page(&portico.get(&path("", &client, &reference)).await);
    // What another client pushed, or this one under another reference.
    for foreign in [(&other, push(&portico, &other).await), (&client, push(&portico, &client).await)] {
        let value = taken(&key(foreign.0, &foreign.1)).await;
        put(&key(&client, &reference), &value).await;
        is_page(&portico.get(&path("", &client, &reference)).await);
    }
    // It was all about the value: unchanged it is as good as ever.
    put(&key(&client, &reference), &genuine).await;
    assert_eq!(portico.get(&path("", &client, &reference)).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn as_18_what_the_browser_adds_does_not_count() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    let mut pushed = request(&client, CALLBACK);
    pushed.push(("prompt", "none"));
    let reference = portico.post("/oauth2/par", &pushed).await.json()["request_uri"].clone();
    let added = form(&[("redirect_uri", "https://evil.example/"), ("state", "other"), ("prompt", "login")]);
    let path = format!("{}&{added}", path("", &client, reference.as_str().unwrap()));
    let answer = portico.get(&path).await;
    assert!(answer.destination().starts_with(CALLBACK), "{}", answer.destination());
    assert_eq!(answer.parameter("error").as_deref(), Some("login_required"));
    assert_eq!(answer.parameter("state").as_deref(), Some("opaque state"));
}

#[tokio::test]
async fn as_18_every_parameter_is_checked_when_it_is_pushed() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    for (name, value, error) in [
        ("request_uri", "urn:ietf:params:oauth:request_uri:x", "invalid_request"),
        ("request_uri", "https://evil.example/request", "invalid_request"),
        ("request", "x", "request_not_supported"),
        ("redirect_uri", "https://evil.example/", "invalid_request"),
        ("response_type", "token", "unsupported_response_type"),
        ("code_challenge_method", "plain", "invalid_request"),
        ("scope", "admin", "invalid_scope"),
        ("resource", "https://evil.example/mcp", "invalid_target"),
        ("resource", "https://portico.example/nothing/mcp", "invalid_target"),
    ] {
        let mut parameters = request(&client, CALLBACK);
        parameters.retain(|(key, _)| *key != name);
        parameters.push((name, value));
        portico.post("/oauth2/par", &parameters).await.is_error(StatusCode::BAD_REQUEST, error);
    }
}

#[tokio::test]
async fn as_18_only_the_client_itself_can_push() {
    let portico = Portico::start().await;
    let confidential = portico.register(json!({"redirect_uris": [CALLBACK]})).await.json();
    let (id, secret) =
        (confidential["client_id"].as_str().unwrap(), confidential["client_secret"].as_str().unwrap());
    let mut parameters = request(id, CALLBACK);
    for client in [id, "nobody"] {
        let answer = portico.post("/oauth2/par", &request(client, CALLBACK)).await;
        answer.is_error(StatusCode::UNAUTHORIZED, "invalid_client");
    }
    portico.post("/oauth2/par", &[]).await.is_error(StatusCode::UNAUTHORIZED, "invalid_client");
    parameters.push(("client_secret", secret));
    assert_eq!(portico.post("/oauth2/par", &parameters).await.status, StatusCode::CREATED);
    let robot = Portico::basic(&portico.service_account().await);
    let answer = portico.post_as("/oauth2/par", &[("response_type", "code")], Some(&robot)).await;
    answer.is_error(StatusCode::BAD_REQUEST, "unauthorized_client");
}

#[tokio::test]
async fn as_18_a_bound_issuer_has_its_own_endpoint() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    for (issuer, id) in [("", ORIGIN.to_owned()), ("/issuer/open", format!("{ORIGIN}/issuer/open"))] {
        let document = portico.get(&format!("/.well-known/oauth-authorization-server{issuer}")).await.json();
        assert_eq!(document["pushed_authorization_request_endpoint"], format!("{id}/oauth2/par"));
        let answer = portico.post(&format!("{issuer}/oauth2/par"), &request(&client, CALLBACK)).await;
        let reference = answer.json()["request_uri"].as_str().unwrap().to_owned();
        let mut browser = Browser::default();
        let answer = browser.get(&portico, &path(issuer, &client, &reference)).await;
        let answer = portico.go_on(&mut browser, answer).await;
        assert_eq!(answer.parameter("iss"), Some(id));
        assert!(answer.parameter("code").is_some());
    }
    let bound = [("resource", "https://portico.example/closed/mcp"), ("code_challenge", CHALLENGE)];
    let mut parameters = request(&client, CALLBACK);
    parameters.retain(|(name, _)| *name != "code_challenge");
    parameters.extend(bound);
    portico
        .post("/issuer/open/oauth2/par", &parameters)
        .await
        .is_error(StatusCode::BAD_REQUEST, "invalid_target");
}

#[tokio::test]
async fn as_18_a_client_can_insist_on_pushed_requests() {
    let portico = Portico::start().await;
    let registered = portico
        .register(json!({
            "redirect_uris": [CALLBACK],
            "token_endpoint_auth_method": "none",
            "require_pushed_authorization_requests": true,
        }))
        .await
        .json();
    assert_eq!(registered["require_pushed_authorization_requests"], true);
    let client = registered["client_id"].as_str().unwrap();
    let answer = portico.get(&format!("/oauth2/authorize?{}", form(&request(client, CALLBACK)))).await;
    assert_eq!(answer.parameter("error").as_deref(), Some("invalid_request"));
    let reference = push(&portico, client).await;
    assert!(portico.get(&path("", client, &reference)).await.location().starts_with("/login"));
}

#[tokio::test]
async fn as_18_pushing_is_limited_for_an_address() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    for _ in 0..60 {
        push(&portico, &client).await;
    }
    let answer = portico.post("/oauth2/par", &request(&client, CALLBACK)).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
}
