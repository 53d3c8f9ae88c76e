//! People sign in, are granted what they may use, and lose it again.

use std::time::Duration;

use acceptance::browser::Browser;
use acceptance::deployment::Deployment;
use acceptance::eventually;
use acceptance::forge::{Forge, claims};
use acceptance::mcp::{Caller, Session, initialize};
use acceptance::oauth::{CALLBACK, Ending, Person, register};
use acceptance::upstream::{Era, Upstream};
use serde_json::{Value, json};

use crate::expect::{refused, refused_and_recorded, untouched};

/// Creates a person with the command line; answers the id and the password.
async fn create_person(deployment: &Deployment, name: &str) -> (String, String) {
    let created = deployment.cli(&["--json", "user", "create", name]).await;
    assert_eq!(created.code, Some(0), "{}", created.output);
    let created: Value = serde_json::from_str(&created.output).unwrap();
    (created["id"].as_str().unwrap().to_owned(), created["password"].as_str().unwrap().to_owned())
}

fn caller(deployment: &Deployment, endpoint: &str, token: &str) -> Caller {
    Caller::new(deployment.http.clone(), deployment.resource(endpoint), token)
}

#[tokio::test(flavor = "multi_thread")]
async fn s2_04_s2_14_a_second_person_uses_a_server_after_a_grant_and_is_refused_before() {
    let deployment = Deployment::start().await;
    let upstream = Upstream::start(Era::Session).await;
    deployment.publish("notes", &upstream).await;
    let (id, password) = create_person(&deployment, "ada").await;
    let mut ada = Person::new(&deployment, "ada", &password).await;
    // Before the grant the resource does not exist for her.
    let before = ada.authorize(&deployment.resource("notes"), "mcp", "allow").await;
    assert_eq!(before.parameter("error").as_deref(), Some("invalid_target"), "{before:?}");
    // Nor does a token for everything that she may use open it.
    let token = ada.access_token(&deployment.url("/mcp")).await;
    let answer = caller(&deployment, "notes", &token).post(initialize("2025-11-25", &json!({}))).await;
    refused_and_recorded(&deployment, &upstream, &answer, (401, -32000, "invalid_token")).await;
    let grant = deployment.cli(&["--json", "grant", &format!("user:{id}"), "agent", "notes"]).await;
    assert_eq!(grant.code, Some(0), "{}", grant.output);
    let token = ada.access_token(&deployment.resource("notes")).await;
    let session = Session::open(&caller(&deployment, "notes", &token)).await;
    let result = session.call("echo", &json!({ "from": "ada" })).await;
    assert_eq!(result["structuredContent"]["from"], "ada");
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_08_s1_11_as_02_a_token_is_short_lived_scoped_and_bound_to_one_audience() {
    let deployment = Deployment::start().await;
    let mut admin = Person::administrator(&deployment).await;
    let answer = admin.tokens(&deployment.resource("demo"), "mcp offline_access").await;
    assert!(answer["expires_in"].as_u64().unwrap() <= 600, "{answer}");
    assert_eq!(answer["token_type"], "Bearer");
    let claims = claims(answer["access_token"].as_str().unwrap());
    assert_eq!(claims["aud"], deployment.resource("demo"));
    assert_eq!(claims["client_id"], admin.client_id);
    assert_eq!(claims["iss"], deployment.ready.origin.trim_end_matches('/'));
    assert!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap() <= 600);
    // Refreshing rotates; the rotated one is worth nothing once the new one was used.
    let first = answer["refresh_token"].as_str().expect("a refresh token").to_owned();
    let second = admin.refresh(&first).await.json();
    let second_token = second["refresh_token"].as_str().unwrap().to_owned();
    assert_ne!(first, second_token);
    assert_eq!(admin.refresh(&second_token).await.status, 200);
    let reused = admin.refresh(&first).await;
    assert_eq!((reused.status.as_u16(), reused.json()["error"].as_str()), (400, Some("invalid_grant")));
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_10_rs_11_a_token_without_the_scope_is_refused_with_the_scope_it_needs() {
    let deployment = Deployment::start().await;
    let upstream = Upstream::start(Era::Session).await;
    deployment.publish("notes", &upstream).await;
    // The authorization server gives no token whose scopes mean nothing at the endpoint.
    let account = (deployment.ready.client_id.as_str(), deployment.ready.client_secret.as_str());
    let answer = deployment.token_answer(account, &deployment.resource("notes"), "registry:read").await;
    assert_eq!((answer.status.as_u16(), answer.json()["error"].as_str()), (400, Some("invalid_scope")));
    // The gateway does not rely on it.
    let forge = Forge::of(&deployment, &deployment.token("notes").await).await;
    let mut claims = forge.claims();
    claims["scope"] = json!("registry:read");
    let token = forge.sign(&forge.header(), &claims);
    let answer = caller(&deployment, "notes", &token).post(initialize("2025-11-25", &json!({}))).await;
    refused_and_recorded(&deployment, &upstream, &answer, (403, -32000, "insufficient_scope")).await;
    assert!(answer.challenge().contains("error=\"insufficient_scope\""), "{}", answer.challenge());
    assert!(answer.challenge().contains("scope=\"mcp\""), "{}", answer.challenge());
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_10_a_code_works_once_for_the_client_that_got_it() {
    let deployment = Deployment::start().await;
    let mut admin = Person::administrator(&deployment).await;
    let other = Person::administrator(&deployment).await;
    let resource = deployment.resource("demo");
    let code = admin.authorize(&resource, "mcp", "allow").await.code();
    assert_eq!(other.redeem(&code).await.json()["error"], "invalid_grant", "A29: another client's code");
    let code = admin.authorize(&resource, "mcp", "allow").await.code();
    let first = admin.redeem(&code).await;
    assert_eq!(first.status, 200, "{}", first.text());
    assert_eq!(admin.redeem(&code).await.json()["error"], "invalid_grant");
    // What the first redemption gave is worth nothing any more.
    let token = first.json()["access_token"].as_str().unwrap().to_owned();
    let caller = caller(&deployment, "demo", &token);
    let ended =
        async || (caller.post(initialize("2025-11-25", &json!({}))).await.status == 401).then_some(());
    eventually(Duration::from_secs(5), "a token of a reused code is refused", ended).await;
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_10_as_11_as_13_requests_that_break_a_rule_get_no_code() {
    let deployment = Deployment::start().await;
    let mut admin = Person::administrator(&deployment).await;
    let good = admin.authorize_url(&deployment.resource("demo"), "mcp");
    let cases = [
        (good.replace("code_challenge_method=S256", "code_challenge_method=plain"), "invalid_request"),
        (good.replace("code_challenge=", "x="), "invalid_request"),
        (good.replace("response_type=code", "response_type=token"), "unsupported_response_type"),
        (good.replace("demo%2Fmcp", "nothing%2Fmcp"), "invalid_target"),
    ];
    for (url, error) in cases {
        let Err(callback) = admin.browser.open(&url).await else { panic!("{url} leads nowhere") };
        let ending = Ending::Callback(callback);
        assert_eq!(ending.parameter("error").as_deref(), Some(error), "{url}");
        assert_eq!(ending.parameter("iss").as_deref(), Some(deployment.ready.origin.trim_end_matches('/')));
        assert_eq!(ending.parameter("state").as_deref(), Some("st"));
    }
    // With a client or an address that is not known, the person is told, and nobody is redirected.
    let evil = "http%3A%2F%2F127.0.0.1%3A9%2Fother";
    for url in [
        good.replace("http%3A%2F%2F127.0.0.1%3A9%2Fcallback", evil),
        good.replace(&admin.client_id, "00000000-0000-7000-8000-000000000000"),
    ] {
        let answer = admin.browser.visit(&url).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(answer.header("location").is_none());
    }
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_15_to_17_pages_are_hardened_and_denying_gives_no_code() {
    let deployment = Deployment::start().await;
    let mut admin = Person::administrator(&deployment).await;
    let resource = deployment.resource("demo");
    let login = admin.browser.open(&admin.authorize_url(&resource, "mcp")).await.unwrap();
    for (name, value) in [
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(login.answer.header(name), Some(value), "{name}");
    }
    let policy = login.answer.header("content-security-policy").unwrap();
    assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe-inline"), "{policy}");
    assert!(!login.answer.text().contains("<script"), "pages work without scripts");
    let denied = admin.authorize(&resource, "mcp", "deny").await;
    assert_eq!(denied.parameter("error").as_deref(), Some("access_denied"), "{denied:?}");
    // A form from elsewhere is not accepted (A19).
    let mut stranger = Browser::new(deployment.http.clone(), &deployment.ready.origin);
    let fields =
        [("username", deployment.ready.admin_username.as_str()), ("password", "x"), ("form", "made-up")];
    assert!(stranger.post("/login", &fields).await.status.is_client_error());
    assert!(stranger.cookies().iter().all(|name| !name.contains("login")), "{:?}", stranger.cookies());
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_passwords_are_refused_alike_and_recorded() {
    let deployment = Deployment::start().await;
    let wrong = Person::new(&deployment, &deployment.ready.admin_username, "wrong").await;
    let nobody = Person::new(&deployment, "nobody", "wrong").await;
    let mut texts = Vec::new();
    for mut person in [wrong, nobody] {
        let Ending::Page(page) = person.authorize(&deployment.resource("demo"), "mcp", "allow").await else {
            panic!("signed in with a wrong password")
        };
        assert_eq!(page.answer.status, 401);
        assert!(page.answer.text().contains("The user name or the password is wrong."));
        texts.push(page.answer.correlation());
    }
    let api = deployment.api().await;
    let request = portico_proto_auth::ListAuditRequest { page_size: 100, ..Default::default() };
    let records = api.auth_audit().list_audit(request).await.unwrap().into_inner().records;
    for correlation in texts {
        let record = records.iter().find(|record| record.correlation_id == correlation).expect("a record");
        assert_eq!((record.action.as_str(), record.outcome.as_str()), ("session.start", "denied"));
    }
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rs_26_rs_27_what_is_revoked_ends_within_5_s_even_on_an_open_stream() {
    let deployment = Deployment::start().await;
    let upstream = Upstream::start(Era::Session).await;
    deployment.publish("notes", &upstream).await;
    let (id, password) = create_person(&deployment, "ada").await;
    let principal = format!("user:{id}");
    let grant = deployment.cli(&["--json", "grant", &principal, "agent", "notes"]).await;
    let grant: Value = serde_json::from_str(&grant.output).unwrap();
    let mut ada = Person::new(&deployment, "ada", &password).await;
    let caller = caller(&deployment, "notes", &ada.access_token(&deployment.resource("notes")).await);
    let session = Session::open(&caller).await;
    let mut stream = session.caller.listen().await;
    assert_eq!(stream.status, 200);
    let revoke = deployment.cli(&["grant", "--revoke", grant["id"].as_str().unwrap()]).await;
    assert_eq!(revoke.code, Some(0), "{}", revoke.output);
    let refused_now = async || {
        let answer = session.ask("tools/list", &json!({})).await;
        (answer.status == 401 || answer.status == 403).then_some(answer)
    };
    let answer = eventually(Duration::from_secs(5), "a call after the grant has gone", refused_now).await;
    untouched(&upstream, &answer);
    let closed = async { while stream.event().await.is_some() {} };
    acceptance::within(Duration::from_secs(5), "the stream of somebody whose grant has gone", closed).await;
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_refresh_token_ends_its_access_tokens_within_5_s() {
    let deployment = Deployment::start().await;
    let mut admin = Person::administrator(&deployment).await;
    let tokens = admin.tokens(&deployment.resource("demo"), "mcp offline_access").await;
    let caller = caller(&deployment, "demo", tokens["access_token"].as_str().unwrap());
    assert_eq!(caller.post(initialize("2025-11-25", &json!({}))).await.status, 200);
    let refresh = tokens["refresh_token"].as_str().unwrap();
    let fields = [("token", refresh), ("client_id", &admin.client_id)];
    assert_eq!(deployment.http.form(&deployment.url("/oauth2/revoke"), &fields).await.status, 200);
    let ended = async || {
        let answer = caller.post(initialize("2025-11-25", &json!({}))).await;
        (answer.status == 401).then_some(answer)
    };
    let answer = eventually(Duration::from_secs(5), "the access token ends", ended).await;
    refused(&answer, (401, -32000, "invalid_token"));
    assert_eq!(admin.refresh(refresh).await.json()["error"], "invalid_grant");
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s2_15_s2_26_register_sign_in_token_call_and_own_data_in_one_go() {
    let deployment = Deployment::start().await;
    let (id, password) = create_person(&deployment, "ada").await;
    let granted = deployment.cli(&["grant", &format!("user:{id}"), "agent", "demo"]).await;
    assert_eq!(granted.code, Some(0), "{}", granted.output);
    let mut ada = Person::new(&deployment, "ada", &password).await;
    let tokens = ada.tokens(&deployment.resource("demo"), "mcp openid profile").await;
    let token = tokens["access_token"].as_str().unwrap();
    assert_eq!(claims(token)["sub"], format!("user:{id}"));
    let session = Session::open(&caller(&deployment, "demo", token)).await;
    assert!(!session.result("tools/list", &json!({})).await["tools"].as_array().unwrap().is_empty());
    // Every request is validated, also within a session that is open.
    let (head, tail) = token.rsplit_once('.').unwrap();
    let forged = session.caller.clone().token(&format!("{head}.{}", "A".repeat(tail.len())));
    let answer = forged.post(session.request_text("tools/list", &json!({}))).await;
    refused(&answer, (401, -32000, "invalid_token"));
    // What is told about her comes from the token and from nothing that she sends.
    let mut headers = http::HeaderMap::new();
    headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
    let url = deployment.url("/oauth2/userinfo?sub=user:somebody-else");
    let about = deployment.http.send(http::Method::GET, &url, &headers, "").await;
    assert_eq!(about.json(), json!({ "sub": format!("user:{id}"), "preferred_username": "ada" }));
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_12_as_30_as_31_registration_keeps_what_is_usable_and_says_what() {
    let deployment = Deployment::start().await;
    let mixed = json!({
        "client_name": "Cursor\u{202e}evil",
        "redirect_uris": ["cursor://anysphere.cursor-mcp/oauth/callback", "javascript:alert(1)", CALLBACK],
        "unknown_field": 1,
    });
    let answer = register(&deployment, &mixed).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let kept = answer.json();
    assert!(!kept["redirect_uris"].to_string().contains("javascript"), "{kept}");
    assert!(!kept["client_name"].as_str().unwrap().contains('\u{202e}'), "{kept}");
    let secret = json!({
        "redirect_uris": [CALLBACK], "token_endpoint_auth_method": "client_secret_post",
    });
    assert!(register(&deployment, &secret).await.json()["client_secret"].is_string());
    let unusable = register(&deployment, &json!({ "redirect_uris": ["http://example.org/cb"] })).await;
    assert_eq!(unusable.json()["error"], "invalid_redirect_uri", "{}", unusable.text());
    deployment.stop().await;
}
