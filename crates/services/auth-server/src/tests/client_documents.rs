use chrono::Duration;
use http::StatusCode;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::harness::{Answer, Browser, CALLBACK, ORIGIN, Portico, form, request};
use super::site::{Reply, Site};
use crate::jws::SigningKey;
use crate::{AuthServerSettings, ClientDocumentSettings};

fn settings(documents: ClientDocumentSettings) -> AuthServerSettings {
    AuthServerSettings { client_documents: documents, ..AuthServerSettings::default() }
}

/// An auth-server that may read the documents of a host on loopback.
async fn start() -> (Portico, Site) {
    let site = Site::start().await;
    site.serve(Reply::json(&site.document(json!({}))));
    let documents = ClientDocumentSettings { allow_private: true, ..ClientDocumentSettings::default() };
    let portico = Portico::reaching(settings(documents), site.outbound()).await;
    (portico, site)
}

async fn ask(portico: &Portico, client: &str, redirect_uri: &str) -> Answer {
    portico.get(&format!("/oauth2/authorize?{}", form(&request(client, redirect_uri)))).await
}

#[track_caller]
fn is_page(answer: &Answer, words: &str) {
    assert_eq!((answer.status, answer.location()), (StatusCode::BAD_REQUEST, ""), "{answer:?}");
    assert!(answer.body.contains(words), "{}", answer.body);
}

#[tokio::test]
async fn as_04_q2_the_metadata_says_that_client_ids_may_be_addresses() {
    let flags = async |enabled| {
        let documents = ClientDocumentSettings { enabled, ..ClientDocumentSettings::default() };
        let portico = Portico::with(settings(documents)).await;
        let document = portico.get("/.well-known/oauth-authorization-server").await.json();
        let methods = document["token_endpoint_auth_methods_supported"].as_array().unwrap();
        assert!(methods.contains(&Value::from("none")) && methods.contains(&Value::from("private_key_jwt")));
        document["client_id_metadata_document_supported"].clone()
    };
    assert_eq!(flags(true).await, true);
    assert_eq!(flags(false).await, false);
}

#[tokio::test]
async fn as_32_a_client_with_a_document_signs_in_and_refreshes_without_registering() {
    let (portico, site) = start().await;
    let client = site.client_id();
    let tokens = portico.tokens(&client, CALLBACK, &[]).await;
    assert_eq!(portico.claims(tokens["access_token"].as_str().unwrap()).client_id, client);
    let refreshed = portico.refresh(&client, tokens["refresh_token"].as_str().unwrap()).await;
    assert_eq!(refreshed.status, StatusCode::OK, "{refreshed:?}");
    assert_eq!(site.asked(), 1);
}

#[tokio::test]
async fn as_15_the_consent_page_names_the_host_of_the_document() {
    let (portico, site) = start().await;
    let client = site.client_id();
    let mut browser = Browser::default();
    browser.sign_in(&portico, "admin", super::harness::PASSWORD).await;
    let answer =
        browser.get(&portico, &format!("/oauth2/authorize?{}", form(&request(&client, CALLBACK)))).await;
    let page = browser.get(&portico, answer.location()).await;
    for words in ["Document client", client.as_str(), "· 127.0.0.1<", "by its own address", "client.example"]
    {
        assert!(page.body.contains(words), "no {words}: {}", page.body);
    }
}

#[tokio::test]
async fn as_33_q8_q13_loopback_addresses_of_a_document_match_any_port() {
    let (portico, site) = start().await;
    let uris = ["http://localhost/callback", "http://127.0.0.1:33418/"];
    site.serve(Reply::json(&site.document(json!({"redirect_uris": uris}))));
    let client = site.client_id();
    for uri in ["http://localhost:54212/callback", "http://127.0.0.1:61001/"] {
        portico.tokens(&client, uri, &[]).await;
    }
    for uri in ["http://localhost:54212/other", "http://[::1]:54212/callback", "https://localhost/callback"] {
        is_page(&ask(&portico, &client, uri).await, "redirect_uri");
    }
}

#[tokio::test]
async fn as_32_a_document_is_fresh_for_as_long_as_it_says() {
    let (portico, site) = start().await;
    let client = site.client_id();
    let mut reply = Reply::json(&site.document(json!({})));
    reply.headers.push(("cache-control", "max-age=3600".to_owned()));
    site.serve(reply);
    for (after, asked) in [(0, 1), (3599, 1), (1, 2)] {
        portico.advance(Duration::seconds(after));
        assert_eq!(ask(&portico, &client, CALLBACK).await.status, StatusCode::SEE_OTHER);
        assert_eq!(site.asked(), asked);
    }
    site.serve(Reply { status: 404, ..Reply::json(&json!({})) });
    portico.advance(Duration::hours(1));
    is_page(&ask(&portico, &client, CALLBACK).await, "404");
}

#[tokio::test]
async fn as_32_answers_that_are_no_document_are_refused() {
    let (portico, site) = start().await;
    let client = site.client_id();
    let good = site.document(json!({}));
    let other = |changes: Value| Reply::json(&site.document(changes));
    let location = vec![("location", "/elsewhere".to_owned())];
    for (reply, words) in [
        (Reply { status: 302, headers: location, ..Reply::json(&good) }, "status 302"),
        (Reply { status: 201, ..Reply::json(&good) }, "status 201"),
        (Reply { status: 500, ..Reply::json(&good) }, "status 500"),
        (
            Reply { headers: vec![("content-type", "text/html".to_owned())], ..Reply::json(&good) },
            "application/json",
        ),
        (Reply { headers: vec![], ..Reply::json(&good) }, "application/json"),
        (other(json!({"client_name": "x".repeat(5200)})), "5 KiB"),
        (other(json!({"client_id": format!("{client}?")})), "letter by letter"),
        (other(json!({"client_secret": "s"})), "secret"),
        (other(json!({"token_endpoint_auth_method": "client_secret_basic"})), "token_endpoint_auth_method"),
        (other(json!({"redirect_uris": ["http://evil.example/"]})), "http"),
        (Reply::json(&json!([])), "JSON"),
    ] {
        site.serve(reply);
        is_page(&ask(&portico, &client, CALLBACK).await, words);
        assert!(portico.app().stores.clients.get(&client).await.unwrap().is_none());
        portico.advance(Duration::seconds(10));
    }
    site.serve(Reply::json(&good));
    assert_eq!(ask(&portico, &client, CALLBACK).await.status, StatusCode::SEE_OTHER, "an error is not kept");
}

#[tokio::test]
async fn as_32_a_host_that_does_not_answer_is_given_up_after_three_seconds() {
    let (portico, site) = start().await;
    site.serve(Reply { silent: true, ..Reply::json(&json!({})) });
    is_page(&ask(&portico, &site.client_id(), CALLBACK).await, "at the moment");
}

#[tokio::test]
async fn as_32_failures_are_not_kept_but_limited() {
    let (portico, site) = start().await;
    let client = site.client_id();
    site.serve(Reply { status: 503, ..Reply::json(&json!({})) });
    is_page(&ask(&portico, &client, CALLBACK).await, "503");
    let answer = ask(&portico, &client, CALLBACK).await;
    assert_eq!((answer.status, site.asked()), (StatusCode::TOO_MANY_REQUESTS, 1));
    for _ in 0..19 {
        portico.advance(Duration::milliseconds(1));
        ask(&portico, &format!("{client}?{}", site.asked()), CALLBACK).await;
    }
    assert_eq!(site.asked(), 20);
    let answer = ask(&portico, &format!("{client}?more"), CALLBACK).await;
    assert_eq!((answer.status, site.asked()), (StatusCode::TOO_MANY_REQUESTS, 20));
}

#[tokio::test]
async fn as_32_special_use_addresses_are_never_asked_even_if_outbound_requests_may_go_there() {
    let site = Site::start().await;
    site.serve(Reply::json(&site.document(json!({}))));
    let portico = Portico::reaching(AuthServerSettings::default(), site.outbound()).await;
    let port = site.client_id().rsplit(':').next().unwrap().to_owned();
    for host in ["127.0.0.1", "localhost", "[::1]", "10.0.0.1", "169.254.169.254"] {
        is_page(&ask(&portico, &format!("https://{host}:{port}"), CALLBACK).await, "public address");
    }
    assert_eq!(site.asked(), 0);
}

#[tokio::test]
async fn as_32_only_listed_hosts_are_asked_and_none_when_it_is_off() {
    let site = Site::start().await;
    site.serve(Reply::json(&site.document(json!({}))));
    let with = |enabled, hosts: &[&str]| {
        settings(ClientDocumentSettings {
            enabled,
            allow_private: true,
            allowed_hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        })
    };
    for (settings, words) in
        [(with(true, &["claude.ai"]), "not allowed here"), (with(false, &[]), "not registered")]
    {
        let portico = Portico::reaching(settings, site.outbound()).await;
        is_page(&ask(&portico, &site.client_id(), CALLBACK).await, words);
    }
    assert_eq!(site.asked(), 0);
    let portico = Portico::reaching(with(true, &["127.0.0.1"]), site.outbound()).await;
    assert_eq!(ask(&portico, &site.client_id(), CALLBACK).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn as_15_as_32_a_changed_document_is_asked_about_again() {
    let (portico, site) = start().await;
    let client = site.client_id();
    let mut browser = Browser::default();
    let path = format!("/oauth2/authorize?{}", form(&request(&client, CALLBACK)));
    portico.authorize(&mut browser, &request(&client, CALLBACK)).await;
    assert!(browser.get(&portico, &path).await.parameter("code").is_some(), "the consent is remembered");
    site.serve(Reply::json(&site.document(json!({"client_name": "Another name"}))));
    portico.advance(Duration::minutes(5));
    let answer = browser.get(&portico, &path).await;
    assert!(answer.location().starts_with("/login/consent"), "{answer:?}");
    let page = browser.get(&portico, answer.location()).await;
    assert!(page.body.contains("Another name"));

    // What is on the page is what is allowed: a change while the person reads ends it.
    site.serve(Reply::json(&site.document(json!({"client_name": "A third name"}))));
    portico.advance(Duration::minutes(5));
    ask(&portico, &client, CALLBACK).await;
    let pairs =
        [("form", page.field("form")), ("request", page.field("request")), ("decision", "allow".to_owned())];
    let answer = browser.submit(&portico, "/login/consent", &pairs).await;
    assert_eq!((answer.status, answer.location()), (StatusCode::BAD_REQUEST, ""));
}

#[tokio::test]
async fn as_18_as_32_a_client_with_a_document_can_push_its_first_request() {
    let (portico, site) = start().await;
    let client = site.client_id();
    let answer = portico.post("/oauth2/par", &request(&client, CALLBACK)).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    let reference = answer.json()["request_uri"].as_str().unwrap().to_owned();
    let pairs = [("client_id", client.as_str()), ("request_uri", reference.as_str())];
    let answer = portico.get(&format!("/oauth2/authorize?{}", form(&pairs))).await;
    assert!(answer.location().starts_with("/login"), "{answer:?}");
}

#[tokio::test]
async fn as_20_as_32_keys_of_a_document_authenticate_its_client() {
    let (portico, site) = start().await;
    let client = site.client_id();
    let (key, _) = SigningKey::generate().unwrap();
    let (stranger, _) = SigningKey::generate().unwrap();
    let keys = json!({"keys": [key.jwk()]});
    let method = json!({"token_endpoint_auth_method": "private_key_jwt", "jwks": keys});
    site.serve(Reply::json(&site.document(method)));
    let now = portico_clock::Clock::now(&portico.clock).timestamp();
    let assertion = |key: &SigningKey, jti: &str| {
        let claims =
            json!({"iss": client, "sub": client, "aud": ORIGIN, "exp": now + 60, "iat": now, "jti": jti});
        key.sign("JWT", &claims).unwrap().expose_secret().to_owned()
    };
    let push = async |assertion: String| {
        let mut parameters = request(&client, CALLBACK);
        parameters.push(("client_assertion", &assertion));
        parameters.push(("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"));
        portico.post("/oauth2/par", &parameters).await
    };
    assert_eq!(push(assertion(&key, "1")).await.status, StatusCode::CREATED);
    push(assertion(&key, "1")).await.is_error(StatusCode::UNAUTHORIZED, "invalid_client");
    push(assertion(&stranger, "2")).await.is_error(StatusCode::UNAUTHORIZED, "invalid_client");
    let answer = portico.post("/oauth2/par", &request(&client, CALLBACK)).await;
    answer.is_error(StatusCode::UNAUTHORIZED, "invalid_client");
}

#[tokio::test]
async fn as_32_unused_clients_with_documents_expire() {
    let (portico, site) = start().await;
    ask(&portico, &site.client_id(), CALLBACK).await;
    let clients = &portico.app().stores.clients;
    assert!(clients.get(&site.client_id()).await.unwrap().is_some());
    portico.advance(Duration::days(31));
    portico.app().stores.sweep.run(portico_clock::Clock::now(&portico.clock)).await.unwrap();
    assert!(clients.get(&site.client_id()).await.unwrap().is_none());
}
