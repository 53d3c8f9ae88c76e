//! A running Portico: in this process, as a process of its own, or as separate services with two replicas each.
//! Scenarios do not know which.

mod child;
mod platform;
mod replicas;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use portico::dev::{Dev, DevSettings};
use portico_proto_registry::{AuditRecord, ListAuditRequest, RegisterServerRequest, Visibility};
use prost_types::{Struct, Value, value::Kind};
use serde::Deserialize;
use tempfile::TempDir;

pub use self::child::{Child, Exit, Home, command, unread};
pub use self::platform::Platform;
use crate::api::Api;
use crate::http::{Answer, Http};
use crate::mcp::{Caller, SESSION_ERA, initialize};
use crate::upstream::Upstream;
use crate::{DEADLINE, eventually, within};

/// What the ready file says.
#[derive(Debug, Clone, Deserialize)]
pub struct Ready {
    pub origin: String,
    pub grpc: String,
    pub admin: String,
    pub admin_username: String,
    pub admin_password: String,
    pub client_id: String,
    pub client_secret: String,
}

/// Limits that scenarios would reach by asking again and again whether something holds already; each is tested where it is set.
const ROOM: [(&str, &str); 6] = [
    ("registry.limits.principal_per_minute", "100000"),
    ("registry.limits.principal_burst", "10000"),
    ("registry.limits.denial_records_per_minute", "1000"),
    ("auth_server.limits.principal_per_minute", "100000"),
    ("auth_server.limits.principal_burst", "10000"),
    ("auth_server.limits.denial_records_per_minute", "1000"),
];

/// Where it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// In the test's own process.
    InProcess,
    /// As `portico dev`.
    Child,
    /// On a shared platform of separate services, behind its balancer.
    Platform,
}

/// Why a scenario does not take part in a shared deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Own {
    /// It changes settings.
    Settings,
    /// It sends signals to the process, or reads its output.
    Process,
    /// It stops and starts it, or looks into its files.
    Restart,
    /// It uses up limits that everybody shares.
    Limits,
}

/// How to start a deployment. A clone starts another one on the same data.
#[derive(Debug, Clone)]
pub struct Plan {
    shape: Shape,
    settings: Vec<(String, String)>,
    data: Arc<TempDir>,
}

impl Default for Plan {
    fn default() -> Self {
        Self::new()
    }
}

impl Plan {
    /// In process, unless `PORTICO_TEST_DEPLOYMENT` asks for another shape: `child` or `platform`.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "a test's switch, read once")]
    pub fn new() -> Self {
        let shape = match std::env::var("PORTICO_TEST_DEPLOYMENT").as_deref() {
            Ok("child") => Shape::Child,
            Ok("platform") => Shape::Platform,
            _ => Shape::InProcess,
        };
        let data = TempDir::with_prefix("portico-test-").expect("a temporary directory");
        let settings = ROOM.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
        Self { shape, settings, data: Arc::new(data) }
    }

    /// As a process of its own.
    #[must_use]
    pub fn child(mut self) -> Self {
        self = self.own(Own::Process);
        self.shape = Shape::Child;
        self
    }

    /// With nobody else, for this reason.
    #[must_use]
    #[expect(clippy::print_stdout, reason = "what does not run on the platform is told in the test's output")]
    pub fn own(mut self, reason: Own) -> Self {
        if self.shape == Shape::Platform {
            println!("not on the shared platform: {reason:?}");
            self.shape = Shape::InProcess;
        }
        self
    }

    /// Changes a setting, such as `gateway.requests.max_body_bytes`.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self = self.own(Own::Settings);
        self.settings.push((key.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.data.path().join("data")
    }

    #[must_use]
    pub fn ready_file(&self) -> PathBuf {
        self.data.path().join("ready.json")
    }

    pub async fn start(self) -> Deployment {
        let running = match self.shape {
            Shape::Child => Running::Child(Box::new(Child::start(&self).await)),
            Shape::InProcess => Running::InProcess(Box::new(self.in_process().await)),
            Shape::Platform => Running::Platform(Box::new(Platform::take_turn().await)),
        };
        let ready = match &running {
            Running::InProcess(dev) => serde_json::from_value(serde_json::to_value(dev.ready()).unwrap()),
            Running::Child(child) => serde_json::from_slice(&child.ready_file()),
            Running::Platform(platform) => serde_json::from_slice(&platform.ready()),
        };
        Deployment { ready: ready.expect("a ready file"), running, plan: self, http: Http::default() }
    }

    async fn in_process(&self) -> Dev {
        portico_process::install_crypto_provider();
        let mut overrides = self.settings.clone();
        let data_dir = self.data_dir().display().to_string();
        for (key, value) in
            [("listen", "127.0.0.1:0"), ("admin_listen", "127.0.0.1:0"), ("data_dir", &data_dir)]
        {
            overrides.push((key.to_owned(), value.to_owned()));
        }
        let settings = DevSettings::load(None, overrides).expect("settings");
        within(DEADLINE, "start", Box::pin(Dev::start(settings))).await.expect("Portico starts")
    }
}

#[derive(Debug)]
enum Running {
    InProcess(Box<Dev>),
    Child(Box<Child>),
    Platform(Box<Platform>),
}

#[derive(Debug)]
pub struct Deployment {
    pub ready: Ready,
    pub http: Http,
    running: Running,
    plan: Plan,
}

impl Deployment {
    pub async fn start() -> Self {
        Plan::new().start().await
    }

    /// Drains and stops it; the plan starts it again on the same data.
    pub async fn stop(self) -> Plan {
        match self.running {
            Running::InProcess(dev) => {
                let outcome = within(DEADLINE, "stop", Box::pin(dev.stop())).await;
                assert_eq!(outcome, portico_process::Outcome::default());
            }
            Running::Child(child) => {
                child.signal("TERM");
                let exit = child.exit().await;
                assert_eq!(exit.code, Some(0), "{}", exit.output);
            }
            // Others need it.
            Running::Platform(_) => {}
        }
        self.plan
    }

    /// The process, where there is one.
    #[must_use]
    pub fn child(&self) -> &Child {
        match &self.running {
            Running::Child(child) => child,
            Running::InProcess(_) | Running::Platform(_) => panic!("this scenario needs Plan::child"),
        }
    }

    /// Kills the process without a warning; the plan starts it again on the same data.
    pub async fn kill(self) -> Plan {
        match self.running {
            Running::Child(child) => {
                child.signal("KILL");
                child.exit().await;
            }
            Running::InProcess(_) | Running::Platform(_) => panic!("this scenario needs Plan::child"),
        }
        self.plan
    }

    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.plan.data_dir()
    }

    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.ready.origin.trim_end_matches('/'))
    }

    #[must_use]
    pub fn admin_url(&self, path: &str) -> String {
        format!("{}{path}", self.ready.admin.trim_end_matches('/'))
    }

    #[must_use]
    pub fn resource(&self, endpoint: &str) -> String {
        if endpoint == "mcp" { self.url("/mcp") } else { self.url(&format!("/{endpoint}/mcp")) }
    }

    /// An access token of the service account that came with the deployment.
    pub async fn token(&self, endpoint: &str) -> String {
        let account = (self.ready.client_id.as_str(), self.ready.client_secret.as_str());
        self.token_of(account, &self.resource(endpoint), "mcp").await
    }

    /// An access token of any service account.
    pub async fn token_of(&self, account: (&str, &str), resource: &str, scope: &str) -> String {
        let answer = self.token_answer(account, resource, scope).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["access_token"].as_str().expect("an access token").to_owned()
    }

    pub async fn token_answer(&self, (id, secret): (&str, &str), resource: &str, scope: &str) -> Answer {
        let fields = [
            ("grant_type", "client_credentials"),
            ("client_id", id),
            ("client_secret", secret),
            ("resource", resource),
            ("scope", scope),
        ];
        self.http.form(&self.url("/oauth2/token"), &fields).await
    }

    /// The management plane, as the administrator.
    pub async fn api(&self) -> Api {
        let account = (self.ready.client_id.as_str(), self.ready.client_secret.as_str());
        let scope = "admin registry:read registry:write";
        let token = self.token_of(account, &self.url("/api"), scope).await;
        Api::connect(&self.ready.grpc, Some(&token)).await
    }

    /// An agent at an endpoint, as the service account.
    pub async fn agent(&self, endpoint: &str) -> Caller {
        Caller::new(self.http.clone(), self.resource(endpoint), &self.token(endpoint).await)
    }

    /// Registers a server and waits until its endpoint serves.
    pub async fn publish(&self, name: &str, upstream: &Upstream) -> Caller {
        self.register(name, &upstream.url()).await;
        let agent = self.usable(name).await;
        upstream.forget();
        agent
    }

    pub async fn register(&self, name: &str, url: &str) {
        let request = register_request(name, url);
        self.api().await.servers().register_server(request).await.expect("a registered server");
    }

    /// Waits until every replica serves the endpoint.
    pub async fn usable(&self, name: &str) -> Caller {
        self.usable_within(DEADLINE, name).await
    }

    /// The same, for a scenario about how long that takes.
    pub async fn usable_within(&self, limit: Duration, name: &str) -> Caller {
        let begin = Instant::now();
        let limit = || limit.saturating_sub(begin.elapsed());
        let gateways = self.replicas("gateway");
        for gateway in &gateways {
            let probe = self.caller_at(gateway, name);
            let serves = async || (probe.post("{}").await.status != 404).then_some(());
            eventually(limit(), "a registered endpoint serves", serves).await;
        }
        // The authorization server learns of it by the same feed.
        let resource = self.resource(name);
        let mut token = String::new();
        for server in self.replicas("auth-server") {
            let known = async || {
                let answer =
                    platform::token_answer(&self.http, &server, &self.ready, (&resource, "mcp")).await;
                (answer.status == 200).then(|| answer.json()["access_token"].as_str().unwrap().to_owned())
            };
            token = eventually(limit(), "a token for a registered endpoint", known).await;
        }
        let open = initialize(SESSION_ERA, &serde_json::json!({}));
        for gateway in &gateways {
            let agent = self.caller_at(gateway, name).token(&token);
            let routable = async || (agent.post(open.clone()).await.status != 503).then_some(());
            eventually(limit(), "a registered instance is routable", routable).await;
        }
        Caller::new(self.http.clone(), resource, &token)
    }

    /// The audit record of an answer, which is there soon.
    pub async fn record(&self, correlation: &str) -> AuditRecord {
        let api = self.api().await;
        let ask = async || self.records(&api, correlation).await.into_iter().next();
        eventually(DEADLINE, "the audit record of a call", ask).await
    }

    pub async fn records(&self, api: &Api, correlation: &str) -> Vec<AuditRecord> {
        let request =
            ListAuditRequest { correlation_id: correlation.to_owned(), page_size: 100, ..Default::default() };
        api.audit().list_audit(request).await.expect("audit records").into_inner().records
    }

    /// Runs a verb of the command line against this deployment.
    pub async fn cli(&self, arguments: &[&str]) -> Exit {
        self.cli_with_input(arguments, "").await
    }

    pub async fn cli_with_input(&self, arguments: &[&str], input: &str) -> Exit {
        // A restart has other ports.
        let port = self.ready.origin.rsplit(':').next().unwrap_or_default().trim_end_matches('/');
        let file = self.plan.data.path().join(format!("cli-ready-{port}.json"));
        if !file.exists() {
            write_ready(&file, &self.ready);
        }
        let file = file.display().to_string();
        command(&[&["--ready-file", &file], arguments].concat(), input).await
    }
}

fn write_ready(path: &Path, ready: &Ready) {
    let Ready { origin, grpc, admin, admin_username, admin_password, client_id, client_secret } = ready;
    let document = serde_json::json!({
        "origin": origin, "grpc": grpc, "admin": admin, "admin_username": admin_username,
        "admin_password": admin_password, "client_id": client_id, "client_secret": client_secret,
    });
    std::fs::write(path, document.to_string()).unwrap();
}

/// A private server of type `url`.
#[must_use]
pub fn register_request(name: &str, url: &str) -> RegisterServerRequest {
    RegisterServerRequest {
        name: name.to_owned(),
        version: "1.0.0".to_owned(),
        visibility: Visibility::Private.into(),
        json_spec: Some(url_spec(url)),
        ..Default::default()
    }
}

/// The `json_spec` of an instance at `url`.
#[must_use]
pub fn url_spec(url: &str) -> Struct {
    let text = |value: &str| Value { kind: Some(Kind::StringValue(value.to_owned())) };
    Struct {
        fields: [("type".to_owned(), text("url")), ("endpoint".to_owned(), text(url))].into_iter().collect(),
    }
}
