use chrono::Duration;
use http::StatusCode;

use super::harness::{Browser, CALLBACK, PASSWORD, Portico, form, request};
use crate::AuthServerSettings;
use crate::store::audit::AuditFilter;

#[tokio::test]
async fn as_16_pages_are_hardened() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    let mut browser = Browser::default();
    let start =
        browser.get(&portico, &format!("/oauth2/authorize?{}", form(&request(&client, CALLBACK)))).await;
    let login = start.location().to_owned();
    for path in [login.as_str(), "/login", "/oauth2/authorize", "/login/consent?request=x"] {
        let page = browser.get(&portico, path).await;
        let policy = page.header("content-security-policy");
        assert!(
            policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe") && !policy.contains("script-src"));
        assert_eq!(
            page.header("cross-origin-opener-policy"),
            "",
            "clients wait for the window that they opened"
        );
        assert_eq!(page.header("x-frame-options"), "DENY");
        assert_eq!(page.header("referrer-policy"), "no-referrer");
        assert_eq!(page.header("cache-control"), "no-store");
        assert_eq!(page.header("x-content-type-options"), "nosniff");
        assert!(
            !page.body.contains("<script")
                && !page.body.contains("style=")
                && !page.body.contains(" onclick")
        );
    }
    let page = browser.get(&portico, &login).await;
    let policy = page.header("content-security-policy");
    assert!(policy.ends_with("form-action 'self' https://client.example"), "{policy}");
}

#[tokio::test]
async fn as_16_forms_without_our_token_are_refused() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    let mut browser = Browser::default();
    browser.sign_in(&portico, "admin", PASSWORD).await;
    let start =
        browser.get(&portico, &format!("/oauth2/authorize?{}", form(&request(&client, CALLBACK)))).await;
    let sealed = start.parameter("request").unwrap();
    let mut stranger = Browser::default();
    let foreign = stranger.get(&portico, "/login").await.field("form");
    for path in [
        "/login",
        "/login/consent",
        "/account/sign-out",
        "/account/sessions",
        "/account/applications",
        "/account/password",
    ] {
        for token in ["", foreign.as_str()] {
            let pairs = [
                ("form", token.to_owned()),
                ("request", sealed.clone()),
                ("decision", "allow".to_owned()),
                ("username", "admin".to_owned()),
                ("password", PASSWORD.to_owned()),
            ];
            let answer = browser.submit(&portico, path, &pairs).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
            assert!(answer.body.contains("The form cannot be accepted"));
        }
    }
    assert_eq!(browser.get(&portico, "/account").await.status, StatusCode::OK, "nothing happened");
}

#[tokio::test]
async fn as_16_a_form_from_another_origin_is_refused_even_with_our_token() {
    let portico = Portico::start().await;
    for (header, value, status) in [
        ("origin", "https://evil.example", StatusCode::FORBIDDEN),
        ("sec-fetch-site", "cross-site", StatusCode::FORBIDDEN),
        ("sec-fetch-site", "same-site", StatusCode::FORBIDDEN),
        ("sec-fetch-site", "same-origin", StatusCode::SEE_OTHER),
        ("origin", "https://portico.example", StatusCode::SEE_OTHER),
        // What browsers send from a page with `Referrer-Policy: no-referrer`.
        ("origin", "null", StatusCode::SEE_OTHER),
    ] {
        let mut browser = Browser::default();
        let page = browser.get(&portico, "/login").await;
        let cookies: Vec<String> =
            browser.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let body = form(&[("form", &page.field("form")), ("username", "admin"), ("password", PASSWORD)]);
        let request = http::Request::post("/login")
            .header("cookie", cookies.join("; "))
            .header(header, value)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(axum::body::Body::from(body))
            .unwrap();
        assert_eq!(portico.send(request).await.status, status, "{header}: {value}");
    }
}

#[tokio::test]
async fn s2_14_signing_in_sets_a_new_session_and_the_account_page_shows_it() {
    let portico = Portico::start().await;
    let mut browser = Browser::default();
    let answer = browser.sign_in(&portico, " Admin ", PASSWORD).await;
    assert_eq!((answer.status, answer.location()), (StatusCode::SEE_OTHER, "/account"));
    let first = browser.cookies["__Host-portico-login"].clone();
    let account = browser.get(&portico, "/account").await;
    assert!(account.body.contains("this browser") && account.body.contains("192.0.2.1"));
    assert_eq!(browser.get(&portico, "/login").await.location(), "/account");
    let found = portico.app().stores.sessions.find(&crate::app::secret_hash(&first)).await.unwrap();
    assert!(found.is_some(), "AS-23: only the hash is stored");
}

#[tokio::test]
async fn as_17_a_new_login_ends_the_session_before_it() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    let mut browser = Browser::default();
    browser.sign_in(&portico, "admin", PASSWORD).await;
    let first = browser.cookies["__Host-portico-login"].clone();
    let mut parameters = request(&client, CALLBACK);
    parameters.push(("prompt", "login"));
    portico.advance(Duration::seconds(1));
    portico.authorize(&mut browser, &parameters).await;
    assert_ne!(browser.cookies["__Host-portico-login"], first);
    let mut thief = Browser::default();
    thief.cookies.insert("__Host-portico-login".into(), first);
    assert_eq!(thief.get(&portico, "/account").await.location(), "/login");
}

#[tokio::test]
async fn as_17_sessions_end_when_idle_and_at_their_age() {
    let portico = Portico::start().await;
    let mut browser = Browser::default();
    browser.sign_in(&portico, "admin", PASSWORD).await;
    portico.advance(Duration::hours(11));
    assert_eq!(browser.get(&portico, "/account").await.status, StatusCode::OK);
    portico.advance(Duration::hours(13));
    assert_eq!(browser.get(&portico, "/account").await.location(), "/login");
}

#[tokio::test]
async fn as_43_a_wrong_name_and_a_wrong_password_get_the_same_answer() {
    let portico = Portico::start().await;
    let mut bodies = Vec::new();
    for (name, password) in [("admin", "wrong password here"), ("nobody", PASSWORD)] {
        let mut browser = Browser::default();
        let answer = browser.sign_in(&portico, name, password).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert!(!browser.cookies.contains_key("__Host-portico-login"));
        let token = answer.field("form");
        bodies.push(answer.body.replace(&token, "").replace(&format!("value=\"{name}\""), ""));
    }
    assert_eq!(bodies[0], bodies[1]);
    let filter = AuditFilter { action: Some("session.start".into()), ..AuditFilter::default() };
    let rows = portico.app().stores.audit.newest(&filter, 10).await.unwrap();
    let names: Vec<_> = rows.iter().map(|row| (row.outcome.as_str(), row.name.as_str())).collect();
    assert_eq!(names, [("denied", "admin"), ("denied", "")], "unknown names are not written down");
}

#[tokio::test]
async fn as_43_attempts_are_limited_for_an_account_and_an_address() {
    let portico = Portico::start().await;
    let mut browser = Browser::default();
    for _ in 0..10 {
        let answer = browser.sign_in(&portico, "admin", "wrong password here").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    let answer = browser.sign_in(&portico, "admin", PASSWORD).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(answer.body.contains("Too many attempts"));
    // One more every six seconds.
    let seconds: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=7).contains(&seconds), "{seconds}");
    portico.advance(Duration::minutes(1));
    assert_eq!(browser.sign_in(&portico, "admin", PASSWORD).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn as_43_one_address_cannot_try_a_password_on_every_account() {
    let portico =
        Portico::with(AuthServerSettings { sign_ins_per_minute: 1, ..AuthServerSettings::default() }).await;
    let mut browser = Browser::default();
    for account in 0..20 {
        let answer = browser.sign_in(&portico, &format!("person-{account}"), "Summer2026!").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{account}");
    }
    let answer = browser.sign_in(&portico, "person-20", "Summer2026!").await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    let mut elsewhere = Browser { address: Some([198, 51, 100, 1].into()), ..Browser::default() };
    let answer = elsewhere.sign_in(&portico, "admin", PASSWORD).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "others sign in meanwhile");
}

#[tokio::test]
async fn as_43_strangers_do_not_lock_a_person_out_of_a_browser_that_is_known() {
    let portico =
        Portico::with(AuthServerSettings { sign_ins_per_minute: 1, ..AuthServerSettings::default() }).await;
    let mut own = Browser::default();
    own.sign_in(&portico, "admin", PASSWORD).await;
    portico.advance(Duration::minutes(1));
    for network in 1..=11 {
        let mut stranger = Browser { address: Some([203, 0, 113, network].into()), ..Browser::default() };
        stranger.sign_in(&portico, "admin", "wrong password here").await;
    }
    let mut new = Browser { address: Some([198, 51, 100, 1].into()), ..Browser::default() };
    let answer = new.sign_in(&portico, "admin", PASSWORD).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "the account is under attack");
    own.cookies.remove("__Host-portico-login");
    let kept = own.cookies["__Host-portico-known"].clone();
    let answer = own.sign_in(&portico, "admin", PASSWORD).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "it has signed in here before");

    // What it is known by is of one account, has attempts of its own, and not for ever.
    let thief =
        || Browser { cookies: [("__Host-portico-known".to_owned(), kept.clone())].into(), ..new_address() };
    let answer = thief().sign_in(&portico, "admin", "wrong password here").await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "its attempt was used");
    portico.advance(Duration::days(181));
    for _ in 0..11 {
        thief().sign_in(&portico, "admin", "wrong password here").await;
    }
    let answer = thief().sign_in(&portico, "admin", PASSWORD).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
}

fn new_address() -> Browser {
    Browser { address: Some([198, 51, 100, 7].into()), ..Browser::default() }
}

#[tokio::test]
async fn a_sign_in_that_took_too_long_says_so() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    let mut browser = Browser::default();
    let start =
        browser.get(&portico, &format!("/oauth2/authorize?{}", form(&request(&client, CALLBACK)))).await;
    let login = start.location().to_owned();
    portico.advance(Duration::minutes(15));
    for path in [login.as_str(), "/login?request=forged", "/login/consent?request=forged"] {
        let page = browser.get(&portico, path).await;
        assert_eq!(page.status, StatusCode::BAD_REQUEST);
        assert!(page.body.contains("This sign-in has expired"));
    }
}

#[tokio::test]
async fn pages_of_the_account_need_a_session() {
    let portico = Portico::start().await;
    assert_eq!(portico.get("/account").await.location(), "/login");
    for path in ["/account/sign-out", "/account/sessions", "/account/applications", "/account/password"] {
        let answer = portico.post(path, &[]).await;
        assert_eq!((answer.status, answer.location()), (StatusCode::SEE_OTHER, "/login"), "{path}");
    }
}

#[tokio::test]
async fn a_person_ends_sessions_and_takes_access_away() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    let tokens = portico.tokens(&client, CALLBACK, &[]).await;
    let mut browser = Browser::default();
    browser.sign_in(&portico, "admin", PASSWORD).await;
    let page = browser.get(&portico, "/account").await;
    assert!(page.body.contains("Test client"));
    let other = page.field("session");
    let pairs = [("form", page.field("form")), ("session", other.clone())];
    let page = browser.submit(&portico, "/account/sessions", &pairs).await;
    assert!(!page.body.contains(&other), "{}", page.body);
    let pairs = [("form", page.field("form")), ("client_id", client.clone())];
    let page = browser.submit(&portico, "/account/applications", &pairs).await;
    assert!(page.body.contains("No application acts for you"));
    let access = tokens["access_token"].as_str().unwrap();
    assert!(portico.app().verifier.verify(access, &portico.claims(access).aud).is_err());
    let refresh = tokens["refresh_token"].as_str().unwrap();
    portico.refresh(&client, refresh).await.is_error(StatusCode::BAD_REQUEST, "invalid_grant");
    let answer = browser.submit(&portico, "/account/sign-out", &[("form", page.field("form"))]).await;
    assert_eq!(answer.location(), "/login");
    assert_eq!(browser.get(&portico, "/account").await.location(), "/login");
}

#[tokio::test]
async fn a_new_password_signs_everything_out() {
    let portico = Portico::start().await;
    let client = portico.public_client(CALLBACK).await;
    let tokens = portico.tokens(&client, CALLBACK, &[]).await;
    let mut browser = Browser::default();
    browser.sign_in(&portico, "admin", PASSWORD).await;
    let change = |form: String, current: &str, new: &str| {
        [("form", form), ("current", current.to_owned()), ("new", new.to_owned())]
    };
    let page = browser.get(&portico, "/account").await;
    let answer = browser
        .submit(&portico, "/account/password", &change(page.field("form"), "wrong", "another password"))
        .await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    let answer =
        browser.submit(&portico, "/account/password", &change(page.field("form"), PASSWORD, "short")).await;
    assert!(answer.body.contains("at least 12 characters"));
    let answer = browser
        .submit(&portico, "/account/password", &change(page.field("form"), PASSWORD, "another password"))
        .await;
    assert_eq!(answer.location(), "/login");
    assert_eq!(browser.sign_in(&portico, "admin", PASSWORD).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(browser.sign_in(&portico, "admin", "another password").await.status, StatusCode::SEE_OTHER);
    let access = tokens["access_token"].as_str().unwrap();
    assert!(portico.app().verifier.verify(access, &portico.claims(access).aud).is_err());
    let refresh = tokens["refresh_token"].as_str().unwrap();
    portico.refresh(&client, refresh).await.is_error(StatusCode::BAD_REQUEST, "invalid_grant");
}
