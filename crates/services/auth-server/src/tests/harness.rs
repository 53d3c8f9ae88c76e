//! A whole auth-server, a browser and a client for tests.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use chrono::{DateTime, Duration, Utc};
use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use portico_clock::MockClock;
use portico_coordination::Coordination;
use portico_db::Db;
use portico_db::testing::{Guard, databases};
use portico_ids::SeededRng;
use portico_oauth_types::AccessTokenClaims;
use portico_outbound::{OutboundClient, OutboundLimits, OutboundPolicy};
use portico_process::{Readiness, Tasks};
use portico_proto_registry::{CatalogueEndpoint, CatalogueItem, Visibility, catalogue_item::Value as Item};
use portico_sealing::{HandleSealer, KeyRing, Sealer};
use portico_telemetry::Metrics;
use portico_transport::{Exchange, PeerAddr, PeerIdentity};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use url::Url;
use url::form_urlencoded;

use crate::app::Shared;
use crate::jws::{self, ACCESS_TOKEN};
use crate::{
    AdministratorSeed, AuthServer, AuthServerSettings, Dependencies, SeedTools, ServiceCredentials,
    ensure_service_account, schema, seed,
};

pub(crate) const ORIGIN: &str = "https://portico.example";
pub(crate) const PASSWORD: &str = "a long enough password";
pub(crate) const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
/// RFC 7636 appendix B.
pub(crate) const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
pub(crate) const CALLBACK: &str = "https://client.example/callback";

/// An auth-server with one administrator (`admin`) and two endpoints: `open` (public) and `closed` (private).
pub(crate) struct Portico {
    /// The replicas: one unless a test asks for more.
    pub(crate) servers: Vec<AuthServer>,
    routers: Vec<Router>,
    /// Which of them serves the next request.
    turn: AtomicUsize,
    pub(crate) clock: MockClock,
    pub(crate) db: Db,
    pub(crate) tools: SeedTools,
    _guards: (Guard, tempfile::TempDir),
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn location(&self) -> &str {
        self.header(LOCATION.as_str())
    }

    /// Where the browser is sent, or where the page lets the person go.
    pub(crate) fn destination(&self) -> String {
        let link = self.body.split_once("<a class=\"button\" href=\"").map(|(_, rest)| rest);
        match link.and_then(|rest| rest.split('"').next()) {
            Some(link) => link.replace("&#38;", "&"),
            None => self.location().to_owned(),
        }
    }

    /// A parameter of that address.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        let url = Url::parse(ORIGIN).unwrap().join(&self.destination()).unwrap();
        url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// The value of a hidden field of the page.
    pub(crate) fn field(&self, name: &str) -> String {
        let start = format!("name=\"{name}\" value=\"");
        let (_, rest) =
            self.body.split_once(&start).unwrap_or_else(|| panic!("no field {name}: {}", self.body));
        rest.split('"').next().unwrap().to_owned()
    }

    #[track_caller]
    pub(crate) fn is_error(&self, status: StatusCode, code: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.json()["error"], code, "{self:?}");
        assert!(!self.json()["error_description"].as_str().unwrap().is_empty());
    }
}

fn endpoint(name: &str, visibility: Visibility) -> CatalogueItem {
    let id = match name {
        "open" => "01900000-0000-7000-8000-000000000001",
        _ => "01900000-0000-7000-8000-000000000002",
    };
    CatalogueItem {
        key: format!("endpoint/{id}"),
        value: Some(Item::Endpoint(CatalogueEndpoint {
            id: id.into(),
            name: name.into(),
            visibility: visibility.into(),
            ..CatalogueEndpoint::default()
        })),
    }
}

pub(crate) fn form(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

impl Portico {
    pub(crate) async fn start() -> Self {
        Self::with(AuthServerSettings::default()).await
    }

    pub(crate) async fn with(settings: AuthServerSettings) -> Self {
        let outbound = OutboundClient::new(OutboundPolicy::dev(), &OutboundLimits::default()).unwrap();
        Self::reaching(settings, outbound).await
    }

    /// Starts with a client for requests to other hosts.
    pub(crate) async fn reaching(settings: AuthServerSettings, outbound: OutboundClient) -> Self {
        let (_, db, guard) = databases(schema()).await.into_iter().next().unwrap();
        Box::pin(Self::on(db, guard, 1, (settings, outbound))).await
    }

    /// On every database, two replicas without any stickiness: each request goes to the other one.
    pub(crate) async fn replicated() -> Vec<(&'static str, Self)> {
        let mut all = Vec::new();
        for (label, db, guard) in databases(schema()).await {
            let outbound = OutboundClient::new(OutboundPolicy::dev(), &OutboundLimits::default()).unwrap();
            let portico = Box::pin(Self::on(db, guard, 2, (AuthServerSettings::default(), outbound))).await;
            all.push((label, portico));
        }
        all
    }

    async fn on(
        db: Db,
        guard: Guard,
        replicas: usize,
        (settings, outbound): (AuthServerSettings, OutboundClient),
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let start: DateTime<Utc> = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let clock = MockClock::at(start);
        let rng = Arc::new(SeededRng::new(7));
        let tools = SeedTools { clock: Arc::new(clock.clone()), rng: rng.clone() };
        let password = Some(SecretString::from(PASSWORD));
        seed(&db, &tools, AdministratorSeed { username: "admin".into(), password }).await.unwrap();
        let keys = KeyRing::generate_file(&directory.path().join("keys"), &*rng).unwrap();
        let coordination = Coordination::in_process(Arc::new(clock.clone()));
        let settings = AuthServerSettings { public_origin: ORIGIN.into(), ..settings };
        let build = || async {
            let deps = Dependencies {
                clock: Arc::new(clock.clone()),
                rng: rng.clone(),
                db: db.clone(),
                coordination: coordination.clone(),
                sealer: Sealer::new(&keys, rng.clone()),
                handles: HandleSealer::new(&keys, rng.clone()),
                registry: Exchange::new().link("registry", PeerIdentity::new("auth-server")),
                outbound: outbound.clone(),
                metrics: Metrics::new(),
                readiness: Readiness::new(),
                tasks: Tasks::new(),
            };
            let server = Box::pin(AuthServer::build(settings.clone(), deps)).await.unwrap();
            let items = vec![endpoint("open", Visibility::Public), endpoint("closed", Visibility::Private)];
            server.app().catalogue.apply(true, items, &[]);
            server
        };
        // At once, as a deployment starts them.
        let servers = if replicas == 1 {
            vec![build().await]
        } else {
            let (first, second) = tokio::join!(build(), build());
            vec![first, second]
        };
        let routers = servers.iter().map(AuthServer::http).collect();
        Self { servers, routers, turn: AtomicUsize::new(0), clock, db, tools, _guards: (guard, directory) }
    }

    /// What every replica does now and then: looks for what the others have changed.
    pub(crate) async fn look(&self) {
        for server in &self.servers {
            server.app().trust.refresh().await.unwrap();
            server.app().keys.reload().await.unwrap();
        }
    }

    pub(crate) fn app(&self) -> &Shared {
        self.servers[0].app()
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let mut request = request;
        if request.extensions().get::<PeerAddr>().is_none() {
            request.extensions_mut().insert(PeerAddr(SocketAddr::from(([192, 0, 2, 1], 4000))));
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.routers.len();
        let response = self.routers[turn].clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8(bytes.to_vec()).unwrap();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, pairs: &[(&str, &str)]) -> Answer {
        self.post_as(path, pairs, None).await
    }

    /// Posts a form, with Basic credentials if there are any.
    pub(crate) async fn post_as(
        &self,
        path: &str,
        pairs: &[(&str, &str)],
        authorization: Option<&str>,
    ) -> Answer {
        let mut request = Request::post(path).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        self.send(request.body(Body::from(form(pairs))).unwrap()).await
    }

    pub(crate) async fn register(&self, metadata: Value) -> Answer {
        let request = Request::post("/oauth2/register").header(CONTENT_TYPE, "application/json");
        self.send(request.body(Body::from(metadata.to_string())).unwrap()).await
    }

    /// Registers a public client that may refresh and returns its id.
    pub(crate) async fn public_client(&self, redirect_uri: &str) -> String {
        let answer = self
            .register(json!({
                "client_name": "Test client",
                "redirect_uris": [redirect_uri],
                "token_endpoint_auth_method": "none",
                "grant_types": ["authorization_code", "refresh_token"],
            }))
            .await;
        answer.json()["client_id"].as_str().unwrap().to_owned()
    }

    /// The service account of the tests, an administrator.
    pub(crate) async fn service_account(&self) -> ServiceCredentials {
        let credentials =
            ensure_service_account(&self.db, &self.tools, ("robot", "administrator")).await.unwrap();
        self.app().spread().await;
        credentials
    }

    pub(crate) fn claims(&self, token: &str) -> AccessTokenClaims {
        jws::open(token, ACCESS_TOKEN, &self.app().keys.jwks().keys).expect("signed by this server")
    }

    /// Goes the whole way as a person who allows everything, and returns the last answer: a redirect to the client.
    pub(crate) async fn authorize(&self, browser: &mut Browser, parameters: &[(&str, &str)]) -> Answer {
        let answer = browser.get(self, &format!("/oauth2/authorize?{}", form(parameters))).await;
        self.go_on(browser, answer).await
    }

    pub(crate) async fn go_on(&self, browser: &mut Browser, mut answer: Answer) -> Answer {
        for _ in 0..8 {
            if answer.status == StatusCode::SEE_OTHER {
                if !answer.location().starts_with('/') {
                    return answer;
                }
                let location = answer.location().to_owned();
                answer = browser.get(self, &location).await;
            } else if answer.body.contains("id=\"password\"") {
                let pairs = [
                    ("form", answer.field("form")),
                    ("request", answer.field("request")),
                    ("username", "admin".to_owned()),
                    ("password", PASSWORD.to_owned()),
                ];
                answer = browser.submit(self, "/login", &pairs).await;
            } else if answer.body.contains("value=\"allow\"") {
                let pairs = [
                    ("form", answer.field("form")),
                    ("request", answer.field("request")),
                    ("decision", "allow".to_owned()),
                ];
                answer = browser.submit(self, "/login/consent", &pairs).await;
            } else {
                return answer;
            }
        }
        panic!("the pages lead in a circle: {answer:?}")
    }

    /// Authorizes a client and redeems the code.
    pub(crate) async fn tokens(&self, client_id: &str, redirect_uri: &str, more: &[(&str, &str)]) -> Value {
        let mut browser = Browser::default();
        let mut parameters = request(client_id, redirect_uri);
        parameters.extend_from_slice(more);
        let answer = self.authorize(&mut browser, &parameters).await;
        let code = answer.parameter("code").unwrap_or_else(|| panic!("no code: {answer:?}"));
        let answer = self.redeem(client_id, redirect_uri, &code).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        answer.json()
    }

    pub(crate) async fn redeem(&self, client_id: &str, redirect_uri: &str, code: &str) -> Answer {
        self.post(
            "/oauth2/token",
            &[
                ("grant_type", "authorization_code"),
                ("client_id", client_id),
                ("redirect_uri", redirect_uri),
                ("code", code),
                ("code_verifier", VERIFIER),
            ],
        )
        .await
    }

    pub(crate) async fn refresh(&self, client_id: &str, token: &str) -> Answer {
        let pairs = [("grant_type", "refresh_token"), ("client_id", client_id), ("refresh_token", token)];
        self.post("/oauth2/token", &pairs).await
    }

    /// What the service account of the tests presents.
    pub(crate) fn basic(credentials: &ServiceCredentials) -> String {
        use base64::Engine as _;
        let pair = format!("{}:{}", credentials.client_id, credentials.client_secret.expose_secret());
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
    }
}

/// The parameters of a usual request.
pub(crate) fn request<'a>(client_id: &'a str, redirect_uri: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("response_type", "code"),
        ("client_id", client_id),
        ("redirect_uri", redirect_uri),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
        ("state", "opaque state"),
    ]
}

/// A browser: it keeps cookies.
#[derive(Debug, Default)]
pub(crate) struct Browser {
    pub(crate) cookies: BTreeMap<String, String>,
    /// Where it is, if not where everybody is.
    pub(crate) address: Option<IpAddr>,
}

impl Browser {
    pub(crate) async fn get(&mut self, portico: &Portico, path: &str) -> Answer {
        let request = self.request(Method::GET, path).body(Body::empty()).unwrap();
        self.send(portico, request).await
    }

    pub(crate) async fn submit(&mut self, portico: &Portico, path: &str, pairs: &[(&str, String)]) -> Answer {
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let request = self
            .request(Method::POST, path)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(form(&pairs)))
            .unwrap();
        self.send(portico, request).await
    }

    /// Signs in without any client.
    pub(crate) async fn sign_in(&mut self, portico: &Portico, username: &str, password: &str) -> Answer {
        let page = self.get(portico, "/login").await;
        let pairs = [
            ("form", page.field("form")),
            ("username", username.to_owned()),
            ("password", password.to_owned()),
        ];
        self.submit(portico, "/login", &pairs).await
    }

    fn request(&self, method: Method, path: &str) -> http::request::Builder {
        let cookies: Vec<String> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        Request::builder().method(method).uri(path).header(COOKIE, cookies.join("; "))
    }

    async fn send(&mut self, portico: &Portico, mut request: Request<Body>) -> Answer {
        if let Some(address) = self.address {
            request.extensions_mut().insert(PeerAddr(SocketAddr::new(address, 4000)));
        }
        let answer = portico.send(request).await;
        for cookie in answer.headers.get_all(SET_COOKIE) {
            let cookie = cookie.to_str().unwrap();
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            if cookie.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }
}
