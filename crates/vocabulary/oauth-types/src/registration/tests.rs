use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const SUPPORTED: [AuthMethod; 3] =
    [AuthMethod::None, AuthMethod::ClientSecretBasic, AuthMethod::ClientSecretPost];

fn register(request: Value) -> Result<ClientMetadata, OAuthErrorCode> {
    let request = serde_json::from_value(request).unwrap();
    ClientMetadata::from_request(request, &SUPPORTED).map_err(|error| error.error)
}

fn uris(metadata: &ClientMetadata) -> Vec<&str> {
    metadata.redirect_uris.iter().map(RedirectUri::as_str).collect()
}

#[test]
fn as_30_what_known_clients_register_is_kept() {
    let claude = json!({
        "client_name": "Claude", "redirect_uris": ["https://claude.ai/api/mcp/auth_callback"],
        "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"],
        "token_endpoint_auth_method": "none", "scope": "mcp", "contacts": null, "logo_uri": 7,
    });
    let metadata = register(claude).unwrap();
    assert_eq!(metadata.application_type, ApplicationType::Web);
    assert_eq!(metadata.grant_types, [GrantType::AuthorizationCode, GrantType::RefreshToken]);
    assert_eq!(metadata.token_endpoint_auth_method, AuthMethod::None);

    let code = json!({
        "client_name": "Visual Studio Code", "token_endpoint_auth_method": "none",
        "redirect_uris": ["https://insiders.vscode.dev/redirect", "https://vscode.dev/redirect", "http://127.0.0.1/",
            "http://127.0.0.1:33418/"],
    });
    let metadata = register(code).unwrap();
    assert_eq!((metadata.redirect_uris.len(), metadata.application_type), (4, ApplicationType::Native));
    assert!(metadata.allows_redirect(&RedirectUri::parse("http://127.0.0.1:50000/").unwrap()));
}

#[test]
fn as_30_unusable_uris_are_dropped_while_one_remains() {
    let cursor = json!({
        "redirect_uris": ["myapp://x", "cursor://anysphere.cursor-mcp/oauth/callback", "http://evil.example/cb",
            "http://localhost:8787/callback", "http://localhost:8787/callback"],
        "application_type": "web",
    });
    let metadata = register(cursor).unwrap();
    let kept = ["cursor://anysphere.cursor-mcp/oauth/callback", "http://localhost:8787/callback"];
    assert_eq!(uris(&metadata), kept);
    assert_eq!(metadata.application_type, ApplicationType::Native);
}

#[test]
fn as_30_without_a_usable_uri_the_registration_is_refused() {
    let eleven: Vec<String> = (0..11).map(|n| format!("https://h/{n}")).collect();
    for redirect_uris in [json!(null), json!([]), json!(["http://evil.example/"]), json!(eleven)] {
        assert_eq!(
            register(json!({"redirect_uris": redirect_uris})),
            Err(OAuthErrorCode::InvalidRedirectUri)
        );
    }
}

#[test]
fn as_26_as_31_methods_and_grants_are_honoured_or_refused() {
    let with = |field: &str, value: Value| {
        let mut request = json!({"redirect_uris": ["https://h/cb"]});
        request[field] = value;
        register(request)
    };
    let defaults = with("software_id", json!("x")).unwrap();
    assert_eq!(defaults.token_endpoint_auth_method, AuthMethod::ClientSecretBasic);
    assert_eq!(defaults.grant_types, [GrantType::AuthorizationCode]);
    for (field, value) in [
        ("token_endpoint_auth_method", json!("private_key_jwt")),
        ("token_endpoint_auth_method", json!("tls_client_auth")),
        ("grant_types", json!(["client_credentials"])),
        ("grant_types", json!(["implicit"])),
        ("response_types", json!(["token"])),
        ("scope", json!("mcp  admin")),
    ] {
        assert_eq!(with(field, value.clone()), Err(OAuthErrorCode::InvalidClientMetadata), "{field} {value}");
    }
    let dropped =
        with("grant_types", json!(["authorization_code", "client_credentials", "implicit"])).unwrap();
    assert_eq!(dropped.grant_types, [GrantType::AuthorizationCode]);
    assert_eq!(with("client_uri", json!("javascript:alert(1)")).unwrap().client_uri, None);
}

#[test]
fn as_30_names_lose_what_could_disguise_them() {
    for (text, shown) in [
        ("  Good client \r\n", Some("Good client")),
        ("evil\u{202e}tneilc\u{200b}\u{0}", Some("eviltneilc")),
        ("\u{feff}\u{2066}\u{3164}", None),
        ("", None),
    ] {
        assert_eq!(plain_text(text).as_deref(), shown, "{text:?}");
    }
    assert_eq!(plain_text(&"ä".repeat(500)).map(|name| name.chars().count()), Some(MAX_NAME_CHARS));
}

#[test]
fn as_30_the_answer_echoes_what_was_kept() {
    let metadata = register(json!({"redirect_uris": ["https://h/cb", "x:y"], "client_name": "C"})).unwrap();
    let answer = ClientInformation {
        client_id: "id".to_owned(),
        client_id_issued_at: 1,
        client_secret: Some("s3cret".into()),
        client_secret_expires_at: Some(0),
        metadata,
    };
    assert!(!format!("{answer:?}").contains("s3cret"));
    assert_eq!(
        serde_json::to_value(answer).unwrap(),
        json!({
            "client_id": "id", "client_id_issued_at": 1, "client_secret": "s3cret", "client_secret_expires_at": 0,
            "redirect_uris": ["https://h/cb"], "token_endpoint_auth_method": "client_secret_basic",
            "grant_types": ["authorization_code"], "response_types": ["code"], "client_name": "C",
            "application_type": "web",
        })
    );
}

proptest! {
    #[test]
    fn names_never_have_control_characters_and_stay_short(text in "\\PC{0,50}[\\u{0}-\\u{1f}\\u{202a}-\\u{202e}]{0,9}\\PC{0,80}") {
        if let Some(name) = plain_text(&text) {
            prop_assert!(name.chars().count() <= MAX_NAME_CHARS);
            prop_assert!(!name.chars().any(|c| c.is_control() || is_invisible(c)));
        }
    }
}
