//! What an OAuth client does, with a person at a [`Browser`]: discovery, registration, sign-in, consent, tokens.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use url::Url;

use crate::browser::{Browser, Page};
use crate::deployment::Deployment;
use crate::http::Answer;

/// Where answers go; nobody has to listen there, because the browser stops before it.
pub const CALLBACK: &str = "http://127.0.0.1:9/callback";
pub const VERIFIER: &str = "a-verifier-that-is-long-enough-to-be-one-0123456789";

/// A registered public client and the person who uses it.
#[derive(Debug)]
pub struct Person<'a> {
    deployment: &'a Deployment,
    pub browser: Browser,
    pub client_id: String,
    name: String,
    password: String,
}

/// Where an authorization ended.
#[derive(Debug)]
pub enum Ending {
    /// Back at the client.
    Callback(Url),
    /// On a page that goes no further.
    Page(Box<Page>),
}

impl Ending {
    /// A parameter of the answer at the client.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<String> {
        let Self::Callback(url) = self else { return None };
        url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    #[must_use]
    pub fn code(&self) -> String {
        self.parameter("code").unwrap_or_else(|| panic!("no code: {self:?}"))
    }
}

impl<'a> Person<'a> {
    /// A person with a client of their own, registered as agents register themselves (RFC 7591).
    pub async fn new(deployment: &'a Deployment, name: &str, password: &str) -> Self {
        let metadata = json!({
            "client_name": "Acceptance", "redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none",
            "grant_types": ["authorization_code", "refresh_token"],
        });
        let answer = register(deployment, &metadata).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        let client_id = answer.json()["client_id"].as_str().unwrap().to_owned();
        let browser = Browser::new(deployment.http.clone(), &deployment.ready.origin);
        Self { deployment, browser, client_id, name: name.to_owned(), password: password.to_owned() }
    }

    pub async fn administrator(deployment: &'a Deployment) -> Self {
        let ready = &deployment.ready;
        Self::new(deployment, &ready.admin_username, &ready.admin_password).await
    }

    /// The URL that a client sends its person to.
    #[must_use]
    pub fn authorize_url(&self, resource: &str, scope: &str) -> String {
        let challenge = challenge();
        let mut url = Url::parse(&self.deployment.url("/oauth2/authorize")).unwrap();
        url.query_pairs_mut().extend_pairs([
            ("response_type", "code"),
            ("client_id", &self.client_id),
            ("redirect_uri", CALLBACK),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
            ("state", "st"),
            ("resource", resource),
            ("scope", scope),
        ]);
        url.into()
    }

    /// Signs in where asked to and presses `decision` where asked for consent.
    pub async fn authorize(&mut self, resource: &str, scope: &str, decision: &str) -> Ending {
        let url = self.authorize_url(resource, scope);
        self.follow(&url, decision).await
    }

    /// What [`Self::authorize`] does, from an address that some client made.
    pub async fn follow(&mut self, url: &str, decision: &str) -> Ending {
        let mut page = self.browser.open(url).await;
        for _ in 0..3 {
            page = match page {
                Ok(page) if page.action == "/login" => {
                    let fields = [("username", self.name.as_str()), ("password", self.password.as_str())];
                    let next = self.browser.submit(&page, &fields).await;
                    if matches!(&next, Ok(next) if next.action == "/login") {
                        return Ending::Page(Box::new(next.unwrap()));
                    }
                    next
                }
                Ok(page) if page.action == "/login/consent" => {
                    self.browser.submit(&page, &[("decision", decision)]).await
                }
                Ok(page) => return Ending::Page(Box::new(page)),
                Err(url) => return Ending::Callback(url),
            };
        }
        match page {
            Ok(page) => Ending::Page(Box::new(page)),
            Err(url) => Ending::Callback(url),
        }
    }

    /// The whole flow: the answer of the token endpoint.
    pub async fn tokens(&mut self, resource: &str, scope: &str) -> Value {
        let code = self.authorize(resource, scope, "allow").await.code();
        let answer = self.redeem(&code).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    pub async fn access_token(&mut self, resource: &str) -> String {
        self.tokens(resource, "mcp").await["access_token"].as_str().unwrap().to_owned()
    }

    pub async fn redeem(&self, code: &str) -> Answer {
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", CALLBACK),
            ("client_id", &self.client_id),
            ("code_verifier", VERIFIER),
        ];
        self.deployment.http.form(&self.deployment.url("/oauth2/token"), &fields).await
    }

    pub async fn refresh(&self, refresh_token: &str) -> Answer {
        let fields = [
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh_token),
            ("client_id", &self.client_id),
        ];
        self.deployment.http.form(&self.deployment.url("/oauth2/token"), &fields).await
    }
}

/// Registers a client (RFC 7591 §3.1). Where scenarios share a limit, it comes back when it is told to.
pub async fn register(deployment: &Deployment, metadata: &Value) -> Answer {
    loop {
        let answer = register_once(deployment, metadata).await;
        if answer.status != 429 {
            return answer;
        }
        let wait = answer.header("retry-after").and_then(|seconds| seconds.parse().ok());
        tokio::time::sleep(Duration::from_secs(wait.expect("when to come back"))).await;
    }
}

/// Tries to register a client, within the limit or not.
pub async fn register_once(deployment: &Deployment, metadata: &Value) -> Answer {
    let mut headers = ::http::HeaderMap::new();
    headers.insert(::http::header::CONTENT_TYPE, ::http::HeaderValue::from_static("application/json"));
    let url = deployment.url("/oauth2/register");
    deployment.http.send(::http::Method::POST, &url, &headers, metadata.to_string()).await
}

/// The challenge of [`VERIFIER`] (RFC 7636 §4.2).
#[must_use]
pub fn challenge() -> String {
    BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, VERIFIER.as_bytes()))
}
