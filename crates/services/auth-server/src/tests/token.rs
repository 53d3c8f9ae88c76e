use chrono::Duration;
use http::StatusCode;
use serde_json::{Value, json};

use super::harness::{Browser, CALLBACK, ORIGIN, Portico, VERIFIER, request};
use crate::app::secret_hash;
use crate::jws::SigningKey;

fn text<'a>(tokens: &'a Value, name: &str) -> &'a str {
    tokens[name].as_str().unwrap_or_else(|| panic!("no {name}: {tokens}"))
}

#[tokio::test]
async fn s1_08_the_code_flow_gives_an_access_and_a_refresh_token() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    let tokens = portico.tokens(&client, CALLBACK, &[]).await;
    assert_eq!(tokens["expires_in"], 600);
    let claims = portico.claims(text(&tokens, "access_token"));
    assert_eq!((claims.iss.as_str(), claims.client_id.as_str()), (ORIGIN, client.as_str()));
    assert!(claims.sub.to_string().starts_with("user:"));
    assert_eq!(claims.exp - claims.iat, 600);
    assert!(claims.grant_id.is_some() && claims.sid.is_some() && !claims.jti.is_empty());
    assert_eq!(claims.roles.len(), 1, "the administrator's role");
}

#[tokio::test]
async fn s1_09_the_access_token_verifies_for_its_audience_until_it_expires() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    let tokens = portico.tokens(&client, CALLBACK, &[]).await;
    let access = text(&tokens, "access_token");
    let verifier = &portico.app().verifier;
    verifier.verify(access, &format!("{ORIGIN}/mcp")).unwrap();
    assert!(verifier.verify(access, &format!("{ORIGIN}/api")).is_err());
    portico.advance(Duration::seconds(661));
    portico.app().trust.refresh().await.unwrap();
    assert!(verifier.verify(access, &format!("{ORIGIN}/mcp")).is_err());
}

#[tokio::test]
async fn as_20_token_answers_are_never_cached_and_errors_are_json() {
    let portico = Portico::start().await;
    let answer = portico.post("/oauth2/token", &[("grant_type", "authorization_code")]).await;
    answer.is_error(StatusCode::UNAUTHORIZED, "invalid_client");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("content-type"), "application/json");
    assert!(answer.header("www-authenticate").starts_with("Basic"));
    let client = portico.public_client(CALLBACK).await;
    let post = |grant: &'static str| {
        let client = client.clone();
        let portico = &portico;
        async move { portico.post("/oauth2/token", &[("client_id", &client), ("grant_type", grant)]).await }
    };
    post("password").await.is_error(StatusCode::BAD_REQUEST, "unsupported_grant_type");
    post("client_credentials").await.is_error(StatusCode::BAD_REQUEST, "unauthorized_client");
    post("refresh_token").await.is_error(StatusCode::BAD_REQUEST, "invalid_request");
    let json = http::Request::post("/oauth2/token")
        .header("content-type", "application/json")
        .body(axum::body::Body::from("{}"))
        .unwrap();
    portico.send(json).await.is_error(StatusCode::BAD_REQUEST, "invalid_request");
}

#[tokio::test]
async fn as_20_a_secret_is_taken_from_header_and_body_and_must_be_right() {
    let portico = Portico::start().await;
    let registered = portico
        .register(json!({"redirect_uris": [CALLBACK], "token_endpoint_auth_method": "client_secret_post"}))
        .await
        .json();
    let (id, secret) = (text(&registered, "client_id"), text(&registered, "client_secret"));
    let mut browser = Browser::default();
    for (given, in_header, status) in [
        (secret, false, StatusCode::OK),
        (secret, true, StatusCode::OK),
        ("wrong", false, StatusCode::UNAUTHORIZED),
        ("wrong", true, StatusCode::UNAUTHORIZED),
        ("", false, StatusCode::UNAUTHORIZED),
    ] {
        let answer = portico.authorize(&mut browser, &request(id, CALLBACK)).await;
        let code = answer.parameter("code").unwrap();
        let mut pairs = vec![
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("code_verifier", VERIFIER),
            ("client_id", id),
        ];
        let header = in_header.then(|| {
            use base64::Engine as _;
            let pair = base64::engine::general_purpose::STANDARD.encode(format!("{id}:{given}"));
            format!("Basic {pair}")
        });
        if !in_header {
            pairs.push(("client_secret", given));
        }
        let answer = portico.post_as("/oauth2/token", &pairs, header.as_deref()).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
}

#[tokio::test]
async fn as_20_private_key_jwt_is_checked_and_used_once() {
    let portico = Portico::start().await;
    let (key, _) = SigningKey::generate().unwrap();
    let registered = portico
        .register(json!({
            "redirect_uris": [CALLBACK],
            "token_endpoint_auth_method": "private_key_jwt",
            "jwks": {"keys": [key.jwk()]},
        }))
        .await
        .json();
    let id = text(&registered, "client_id").to_owned();
    let now = 1_800_000_000;
    let claims = |change: Value| {
        let mut claims = json!({"iss": id, "sub": id, "aud": ORIGIN, "exp": now + 60, "jti": "one"});
        claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        claims
    };
    let mut browser = Browser::default();
    for (change, status) in [
        (json!({}), StatusCode::OK),
        (json!({}), StatusCode::UNAUTHORIZED),
        (json!({"jti": "two", "aud": format!("{ORIGIN}/oauth2/token")}), StatusCode::OK),
        (json!({"jti": "three", "aud": "https://other.example"}), StatusCode::UNAUTHORIZED),
        (json!({"jti": "four", "exp": now - 61}), StatusCode::UNAUTHORIZED),
        (json!({"jti": "five", "exp": now + 86_400}), StatusCode::UNAUTHORIZED),
        (json!({"jti": "six", "iss": "somebody"}), StatusCode::UNAUTHORIZED),
    ] {
        use secrecy::ExposeSecret as _;
        let answer = portico.authorize(&mut browser, &request(&id, CALLBACK)).await;
        let code = answer.parameter("code").unwrap();
        let assertion = key.sign("JWT", &claims(change.clone())).unwrap();
        let pairs = [
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("code_verifier", VERIFIER),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", assertion.expose_secret()),
        ];
        let answer = portico.post("/oauth2/token", &pairs).await;
        assert_eq!(answer.status, status, "{change}: {answer:?}");
    }
}

#[tokio::test]
async fn as_21_refresh_rotates_and_two_at_once_get_the_same_successor() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    let tokens = portico.tokens(&client, CALLBACK, &[]).await;
    let first = text(&tokens, "refresh_token");
    let (one, two) = tokio::join!(portico.refresh(&client, first), portico.refresh(&client, first));
    assert_eq!((one.status, two.status), (StatusCode::OK, StatusCode::OK), "{one:?} {two:?}");
    let (one, two) = (one.json(), two.json());
    let second = text(&one, "refresh_token");
    assert_eq!(second, text(&two, "refresh_token"), "never a second branch");
    assert_ne!(second, first);
    portico.advance(Duration::seconds(29));
    assert_eq!(text(&portico.refresh(&client, first).await.json(), "refresh_token"), second);
    let third = portico.refresh(&client, second).await.json();
    assert_ne!(text(&third, "refresh_token"), second);
}

#[tokio::test]
async fn as_21_refresh_reuse_revokes_family() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    let tokens = portico.tokens(&client, CALLBACK, &[]).await;
    let first = text(&tokens, "refresh_token");
    let second = portico.refresh(&client, first).await.json();
    portico.advance(Duration::seconds(30));
    portico.refresh(&client, first).await.is_error(StatusCode::BAD_REQUEST, "invalid_grant");
    let answer = portico.refresh(&client, text(&second, "refresh_token")).await;
    answer.is_error(StatusCode::BAD_REQUEST, "invalid_grant");
    for access in [text(&tokens, "access_token"), text(&second, "access_token")] {
        assert!(portico.app().verifier.verify(access, &format!("{ORIGIN}/mcp")).is_err());
    }
    assert_eq!(portico.app().counters.refresh_reuses.get(), 1);
}

#[tokio::test]
async fn as_21_a_token_whose_successor_was_used_is_reuse_even_in_the_grace() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    let first = portico.tokens(&client, CALLBACK, &[]).await;
    let second = portico.refresh(&client, text(&first, "refresh_token")).await.json();
    let third = portico.refresh(&client, text(&second, "refresh_token")).await.json();
    let answer = portico.refresh(&client, text(&first, "refresh_token")).await;
    answer.is_error(StatusCode::BAD_REQUEST, "invalid_grant");
    let answer = portico.refresh(&client, text(&third, "refresh_token")).await;
    answer.is_error(StatusCode::BAD_REQUEST, "invalid_grant");
}

#[tokio::test]
async fn as_22_a_refresh_token_is_bound_to_client_resource_and_scope() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    let other = portico.public_client(CALLBACK).await;
    let tokens = portico.tokens(&client, CALLBACK, &[("scope", "mcp openid")]).await;
    let refresh = text(&tokens, "refresh_token");
    portico.refresh(&other, refresh).await.is_error(StatusCode::BAD_REQUEST, "invalid_grant");
    let with = |name: &'static str, value: String| {
        let (client, refresh, portico) = (client.clone(), refresh.to_owned(), &portico);
        async move {
            let pairs = [
                ("grant_type", "refresh_token"),
                ("client_id", client.as_str()),
                ("refresh_token", refresh.as_str()),
                (name, value.as_str()),
            ];
            portico.post("/oauth2/token", &pairs).await
        }
    };
    with("resource", format!("{ORIGIN}/api")).await.is_error(StatusCode::BAD_REQUEST, "invalid_target");
    with("scope", "mcp profile".into()).await.is_error(StatusCode::BAD_REQUEST, "invalid_scope");
    let narrowed = with("scope", "mcp".into()).await.json();
    assert_eq!(narrowed["scope"], "mcp");
    assert!(narrowed.get("id_token").is_none());
}

#[tokio::test]
async fn as_22_a_refresh_token_has_an_idle_limit_unless_it_is_offline() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    let online = portico.tokens(&client, CALLBACK, &[]).await;
    let offline = portico.tokens(&client, CALLBACK, &[("scope", "mcp offline_access")]).await;
    portico.advance(Duration::days(30));
    let answer = portico.refresh(&client, text(&online, "refresh_token")).await;
    answer.is_error(StatusCode::BAD_REQUEST, "invalid_grant");
    let renewed = portico.refresh(&client, text(&offline, "refresh_token")).await.json();
    portico.advance(Duration::days(150));
    let answer = portico.refresh(&client, text(&renewed, "refresh_token")).await;
    answer.is_error(StatusCode::BAD_REQUEST, "invalid_grant");
}

#[tokio::test]
async fn as_23_nothing_that_grants_access_is_stored_in_the_clear() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    let answer = portico.authorize(&mut Browser::default(), &request(&client, CALLBACK)).await;
    let code = answer.parameter("code").unwrap();
    let tokens = portico.redeem(&client, CALLBACK, &code).await.json();
    let refresh = text(&tokens, "refresh_token");
    let successor = portico.refresh(&client, refresh).await.json();
    let successor = text(&successor, "refresh_token");
    let portico_db::Db::Sqlite(pool) = &portico.db else { panic!("tests run on SQLite") };
    let tables: Vec<String> = sqlx::query_scalar("SELECT name FROM sqlite_master WHERE type = 'table'")
        .fetch_all(pool)
        .await
        .unwrap();
    for table in tables {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!("SELECT * FROM \"{table}\"")))
            .fetch_all(pool)
            .await
            .unwrap();
        for row in rows {
            for column in 0..sqlx::Row::len(&row) {
                let bytes: Vec<u8> = sqlx::Row::try_get_unchecked::<Option<Vec<u8>>, _>(&row, column)
                    .unwrap()
                    .unwrap_or_default();
                for secret in [code.as_str(), refresh, successor] {
                    let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                    assert!(!found, "{table}, column {column}");
                }
            }
        }
    }
    assert!(portico.app().stores.families.find_token(&secret_hash(successor)).await.unwrap().is_some());
    portico.advance(Duration::seconds(30));
    portico.app().stores.sweep.run(portico_clock::Clock::now(&portico.clock)).await.unwrap();
    let used = portico.app().stores.families.find_token(&secret_hash(refresh)).await.unwrap().unwrap();
    assert_eq!(used.successor_sealed, None, "the successor is kept for the grace only");
}

#[tokio::test]
async fn s1_11_a_disabled_person_gets_no_new_token() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    let tokens = portico.tokens(&client, CALLBACK, &[]).await;
    // Somebody else has to be left who may administer.
    portico.service_account().await;
    let app = portico.app();
    let user = app.stores.users.find("admin").await.unwrap().unwrap();
    second_administrator(app).await;
    let update = crate::store::users::UserUpdate { disabled: Some(true), ..Default::default() };
    let change = app.change(&crate::actor::Actor::service(), crate::actor::Deed::done("user.update", "", ""));
    app.stores.users.update(user.id, user.revision, &update, &change).await.unwrap();
    let answer = portico.refresh(&client, text(&tokens, "refresh_token")).await;
    answer.is_error(StatusCode::BAD_REQUEST, "invalid_grant");
}

/// The last administrator could not be disabled.
async fn second_administrator(app: &crate::app::App) {
    let change = app.change(&crate::actor::Actor::service(), crate::actor::Deed::done("user.create", "", ""));
    let user = crate::store::users::NewUser {
        id: portico_ids::UserId::generate(&*app.clock, &*app.rng),
        username: "second".to_owned(),
        display_name: String::new(),
        email: String::new(),
        password_hash: String::new(),
    };
    app.stores.users.create(&user, &change).await.unwrap();
    let role = app.stores.roles.find("administrator").await.unwrap().unwrap();
    let grant = crate::store::grants::Grant {
        id: portico_ids::GrantId::generate(&*app.clock, &*app.rng),
        principal: format!("user:{}", user.id),
        role_id: role.id,
        role_name: role.name,
        endpoint: "*".to_owned(),
        endpoint_id: None,
        created_at: app.clock.now(),
    };
    let change =
        app.change(&crate::actor::Actor::service(), crate::actor::Deed::done("grant.create", "", ""));
    app.stores.grants.create(&grant, &change).await.unwrap();
}

#[tokio::test]
async fn as_13_a_token_for_a_part_of_what_was_authorized_is_given() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    let open = format!("{ORIGIN}/open/mcp");
    let refreshed = |client: String, tokens: Value, resource: String| {
        let portico = &portico;
        async move {
            let pairs = [
                ("grant_type", "refresh_token"),
                ("client_id", client.as_str()),
                ("refresh_token", text(&tokens, "refresh_token")),
                ("resource", resource.as_str()),
            ];
            portico.post("/oauth2/token", &pairs).await
        }
    };
    let root = portico.tokens(&client, CALLBACK, &[]).await;
    let answer = refreshed(client.clone(), root, open.clone()).await.json();
    assert_eq!(portico.claims(text(&answer, "access_token")).aud, open);
    let one = portico.tokens(&client, CALLBACK, &[("resource", &open)]).await;
    for wider in ["/mcp", "/closed/mcp", "/api"] {
        let answer = refreshed(client.clone(), one.clone(), format!("{ORIGIN}{wider}")).await;
        answer.is_error(StatusCode::BAD_REQUEST, "invalid_target");
    }
}

#[tokio::test]
async fn the_command_line_signs_in_once_for_the_api_and_every_endpoint() {
    let portico = Portico::start().await;
    let (api, open) = (format!("{ORIGIN}/api"), format!("{ORIGIN}/open/mcp"));
    let more = [
        ("resource", api.as_str()),
        ("scope", "openid offline_access mcp registry:read registry:write admin"),
    ];
    let tokens = portico.tokens("portico-cli", "http://127.0.0.1:40123/callback", &more).await;
    assert_eq!(portico.claims(text(&tokens, "access_token")).aud, api);
    let pairs = [
        ("grant_type", "refresh_token"),
        ("client_id", "portico-cli"),
        ("refresh_token", text(&tokens, "refresh_token")),
        ("resource", open.as_str()),
        ("scope", "mcp"),
    ];
    let tokens = portico.post("/oauth2/token", &pairs).await.json();
    let claims = portico.claims(text(&tokens, "access_token"));
    assert_eq!((claims.aud, claims.scope.to_string()), (open, "mcp".to_owned()));
    portico.advance(Duration::days(60));
    let answer = portico.refresh("portico-cli", text(&tokens, "refresh_token")).await;
    assert_eq!(portico.claims(text(&answer.json(), "access_token")).aud, api);
}
