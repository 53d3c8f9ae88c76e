//! What real clients send, replayed: registration, authorization, token, refresh.

use http::StatusCode;
use serde_json::{Value, json};

use super::harness::{Browser, ORIGIN, Portico, VERIFIER, request};

/// The recorded behaviour of one client.
struct Profile {
    name: &'static str,
    /// Its registration (RFC 7591).
    registration: Value,
    /// The redirect URI of its authorization request, which is not always one that it registered.
    redirect_uri: &'static str,
    /// The path of the endpoint that it connects to; `None`: it sends no `resource`.
    resource: Option<&'static str>,
    /// The path of the issuer that it uses.
    issuer: &'static str,
    scope: Option<&'static str>,
    /// The endpoint that the token must be for.
    audience: &'static str,
    /// Whether it needs a secret although it said `none`.
    wants_secret: bool,
}

fn base(name: &'static str, redirect_uri: &'static str) -> Profile {
    Profile {
        name,
        registration: json!({
            "client_name": name,
            "redirect_uris": [redirect_uri],
            "token_endpoint_auth_method": "none",
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
        }),
        redirect_uri,
        resource: Some("/open/mcp"),
        issuer: "",
        scope: None,
        audience: "/open/mcp",
        wants_secret: false,
    }
}

/// The same with other registered URIs than the one that is used.
fn registering(profile: Profile, uris: &[&str]) -> Profile {
    let mut registration = profile.registration;
    registration["redirect_uris"] = json!(uris);
    Profile { registration, ..profile }
}

fn profiles() -> Vec<Profile> {
    let cursor = "cursor://anysphere.cursor-mcp/oauth/callback";
    vec![
        base("Q1 Claude.ai", "https://claude.ai/api/mcp/auth_callback"),
        base("Q1 Claude.com", "https://claude.com/api/mcp/auth_callback"),
        Profile {
            resource: Some("/open/mcp/"),
            ..base("Q3 Claude.ai with a slash behind the resource", "https://claude.ai/api/mcp/auth_callback")
        },
        Profile {
            scope: Some("mcp offline_access"),
            ..base("Q7 Claude.ai registering anew", "https://claude.ai/api/mcp/auth_callback")
        },
        registering(
            base("Q8 Claude Code on an ephemeral port", "http://localhost:54212/callback"),
            &["http://localhost/callback"],
        ),
        registering(
            base("Q12 VS Code on a port that was taken", "http://127.0.0.1:50123/"),
            &[
                "https://insiders.vscode.dev/redirect",
                "https://vscode.dev/redirect",
                "http://127.0.0.1/",
                "http://127.0.0.1:33418/",
            ],
        ),
        base("Q12 VS Code in the browser", "https://vscode.dev/redirect"),
        registering(base("Q13 Copilot CLI", "http://127.0.0.1:61001/"), &["http://127.0.0.1:33418/"]),
        registering(
            base("Q14 Cursor, private scheme beside what is refused", cursor),
            &[cursor, "evil-app://callback", "http://localhost:8787/callback"],
        ),
        registering(
            base("Q14 Cursor, loopback", "http://localhost:8787/callback"),
            &[cursor, "http://localhost:8787/callback"],
        ),
        base("Q15 ChatGPT", "https://chatgpt.com/connector/oauth/abc123"),
        base("Q15 ChatGPT, legacy", "https://chatgpt.com/connector_platform_oauth_redirect"),
        Profile {
            wants_secret: true,
            ..base("Q16 Perplexity", "https://www.perplexity.ai/rest/connections/oauth_callback")
        },
        registering(
            base("Q18 mcp-remote with a cached registration", "http://localhost:18976/oauth/callback"),
            &["http://localhost:3334/oauth/callback"],
        ),
        Profile {
            resource: None,
            issuer: "/issuer/open",
            ..base("Q19 no resource at a bound issuer", "http://127.0.0.1:9000/callback")
        },
        Profile {
            resource: None,
            audience: "/mcp",
            ..base("Q19 no resource", "http://127.0.0.1:9000/callback")
        },
        Profile {
            scope: Some("mcp openid profile email offline_access claudeai unknown:scope"),
            ..base("Q9 every scope at once, and unknown ones", "http://localhost:3118/callback")
        },
    ]
}

#[tokio::test]
async fn recorded_client_profiles_sign_in_call_and_refresh() {
    let portico = Portico::start().await;
    for profile in profiles() {
        // Registrations from one address are limited.
        portico.advance(chrono::Duration::seconds(10));
        replay(&portico, &profile).await;
    }
}

async fn replay(portico: &Portico, profile: &Profile) {
    let name = profile.name;
    let answer = portico.register(profile.registration.clone()).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{name}: {answer:?}");
    let client = answer.json();
    let client_id = client["client_id"].as_str().unwrap();
    let secret = client["client_secret"].as_str();
    assert_eq!(secret.is_some(), profile.wants_secret, "{name}");

    let resource = profile.resource.map(|path| format!("{ORIGIN}{path}"));
    let mut parameters = request(client_id, profile.redirect_uri);
    parameters.extend(resource.as_deref().map(|text| ("resource", text)));
    parameters.extend(profile.scope.map(|text| ("scope", text)));
    let mut browser = Browser::default();
    let path = format!("{}/oauth2/authorize?{}", profile.issuer, super::harness::form(&parameters));
    let answer = browser.get(portico, &path).await;
    let answer = portico.go_on(&mut browser, answer).await;
    let code = answer.parameter("code").unwrap_or_else(|| panic!("{name}: {answer:?}"));
    assert_eq!(answer.parameter("iss"), Some(format!("{ORIGIN}{}", profile.issuer)), "{name}");

    let token_path = format!("{}/oauth2/token", profile.issuer);
    let mut pairs = vec![
        ("grant_type", "authorization_code"),
        ("client_id", client_id),
        ("code", code.as_str()),
        ("redirect_uri", profile.redirect_uri),
        ("code_verifier", VERIFIER),
    ];
    pairs.extend(resource.as_deref().map(|text| ("resource", text)));
    pairs.extend(secret.map(|text| ("client_secret", text)));
    let answer = portico.post(&token_path, &pairs).await;
    assert_eq!(answer.status, StatusCode::OK, "{name}: {answer:?}");
    let tokens = answer.json();
    let claims = portico.claims(tokens["access_token"].as_str().unwrap());
    assert_eq!(claims.aud, format!("{ORIGIN}{}", profile.audience), "{name}");

    // Q6, Q10: two processes refresh at once.
    let refresh = tokens["refresh_token"].as_str().unwrap();
    let mut pairs =
        vec![("grant_type", "refresh_token"), ("client_id", client_id), ("refresh_token", refresh)];
    pairs.extend(secret.map(|text| ("client_secret", text)));
    let (one, two) = tokio::join!(portico.post(&token_path, &pairs), portico.post(&token_path, &pairs));
    assert_eq!((one.status, two.status), (StatusCode::OK, StatusCode::OK), "{name}: {one:?} {two:?}");
    assert_eq!(one.json()["refresh_token"], two.json()["refresh_token"], "{name}");
}

#[tokio::test]
async fn q2_clients_are_told_that_a_document_will_do_and_may_register_as_well() {
    let portico = Portico::start().await;
    let document = portico.get("/.well-known/oauth-authorization-server").await.json();
    assert_eq!(document["client_id_metadata_document_supported"], true);
    assert!(document["token_endpoint_auth_methods_supported"].as_array().unwrap().contains(&json!("none")));
    assert!(document["registration_endpoint"].is_string());
}

#[tokio::test]
async fn q17_browsers_may_read_tokens_and_registrations() {
    let portico = Portico::start().await;
    let answer = portico.register(json!({"redirect_uris": ["http://localhost:6274/oauth/callback"]})).await;
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    let answer = portico.post("/oauth2/token", &[("grant_type", "x")]).await;
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert!(answer.header("access-control-expose-headers").contains("www-authenticate"));
}
