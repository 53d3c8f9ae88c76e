//! Keys rotate, identities end, and what many do at once never mixes.

use std::time::{Duration, Instant};

use acceptance::api::Api;
use acceptance::deployment::{Deployment, Own, Plan};
use acceptance::mcp::{Caller, Session, Stateless, initialize};
use acceptance::oauth::{CALLBACK, Ending, Person, register, register_once};
use acceptance::upstream::{Era, Upstream};
use acceptance::{DEADLINE, eventually, within};
use portico_proto_auth as auth;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::Code;

/// A service account that may use an endpoint: its id, client id and secret.
async fn robot(deployment: &Deployment, name: &str, endpoint: &str) -> (String, String, String) {
    let created = deployment.cli(&["--json", "service-account", "create", name]).await;
    let created: Value = serde_json::from_str(&created.output).unwrap();
    let text = |key: &str| created[key].as_str().unwrap().to_owned();
    let principal = format!("service-account:{}", text("id"));
    let granted = deployment.cli(&["grant", &principal, "agent", endpoint]).await;
    assert_eq!(granted.code, Some(0), "{}", granted.output);
    (text("id"), text("client_id"), text("client_secret"))
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_keys_rotate_under_running_agents() {
    let deployment = Deployment::start().await;
    let before = deployment.token("demo").await;
    let api = deployment.api().await;
    let rotated = api.keys().rotate_signing_keys(auth::RotateSigningKeysRequest::default()).await.unwrap();
    let rotated = rotated.into_inner().key.expect("the new key").kid;
    for server in deployment.replicas("auth-server") {
        let published = async || {
            let jwks = deployment.jwks_at(&server).await;
            assert!(!jwks.to_string().contains("\"d\""), "no private key is published");
            // The new key beside the old one and, on a deployment with a past, older ones.
            let keys = jwks["keys"].as_array().unwrap();
            (keys.len() >= 2 && keys.iter().any(|key| key["kid"] == rotated)).then_some(())
        };
        eventually(DEADLINE, "both keys are published", published).await;
    }
    let after = deployment.token("demo").await;
    for token in [before, after] {
        let caller = Caller::new(deployment.http.clone(), deployment.resource("demo"), &token);
        Session::open(&caller).await.result("tools/list", &json!({})).await;
    }
    deployment.stop().await;
}

/// The administrator at each replica that has a management plane, with a method that it may call there.
async fn managers(deployment: &Deployment) -> Vec<(Api, &'static str)> {
    let account = (deployment.ready.client_id.as_str(), deployment.ready.client_secret.as_str());
    let token = deployment.token_of(account, &deployment.url("/api"), "admin registry:read").await;
    let mut managers = Vec::new();
    for (service, method) in [
        ("auth-server", "/portico.auth.v1.UserService/ListUsers"),
        ("registry", "/portico.registry.v1.ServerService/ListServers"),
    ] {
        let replicas = match deployment.platform() {
            Some(platform) => platform.replicas(service, "listen"),
            None => vec![deployment.ready.grpc.clone()],
        };
        for replica in replicas {
            let api = Api::connect(&replica, Some(&token)).await;
            assert_eq!(api.call_empty(method).await.code(), Code::Ok, "{method}");
            managers.push((api, method));
        }
    }
    managers
}

#[tokio::test(flavor = "multi_thread")]
async fn s0_29_a_withdrawn_signing_key_is_refused_everywhere_within_5_s_and_agents_go_on() {
    const LIMIT: Duration = Duration::from_secs(5);
    let deployment = Deployment::start().await;
    let managers = managers(&deployment).await;
    let created = deployment.cli(&["--json", "user", "create", "wanda"]).await;
    let created: Value = serde_json::from_str(&created.output).unwrap();
    let principal = format!("user:{}", created["id"].as_str().unwrap());
    assert_eq!(deployment.cli(&["grant", &principal, "agent", "demo"]).await.code, Some(0));
    let mut wanda = Person::new(&deployment, "wanda", created["password"].as_str().unwrap()).await;
    let tokens = wanda.tokens(&deployment.resource("demo"), "mcp").await;
    let old = tokens["access_token"].as_str().unwrap();
    let caller = Caller::new(deployment.http.clone(), deployment.resource("demo"), old);
    let mut session = Session::open(&caller).await;
    let mut stream = session.caller.listen().await;
    assert_eq!(stream.status, 200);

    let withdrawn = deployment.cli(&["--json", "keys", "rotate", "--signing", "--withdraw"]).await;
    assert_eq!(withdrawn.code, Some(0), "{}", withdrawn.output);
    let begin = Instant::now();
    let withdrawn: Value = serde_json::from_str(&withdrawn.output).unwrap();
    assert_eq!(withdrawn["active"], true, "{withdrawn}");
    for gateway in deployment.replicas("gateway") {
        let agent = deployment.caller_at(&gateway, "demo").token(old);
        let refused =
            async || (agent.post(initialize("2025-11-25", &json!({}))).await.status == 401).then_some(());
        eventually(LIMIT.saturating_sub(begin.elapsed()), "the gateway refuses it", refused).await;
    }
    for server in deployment.replicas("auth-server") {
        let published = async || {
            let jwks = deployment.jwks_at(&server).await;
            let keys = jwks["keys"].as_array().unwrap();
            (keys.len() == 1 && keys[0]["kid"] == withdrawn["kid"]).then_some(())
        };
        eventually(LIMIT.saturating_sub(begin.elapsed()), "only the new key is published", published).await;
    }
    for (api, method) in &managers {
        let refused = async || (api.call_empty(method).await.code() == Code::Unauthenticated).then_some(());
        eventually(LIMIT.saturating_sub(begin.elapsed()), "the management plane refuses it", refused).await;
    }
    within(LIMIT, "the end of the stream", async { while stream.event().await.is_some() {} }).await;

    // Who was signed in stays so, and the session goes on.
    let refreshed = wanda.refresh(tokens["refresh_token"].as_str().unwrap()).await;
    assert_eq!(refreshed.status, 200, "{}", refreshed.text());
    session.caller = session.caller.token(refreshed.json()["access_token"].as_str().unwrap());
    let again = async || (session.ask("tools/list", &json!({})).await.status == 200).then_some(());
    eventually(DEADLINE, "a new token counts", again).await;
    let record = deployment.cli(&["--json", "audit", "tail", "--action", "key.withdraw"]).await;
    assert!(record.output.contains(withdrawn["withdrawn"][0].as_str().unwrap()), "{}", record.output);
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_that_is_disabled_or_deleted_ends_within_5_s() {
    let deployment = Deployment::start().await;
    let api = deployment.api().await;
    for delete in [false, true] {
        let (id, client_id, secret) = robot(&deployment, &format!("robot-{delete}"), "demo").await;
        let account = (client_id.as_str(), secret.as_str());
        let token = deployment.token_of(account, &deployment.resource("demo"), "mcp").await;
        let caller = Caller::new(deployment.http.clone(), deployment.resource("demo"), &token);
        Session::open(&caller).await;
        if delete {
            let request = auth::DeleteServiceAccountRequest { id };
            api.accounts().delete_service_account(request).await.unwrap();
        } else {
            let list = auth::ListServiceAccountsRequest::default();
            let accounts =
                api.accounts().list_service_accounts(list).await.unwrap().into_inner().service_accounts;
            let revision = accounts.iter().find(|account| account.id == id).unwrap().revision;
            let request = auth::UpdateServiceAccountRequest {
                id,
                disabled: Some(true),
                expected_revision: revision,
                ..Default::default()
            };
            api.accounts().update_service_account(request).await.unwrap();
        }
        let ended =
            async || (caller.post(initialize("2025-11-25", &json!({}))).await.status == 401).then_some(());
        eventually(Duration::from_secs(5), "its token ends", ended).await;
        let again = deployment.token_answer(account, &deployment.resource("demo"), "mcp").await;
        assert_eq!(again.json()["error"], "invalid_client", "{}", again.text());
    }
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a5_who_publishes_a_deleted_name_again_shares_it_with_nobody() {
    let deployment = Deployment::start().await;
    let upstream = Upstream::start(Era::Session).await;
    deployment.publish("ledger", &upstream).await;
    let (_, client_id, secret) = robot(&deployment, "robot", "ledger").await;
    let account = (client_id.as_str(), secret.as_str());
    let resource = deployment.resource("ledger");
    let token = deployment.token_of(account, &resource, "mcp").await;
    let caller = Caller::new(deployment.http.clone(), resource.clone(), &token);
    Session::open(&caller).await;
    let deleted = deployment.cli(&["server", "delete", "ledger"]).await;
    assert_eq!(deleted.code, Some(0), "{}", deleted.output);

    deployment.publish("ledger", &upstream).await;
    let refused =
        async || (caller.post(initialize("2025-11-25", &json!({}))).await.status == 401).then_some(());
    eventually(Duration::from_secs(5), "the token of the earlier grant ends", refused).await;
    let again = deployment.token_answer(account, &resource, "mcp").await;
    assert_eq!(again.json()["error"], "invalid_target", "{}", again.text());
    let granted =
        deployment.cli(&["grant", &format!("service-account:{client_id}"), "agent", "ledger"]).await;
    assert_eq!(granted.code, Some(0), "the earlier grant is not in the way: {}", granted.output);
    deployment.token_of(account, &resource, "mcp").await;
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a21_many_principals_at_once_never_see_one_anothers_answers() {
    let deployment = Deployment::start().await;
    let (old, new) = (Upstream::start(Era::Session).await, Upstream::start(Era::Stateless).await);
    deployment.publish("old", &old).await;
    deployment.publish("new", &new).await;
    let mut people = tokio::task::JoinSet::new();
    for n in 0..4 {
        let name = format!("robot-{n}");
        let (_, client_id, secret) = robot(&deployment, &name, "old").await;
        let account = (client_id.as_str(), secret.as_str());
        let token = deployment.token_of(account, &deployment.resource("old"), "mcp").await;
        let caller = Caller::new(deployment.http.clone(), deployment.resource("old"), &token);
        let stateless = Stateless::new(&deployment.agent("new").await);
        people.spawn(async move {
            let session = Session::open(&caller).await;
            for step in 0..10 {
                let mark = json!({ "who": name, "step": step });
                assert_eq!(session.call("echo", &mark).await["structuredContent"], mark);
                assert_eq!(stateless.call("echo", &mark).await["structuredContent"], mark);
            }
        });
    }
    while let Some(done) = people.join_next().await {
        done.unwrap();
    }
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a20_what_clients_call_themselves_is_text_on_every_page() {
    let deployment = Deployment::start().await;
    let name = "<img src=x onerror=alert(1)>\"'><script>alert(1)</script>";
    let metadata = json!({
        "client_name": name, "redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none",
        "client_uri": "javascript:alert(1)",
    });
    let answer = register(&deployment, &metadata).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let mut admin = Person::administrator(&deployment).await;
    admin.client_id = answer.json()["client_id"].as_str().unwrap().to_owned();
    let login = admin.browser.open(&admin.authorize_url(&deployment.resource("demo"), "mcp")).await.unwrap();
    assert_harmless(&login.answer.text());
    // An unknown decision shows the consent page again.
    let Ending::Page(consent) = admin.authorize(&deployment.resource("demo"), "mcp", "perhaps").await else {
        panic!("the client got an answer without a decision")
    };
    assert_eq!(consent.action, "/login/consent");
    assert_harmless(&consent.answer.text());
    deployment.stop().await;
}

#[track_caller]
fn assert_harmless(html: &str) {
    for part in ["<img", "<script", "onerror=alert(1)>", "href=\"javascript:"] {
        assert!(!html.contains(part), "{part} stands in:\n{html}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn as_30_registration_and_sign_in_are_limited() {
    let plan = Plan::new().own(Own::Limits).set("auth_server.sign_ins_per_minute", "3");
    let deployment = plan.start().await;
    let mut guessing = Person::new(&deployment, &deployment.ready.admin_username, "wrong").await;
    let large = json!({ "redirect_uris": [CALLBACK], "client_name": "x".repeat(20_000) });
    let refused = register_once(&deployment, &large).await;
    assert_eq!((refused.status.as_u16(), &refused.json()["error"]), (400, &json!("invalid_client_metadata")));
    let metadata = json!({ "redirect_uris": [CALLBACK] });
    let mut statuses = Vec::new();
    for _ in 0..12 {
        statuses.push(register_once(&deployment, &metadata).await);
    }
    let limited = statuses.iter().find(|answer| answer.status == 429).expect("a limit on registration");
    assert!(limited.header("retry-after").is_some());
    let mut limited = None;
    for _ in 0..12 {
        let Ending::Page(page) = guessing.authorize(&deployment.resource("demo"), "mcp", "allow").await
        else {
            panic!("signed in with a wrong password")
        };
        if page.answer.status == 429 {
            limited = Some(page.answer);
            break;
        }
        assert_eq!(page.answer.status, 401);
    }
    assert!(limited.expect("a limit on sign-ins").text().contains("Too many attempts"));
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a28_requests_with_two_lengths_are_not_read_twice() {
    let deployment = Deployment::start().await;
    let upstream = Upstream::start(Era::Session).await;
    let agent = deployment.publish("notes", &upstream).await;
    let address = url::Url::parse(&deployment.ready.origin).unwrap().socket_addrs(|| None).unwrap()[0];
    let token = agent.headers["authorization"].to_str().unwrap();
    let inner = format!(
        "POST /notes/mcp HTTP/1.1\r\nHost: {address}\r\nAuthorization: {token}\r\nContent-Length: 0\r\n\r\n"
    );
    let head = format!("POST /notes/mcp HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n");
    let smuggled = [
        format!(
            "{head}Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}",
            inner.len() + 5
        ),
        format!("{head}Content-Length: 0\r\nContent-Length: {}\r\n\r\n{inner}", inner.len()),
        format!("{head}Transfer-Encoding: xchunked\r\n\r\n{inner}"),
    ];
    for request in smuggled {
        let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
        connection.write_all(request.as_bytes()).await.unwrap();
        // It may have ended already.
        let _ = connection.shutdown().await;
        let mut answer = String::new();
        let _ = within(DEADLINE, "an answer or the end", connection.read_to_string(&mut answer)).await;
        assert!(answer.matches("HTTP/1.1 ").count() <= 1, "two answers to one request:\n{request}\n{answer}");
        assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    }
    assert_eq!(upstream.calls(), 0);
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_01_as_03_as_05_the_same_metadata_stands_at_every_place() {
    let deployment = Deployment::start().await;
    let origin = deployment.ready.origin.trim_end_matches('/').to_owned();
    let get = async |path: &str| deployment.http.get(&deployment.url(path)).await;
    let root = get("/.well-known/oauth-authorization-server").await;
    assert_eq!(root.json(), get("/.well-known/openid-configuration").await.json());
    let bound = get("/.well-known/oauth-authorization-server/issuer/demo").await.json();
    assert_eq!(bound, get("/.well-known/openid-configuration/issuer/demo").await.json());
    assert_eq!(bound, get("/issuer/demo/.well-known/openid-configuration").await.json());
    for (document, issuer) in [(root.json(), origin.clone()), (bound, format!("{origin}/issuer/demo"))] {
        assert_eq!(document["issuer"], issuer);
        assert_eq!(document["code_challenge_methods_supported"], json!(["S256"]));
        assert_eq!(document["authorization_response_iss_parameter_supported"], true);
        for key in ["authorization_endpoint", "token_endpoint", "registration_endpoint", "jwks_uri"] {
            assert!(document[key].as_str().unwrap().starts_with(&issuer), "{key}: {document}");
        }
    }
    assert_eq!(root.header("access-control-allow-origin"), Some("*"));
    deployment.stop().await;
}
