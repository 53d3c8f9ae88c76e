//! A gateway between an issuer of test tokens and a server of many moods.

mod server;

pub(crate) use server::TestServer;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use portico_authn::testing::TestIssuer;
use portico_clock::MockClock;
use portico_coordination::Coordination;
use portico_ids::{PrincipalId, SeededRng, SharedRng};
use portico_oauth_types::ScopeSet;
use portico_outbound::{OutboundClient, OutboundLimits, OutboundParts, OutboundPolicy, Resolve, Resolving};
use portico_process::{Readiness, Tasks};
use portico_proto_registry::AuditRecord;
use portico_sealing::{HandleSealer, KeyRing, Sealer};
use portico_telemetry::Metrics;
use portico_transport::{Exchange, PeerIdentity};
use serde_json::Value;
use tower::ServiceExt;

use crate::catalogue::testing::{Item, ORIGIN, endpoint, instance, server};
use crate::engine::Engine;
use crate::{Dependencies, Gateway, GatewaySettings};

/// A gateway with one endpoint `demo` in front of one [`TestServer`].
pub(crate) struct Bench {
    pub(crate) gateway: Gateway,
    pub(crate) app: Router,
    pub(crate) issuer: Arc<TestIssuer>,
    pub(crate) clock: MockClock,
    pub(crate) server: TestServer,
    pub(crate) alice: PrincipalId,
    pub(crate) exchange: Exchange,
    pub(crate) metrics: Metrics,
    pub(crate) tasks: Tasks,
    pub(crate) coordination: Coordination,
    dir: tempfile::TempDir,
}

/// The host of a server that takes no connection and refuses none.
pub(crate) const BLACK_HOLE: &str = "black-hole.test";

/// Never finds [`BLACK_HOLE`].
#[derive(Debug)]
struct Resolver(Arc<dyn Resolve>);

impl Resolve for Resolver {
    fn resolve(&self, host: &str, port: u16) -> Resolving {
        if host == BLACK_HOLE { Box::pin(std::future::pending()) } else { self.0.resolve(host, port) }
    }
}

fn outbound() -> OutboundClient {
    let system = OutboundParts::default();
    let parts = OutboundParts { resolver: Arc::new(Resolver(system.resolver)), ..OutboundParts::default() };
    OutboundClient::with_parts(OutboundPolicy::dev(), &OutboundLimits::default(), parts).unwrap()
}

/// What one gateway of a deployment is made of.
struct Parts {
    settings: GatewaySettings,
    clock: MockClock,
    issuer: Arc<TestIssuer>,
    server: TestServer,
    alice: PrincipalId,
    coordination: Coordination,
    /// Tells the random numbers of this gateway from those of others.
    seed: u64,
    tasks: Tasks,
    dir: tempfile::TempDir,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Read {
    pub(crate) async fn of(response: Response) -> Self {
        let (head, body) = response.into_parts();
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        Self { status: head.status, headers: head.headers, body }
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{} {}", self.status, self.text()))
    }

    /// HTTP status, JSON-RPC code and reason of a refusal.
    pub(crate) fn refusal(&self) -> (u16, i64, String) {
        let error = &self.json()["error"];
        let reason = error["data"]["reason"].as_str().unwrap_or("").to_owned();
        assert!(error["data"]["correlation_id"].as_str().is_some_and(|id| !id.is_empty()), "{}", self.text());
        (self.status.as_u16(), error["code"].as_i64().unwrap_or(0), reason)
    }

    /// The events of a stream.
    pub(crate) fn events(&self) -> Vec<portico_mcp_types::sse::SseEvent> {
        let mut decoder = portico_mcp_types::sse::Decoder::new(1 << 20);
        decoder.push(&self.body);
        std::iter::from_fn(|| decoder.next_event().unwrap()).collect()
    }
}

pub(crate) fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000, 0).unwrap()
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(edit: impl FnOnce(&mut GatewaySettings)) -> Self {
        // Another test may have installed it already; either way it is there.
        portico_process::install_crypto_provider();
        let clock = MockClock::at(start());
        let dir = tempfile::tempdir().unwrap();
        let mut settings = GatewaySettings { data_dir: dir.path().to_owned(), ..GatewaySettings::default() };
        edit(&mut settings);
        let issuer = Arc::new(TestIssuer::new(Arc::new(clock.clone())));
        let server_tasks = Tasks::new();
        let server = TestServer::start(&server_tasks).await;
        KeyRing::generate_file(&dir.path().join("keys"), &SeededRng::new(7)).unwrap();
        let coordination = Coordination::in_process(Arc::new(clock.clone()));
        let (alice, tasks) = (issuer.user(), Tasks::new());
        let parts = Parts { settings, clock, issuer, server, alice, coordination, seed: 7, tasks, dir };
        let bench = Self::assemble(parts);
        bench.catalogue(bench.demo());
        bench
    }

    /// Another gateway of the same deployment, which shares nothing with this one but what replicas share.
    pub(crate) fn replica(&self, seed: u64) -> Self {
        self.replica_with(seed, self.coordination.clone(), Tasks::new())
    }

    /// The same with its own way to what replicas share.
    pub(crate) fn replica_with(&self, seed: u64, coordination: Coordination, tasks: Tasks) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::copy(self.dir.path().join("keys"), dir.path().join("keys")).unwrap();
        let settings = GatewaySettings { data_dir: dir.path().to_owned(), ..self.engine().settings.clone() };
        let bench = Self::assemble(Parts {
            settings,
            clock: self.clock.clone(),
            issuer: Arc::clone(&self.issuer),
            server: self.server.clone(),
            alice: self.alice.clone(),
            coordination,
            seed,
            tasks,
            dir,
        });
        bench.catalogue(bench.demo());
        bench
    }

    /// Runs what keeps a gateway in touch with others.
    pub(crate) fn meet(&self) {
        crate::replicas::spawn(self.engine(), &self.tasks, Readiness::new().check("replicas"));
    }

    /// Waits until this gateway hears of so many others.
    pub(crate) async fn hears_of(&self, others: usize) {
        while self.engine().replicas.peers().len() != others {
            tokio::task::yield_now().await;
        }
    }

    /// The same deployment after a restart; nothing but the directory is left, and no registry is there.
    pub(crate) async fn restarted(self) -> Self {
        self.tasks.trigger_shutdown();
        assert!(self.tasks.wait(std::time::Duration::from_secs(10)).await.is_clean());
        let settings = self.engine().settings.clone();
        let coordination = Coordination::in_process(Arc::new(self.clock.clone()));
        Self::assemble(Parts {
            settings,
            clock: self.clock,
            issuer: self.issuer,
            server: self.server,
            alice: self.alice,
            coordination,
            seed: 7,
            tasks: Tasks::new(),
            dir: self.dir,
        })
    }

    fn assemble(parts: Parts) -> Self {
        let Parts { settings, clock, issuer, server, alice, coordination, seed, tasks, dir } = parts;
        let (exchange, metrics) = (Exchange::new(), Metrics::new());
        let rng: SharedRng = Arc::new(SeededRng::new(seed));
        let keys = KeyRing::load(&dir.path().join("keys")).unwrap();
        let gateway = Gateway::build(
            settings,
            Dependencies {
                clock: Arc::new(clock.clone()),
                coordination: coordination.clone(),
                registry: exchange.link("registry", PeerIdentity::new("gateway")),
                trust: issuer.trust(),
                handles: HandleSealer::new(&keys, Arc::clone(&rng)),
                sealer: Sealer::new(&keys, Arc::clone(&rng)),
                outbound: outbound(),
                metrics: metrics.clone(),
                readiness: Readiness::new(),
                tasks: tasks.clone(),
                rng,
            },
        )
        .unwrap();
        let app = gateway.http();
        Self { gateway, app, issuer, clock, server, alice, exchange, metrics, tasks, coordination, dir }
    }

    pub(crate) fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// One server and its endpoint.
    pub(crate) fn demo(&self) -> Vec<Item> {
        vec![
            self::server(1, "demo"),
            instance(1, 1, &format!("http://{}/mcp", self.server.address)),
            endpoint("demo", &[1]),
        ]
    }

    pub(crate) fn catalogue(&self, items: Vec<Item>) {
        self.gateway.engine().catalogue.apply(true, items, &[]);
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        self.gateway.engine()
    }

    pub(crate) fn token(&self, endpoint: &str) -> String {
        self.token_of(&self.alice, endpoint)
    }

    pub(crate) fn token_of(&self, who: &PrincipalId, endpoint: &str) -> String {
        let path = if endpoint == "mcp" { "/mcp".to_owned() } else { format!("/{endpoint}/mcp") };
        self.issuer.token(who, &format!("{ORIGIN}{path}"), ScopeSet::parse("mcp").unwrap())
    }

    /// A request to `/demo/mcp` with Alice's token and what every agent sends.
    pub(crate) fn request(&self, method: Method) -> http::request::Builder {
        Request::builder()
            .method(method)
            .uri("/demo/mcp")
            .header("host", "127.0.0.1:8080")
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .header("authorization", format!("Bearer {}", self.token("demo")))
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Read {
        Read::of(self.open(request).await).await
    }

    /// The answer's head; its body streams.
    pub(crate) async fn open(&self, request: Request<Body>) -> Response {
        self.app.clone().oneshot(request).await.unwrap()
    }

    pub(crate) async fn post(&self, body: &str) -> Read {
        self.send(self.request(Method::POST).body(Body::from(body.to_owned())).unwrap()).await
    }

    /// Opens a session and gives its id.
    pub(crate) async fn initialize(&self, version: &str) -> String {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{version}","capabilities":{{}},"clientInfo":{{"name":"t","version":"1"}}}}}}"#
        );
        let answer = self.post(&body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let session = answer.headers["mcp-session-id"].to_str().unwrap().to_owned();
        let done =
            self.in_session(&session, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
        assert_eq!(done.status, 202);
        session
    }

    pub(crate) async fn in_session(&self, session: &str, body: &str) -> Read {
        self.send(self.session_request(session, body)).await
    }

    pub(crate) fn session_request(&self, session: &str, body: &str) -> Request<Body> {
        let request = self.request(Method::POST).header("mcp-session-id", session);
        request.body(Body::from(body.to_owned())).unwrap()
    }

    /// A request of the stateless era; `extra` in its body are further members of params.
    pub(crate) fn stateless_request(&self, tool: &str) -> http::request::Builder {
        self.request(Method::POST)
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", "tools/call")
            .header("mcp-name", tool)
    }

    pub(crate) async fn stateless_call(&self, tool: &str, extra: &str) -> Read {
        let request = self.stateless_request(tool).body(Body::from(stateless_body(tool, extra))).unwrap();
        self.send(request).await
    }

    /// All audit records so far.
    pub(crate) fn audit(&self) -> Vec<AuditRecord> {
        let lot = self.engine().recorder.audit.spool.next_lot(1000).unwrap();
        lot.map(|lot| lot.records).unwrap_or_default()
    }

    /// Outcome and reason of the newest audit record.
    pub(crate) fn last_audit(&self) -> (String, String) {
        self.audit().pop().map(|record| (record.outcome, record.reason)).unwrap_or_default()
    }

    /// Asserts a refusal, its record, and that the server was not touched meanwhile.
    pub(crate) fn assert_refused(&self, answer: &Read, expected: (u16, i64, &str), seen_before: usize) {
        let (status, code, reason) = answer.refusal();
        assert_eq!((status, code, reason.as_str()), expected, "{}", answer.text());
        assert_eq!(self.server.seen().len(), seen_before, "the server was touched");
        let (outcome, recorded) = self.last_audit();
        assert_eq!((outcome.as_str(), recorded.as_str()), ("denied", expected.2));
    }
}

pub(crate) const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"elicitation":{}}}"#;

pub(crate) fn stateless_body(tool: &str, extra: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}","arguments":{{"text":"hi","n":1.10}},{extra}{META}}}}}"#
    )
}

pub(crate) fn call(id: u32, tool: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{{"big":12345678901234567890123,"x":1.10}}}}}}"#
    )
}
