use http::StatusCode;
use serde_json::json;

use super::harness::{Answer, Browser, CALLBACK, CHALLENGE, ORIGIN, Portico, VERIFIER, form, request};

fn path(parameters: &[(&str, &str)]) -> String {
    format!("/oauth2/authorize?{}", form(parameters))
}

/// A usual request with some parameters replaced; an empty value takes one away.
fn with<'a>(client: &'a str, changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut parameters = request(client, CALLBACK);
    for change in changes {
        parameters.retain(|(name, _)| name != &change.0);
        if !change.1.is_empty() {
            parameters.push(*change);
        }
    }
    parameters
}

#[track_caller]
fn sent_back(answer: &Answer, error: &str) {
    assert!(answer.destination().starts_with(CALLBACK), "{answer:?}");
    assert_eq!(answer.parameter("error").as_deref(), Some(error), "{}", answer.destination());
    assert_eq!(answer.parameter("state").as_deref(), Some("opaque state"));
    assert_eq!(answer.parameter("iss").as_deref(), Some(ORIGIN));
}

#[tokio::test]
async fn as_05_success_carries_code_state_and_issuer_once() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    let answer = portico.authorize(&mut Browser::default(), &request(&client, CALLBACK)).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    assert_eq!(answer.parameter("iss").as_deref(), Some(ORIGIN));
    assert_eq!(answer.parameter("state").as_deref(), Some("opaque state"));
    assert_eq!(answer.parameter("code").unwrap().len(), 43);
    assert_eq!(answer.location().matches("code=").count(), 1);
}

#[tokio::test]
async fn as_05_errors_carry_state_and_issuer() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    for (changes, error) in [
        (vec![("response_type", "token")], "unsupported_response_type"),
        (vec![("response_type", "")], "invalid_request"),
        (vec![("scope", "admin")], "invalid_scope"),
        (vec![("resource", "https://evil.example/mcp")], "invalid_target"),
        (vec![("request", "x")], "request_not_supported"),
        (vec![("response_mode", "fragment")], "invalid_request"),
        (vec![("prompt", "none")], "login_required"),
    ] {
        sent_back(&portico.get(&path(&with(&client, &changes))).await, error);
    }
}

#[tokio::test]
async fn a18_a_link_to_a_client_that_nobody_vouches_for_leads_nowhere_without_a_person() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    let mut signed_in = Browser::default();
    signed_in.sign_in(&portico, "admin", super::harness::PASSWORD).await;
    for (name, value) in
        [("scope", "nonsense"), ("prompt", "none"), ("response_type", "x"), ("max_age", "-1")]
    {
        let link = path(&with(&client, &[(name, value)]));
        for answer in [portico.get(&link).await, signed_in.get(&portico, &link).await] {
            assert_eq!(
                (answer.status.is_client_error(), answer.location()),
                (true, ""),
                "{name}: {answer:?}"
            );
            assert!(answer.body.contains("Go back to client.example"), "{answer:?}");
            assert!(answer.destination().starts_with(CALLBACK), "{answer:?}");
        }
    }
    // On the person's own machine nobody else waits for it.
    let callback = "http://127.0.0.1:3000/";
    let native = portico.public_client(callback).await;
    let mut parameters = request(&native, callback);
    parameters.push(("prompt", "none"));
    let answer = portico.get(&path(&parameters)).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    assert_eq!(answer.parameter("error").as_deref(), Some("login_required"));
}

#[tokio::test]
async fn as_18_request_uris_that_were_not_pushed_are_refused() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    let foreign = [("request_uri", "https://evil.example/request")];
    sent_back(&portico.get(&path(&with(&client, &foreign))).await, "request_uri_not_supported");
    // The address in the browser does not count beside a reference: there is nowhere to send the error to.
    let unknown = [("request_uri", "urn:ietf:params:oauth:request_uri:x")];
    let answer = portico.get(&path(&with(&client, &unknown))).await;
    assert_eq!((answer.status, answer.location()), (StatusCode::BAD_REQUEST, ""));
}

#[tokio::test]
async fn as_10_pkce_with_s256_is_required() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    for changes in [
        vec![("code_challenge", "")],
        vec![("code_challenge_method", "plain")],
        vec![("code_challenge_method", "")],
        vec![("code_challenge", "short")],
        vec![("code_challenge", VERIFIER), ("code_challenge_method", "S512")],
    ] {
        sent_back(&portico.get(&path(&with(&client, &changes))).await, "invalid_request");
    }
}

#[tokio::test]
async fn as_10_a_code_is_bound_to_verifier_client_and_redirect_uri() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    let other = portico.public_client(CALLBACK).await;
    let mut browser = Browser::default();
    let right = [
        ("grant_type", "authorization_code"),
        ("client_id", client.as_str()),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
    ];
    for (name, wrong) in [
        ("client_id", other.as_str()),
        ("redirect_uri", "https://client.example/other"),
        ("code_verifier", CHALLENGE),
    ] {
        let answer = portico.authorize(&mut browser, &request(&client, CALLBACK)).await;
        let code = answer.parameter("code").unwrap();
        let mut pairs: Vec<_> =
            right.iter().map(|(key, value)| (*key, if *key == name { wrong } else { value })).collect();
        pairs.push(("code", code.as_str()));
        portico.post("/oauth2/token", &pairs).await.is_error(StatusCode::BAD_REQUEST, "invalid_grant");
        // One guess is all there is.
        portico.redeem(&client, CALLBACK, &code).await.is_error(StatusCode::BAD_REQUEST, "invalid_grant");
    }
}

#[tokio::test]
async fn as_10_a_code_lives_a_minute() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    let answer = portico.authorize(&mut Browser::default(), &request(&client, CALLBACK)).await;
    portico.advance(chrono::Duration::seconds(60));
    let answer = portico.redeem(&client, CALLBACK, &answer.parameter("code").unwrap()).await;
    answer.is_error(StatusCode::BAD_REQUEST, "invalid_grant");
}

#[tokio::test]
async fn as_10_reusing_a_code_revokes_what_came_of_it() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    let answer = portico.authorize(&mut Browser::default(), &request(&client, CALLBACK)).await;
    let code = answer.parameter("code").unwrap();
    let tokens = portico.redeem(&client, CALLBACK, &code).await.json();
    let access = tokens["access_token"].as_str().unwrap();
    let audience = portico.claims(access).aud;
    portico.app().verifier.verify(access, &audience).unwrap();
    portico.redeem(&client, CALLBACK, &code).await.is_error(StatusCode::BAD_REQUEST, "invalid_grant");
    assert!(portico.app().verifier.verify(access, &audience).is_err());
    let answer = portico.refresh(&client, tokens["refresh_token"].as_str().unwrap()).await;
    answer.is_error(StatusCode::BAD_REQUEST, "invalid_grant");
}

#[tokio::test]
async fn as_11_bad_clients_and_redirect_uris_get_a_page_and_no_redirect() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    for changes in [
        vec![("client_id", "")],
        vec![("client_id", "nobody")],
        vec![("redirect_uri", "https://evil.example/callback")],
        vec![("redirect_uri", "https://client.example/callback/")],
        vec![("redirect_uri", "https://client.example/callback?x=1")],
        vec![("redirect_uri", "https://client.example/callback#x")],
        vec![("redirect_uri", "https://client.example:8443/callback")],
        vec![("redirect_uri", "https://x@client.example/callback")],
        vec![("redirect_uri", "javascript:alert(1)")],
    ] {
        let answer = portico.get(&path(&with(&client, &changes))).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{changes:?}");
        assert_eq!(answer.location(), "", "{changes:?}");
        assert!(answer.body.contains("This link does not work"), "{changes:?}");
        assert!(!answer.body.contains("javascript:"));
    }
}

#[tokio::test]
async fn as_11_loopback_redirects_match_on_any_port() {
    let portico = Portico::start().await;
    for (registered, requested) in [
        ("http://127.0.0.1/callback", "http://127.0.0.1:53682/callback"),
        ("http://[::1]:3000/callback", "http://[::1]:41000/callback"),
        ("http://localhost/callback", "http://localhost:61034/callback"),
    ] {
        let client = portico.public_client(registered).await;
        let answer = portico.authorize(&mut Browser::default(), &request(&client, requested)).await;
        assert!(answer.location().starts_with(&format!("{requested}?code=")), "{}", answer.location());
    }
}

#[tokio::test]
async fn as_13_the_resource_decides_the_audience_and_default_is_the_root() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    for (resource, audience) in [
        (None, format!("{ORIGIN}/mcp")),
        (Some(format!("{ORIGIN}/open/mcp")), format!("{ORIGIN}/open/mcp")),
        (Some("HTTPS://PORTICO.example/open/mcp/".to_owned()), format!("{ORIGIN}/open/mcp")),
        (Some(format!("{ORIGIN}/closed/mcp")), format!("{ORIGIN}/closed/mcp")),
        (Some(format!("{ORIGIN}/api")), format!("{ORIGIN}/api")),
    ] {
        let more: Vec<(&str, &str)> = resource.iter().map(|text| ("resource", text.as_str())).collect();
        let tokens = portico.tokens(&client, CALLBACK, &more).await;
        assert_eq!(portico.claims(tokens["access_token"].as_str().unwrap()).aud, audience);
    }
}

#[tokio::test]
async fn as_13_an_endpoint_that_does_not_exist_and_one_that_is_not_for_me_look_alike() {
    let portico = Portico::start().await;
    let app = portico.app();
    let hash = app.passwords.hash(&super::harness::PASSWORD.into()).await.unwrap();
    let user = crate::store::users::NewUser {
        id: portico_ids::UserId::generate(&*app.clock, &*app.rng),
        username: "eve".into(),
        display_name: String::new(),
        email: String::new(),
        password_hash: hash,
    };
    let change =
        app.change(&crate::actor::Actor::service(), crate::actor::Deed::done("user.create", "eve", ""));
    app.stores.users.create(&user, &change).await.unwrap();
    let client = portico.public_client(CALLBACK).await;
    let mut browser = Browser::default();
    browser.sign_in(&portico, "eve", super::harness::PASSWORD).await;
    let mut descriptions = Vec::new();
    for name in ["closed", "missing"] {
        let resource = format!("{ORIGIN}/{name}/mcp");
        let answer = browser.get(&portico, &path(&with(&client, &[("resource", &resource)]))).await;
        sent_back(&answer, "invalid_target");
        descriptions.push(answer.parameter("error_description"));
    }
    assert_eq!(descriptions[0], descriptions[1]);
    let resource = format!("{ORIGIN}/open/mcp");
    let answer = browser.get(&portico, &path(&with(&client, &[("resource", &resource)]))).await;
    assert!(answer.location().starts_with("/login/consent?"), "{}", answer.location());
}

#[tokio::test]
async fn as_14_without_scope_the_default_is_granted_and_reported() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    let tokens = portico.tokens(&client, CALLBACK, &[]).await;
    assert_eq!(tokens["scope"], "mcp");
    assert_eq!(tokens["token_type"], "Bearer");
}

#[tokio::test]
async fn as_15_the_consent_page_says_who_asks_for_what_and_where_the_answer_goes() {
    let portico = Portico::start().await;
    let answer = portico
        .register(json!({
            "client_name": "Evil <b>\u{202e}App</b>",
            "client_uri": "https://client.example/about",
            "redirect_uris": [CALLBACK],
            "token_endpoint_auth_method": "none",
        }))
        .await;
    let client = answer.json()["client_id"].as_str().unwrap().to_owned();
    let mut browser = Browser::default();
    browser.sign_in(&portico, "admin", super::harness::PASSWORD).await;
    let answer = browser.get(&portico, &path(&request(&client, CALLBACK))).await;
    let location = answer.location().to_owned();
    let page = browser.get(&portico, &location).await;
    assert_eq!(page.status, StatusCode::OK);
    for text in [
        "Evil &#60;b&#62;App&#60;/b&#62;",
        client.as_str(),
        "client.example",
        "https://portico.example/mcp",
        "Use tools, prompts and resources on your behalf",
    ] {
        assert!(page.body.contains(text), "{text} is missing: {}", page.body);
    }
    assert!(!page.body.contains("<b>") && !page.body.contains("<script"));
}

#[tokio::test]
async fn as_15_consent_is_remembered_for_the_same_scopes_and_metadata_only() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    let mut browser = Browser::default();
    portico.authorize(&mut browser, &request(&client, CALLBACK)).await;
    let again = browser.get(&portico, &path(&request(&client, CALLBACK))).await;
    assert!(again.parameter("code").is_some(), "{again:?}");
    for changes in [
        vec![("scope", "mcp openid")],
        vec![("resource", "https://portico.example/open/mcp")],
        vec![("prompt", "consent")],
    ] {
        let answer = browser.get(&portico, &path(&with(&client, &changes))).await;
        assert!(answer.location().starts_with("/login/consent?"), "{changes:?}: {answer:?}");
    }
    let answer =
        browser.get(&portico, &path(&with(&client, &[("scope", "mcp openid"), ("prompt", "none")]))).await;
    sent_back(&answer, "consent_required");
}

#[tokio::test]
async fn as_12_loopback_and_private_use_redirects_are_asked_about_every_time() {
    let portico = Portico::start().await;
    for uri in ["http://127.0.0.1:33418/", "cursor://anysphere.cursor-mcp/oauth/callback"] {
        let client = portico.public_client(uri).await;
        let mut browser = Browser::default();
        portico.authorize(&mut browser, &request(&client, uri)).await;
        let again = browser.get(&portico, &path(&request(&client, uri))).await;
        assert!(again.location().starts_with("/login/consent?"), "{again:?}");
        let location = again.location().to_owned();
        let page = browser.get(&portico, &location).await;
        assert!(page.body.contains("nobody has verified"), "{}", page.body);
    }
}

#[tokio::test]
async fn a_person_who_denies_sends_access_denied_back() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    let mut browser = Browser::default();
    browser.sign_in(&portico, "admin", super::harness::PASSWORD).await;
    let answer = browser.get(&portico, &path(&request(&client, CALLBACK))).await;
    let location = answer.location().to_owned();
    let page = browser.get(&portico, &location).await;
    let pairs =
        [("form", page.field("form")), ("request", page.field("request")), ("decision", "deny".to_owned())];
    sent_back(&browser.submit(&portico, "/login/consent", &pairs).await, "access_denied");
}

#[tokio::test]
async fn prompt_login_and_max_age_ask_for_a_new_login() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    let mut browser = Browser::default();
    portico.authorize(&mut browser, &request(&client, CALLBACK)).await;
    for changes in [vec![("prompt", "login")], vec![("max_age", "60")]] {
        portico.advance(chrono::Duration::minutes(10));
        let answer = browser.get(&portico, &path(&with(&client, &changes))).await;
        assert!(answer.location().starts_with("/login?request="), "{answer:?}");
        portico.advance(chrono::Duration::seconds(1));
        let done = portico.go_on(&mut browser, answer).await;
        assert!(done.parameter("code").is_some(), "{done:?}");
    }
    let answer = browser.get(&portico, &path(&with(&client, &[("max_age", "3600")]))).await;
    assert!(answer.parameter("code").is_some(), "{answer:?}");
}

#[tokio::test]
async fn openid_gets_an_id_token_that_is_bound_to_the_request() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    let more = [("scope", "openid profile mcp"), ("nonce", "n-0S6")];
    let tokens = portico.tokens(&client, CALLBACK, &more).await;
    let id: portico_oauth_types::IdTokenClaims =
        crate::jws::open(tokens["id_token"].as_str().unwrap(), "JWT", &portico.app().keys.jwks().keys)
            .unwrap();
    assert_eq!(
        (id.iss.as_str(), id.aud.as_str(), id.nonce.as_deref()),
        (ORIGIN, client.as_str(), Some("n-0S6"))
    );
    assert_eq!(id.preferred_username.as_deref(), Some("admin"));
    let access = tokens["access_token"].as_str().unwrap();
    assert_eq!(id.at_hash, Some(portico_oauth_types::left_half_hash(access)));
    // RS-21: an ID token is no access token.
    assert!(portico.app().verifier.verify(tokens["id_token"].as_str().unwrap(), &client).is_err());
}
