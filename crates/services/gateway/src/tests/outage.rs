//! What gateways share goes away and comes back.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use portico_coordination::{Coordination, CoordinationDeps, CoordinationSettings};
use portico_ids::SeededRng;
use portico_process::Tasks;
use portico_telemetry::Metrics;
use portico_transport::ReservedAddress;
use tokio::process::{Child, Command};

use crate::testing::{Bench, call};

/// A Redis of one test.
struct Redis {
    child: Child,
    /// Nobody else is given it while the server is away.
    port: ReservedAddress,
    dir: tempfile::TempDir,
}

impl Redis {
    /// `None` where there is no Redis to test with.
    async fn start() -> Option<Self> {
        let version = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().await;
        version.ok()?;
        let dir = tempfile::tempdir().unwrap();
        let port = ReservedAddress::reserve("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut redis = Self { child: Self::run(&dir, &port), port, dir };
        redis.listens().await;
        Some(redis)
    }

    fn run(dir: &tempfile::TempDir, port: &ReservedAddress) -> Child {
        let port = port.local_addr().port();
        Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(dir.path())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    async fn listens(&mut self) {
        while tokio::net::TcpStream::connect(self.port.local_addr()).await.is_err() {
            assert!(self.child.try_wait().unwrap().is_none(), "redis-server does not start");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ends the server; all that it held is lost.
    async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    async fn start_again(&mut self) {
        self.child = Self::run(&self.dir, &self.port);
        self.listens().await;
    }

    fn replica(&self, of: &Bench, seed: u64) -> Bench {
        let tasks = Tasks::new();
        let settings = format!(r#"{{"redis_url":"redis://{}"}}"#, self.port.local_addr());
        let settings: CoordinationSettings = serde_json::from_str(&settings).unwrap();
        let coordination = Coordination::connect(
            &settings,
            CoordinationDeps {
                deployment_id: "test",
                clock: Arc::new(of.clock.clone()),
                rng: Arc::new(SeededRng::new(100 + seed)),
                tasks: &tasks,
                metrics: &Metrics::new(),
            },
        );
        of.replica_with(seed, coordination.unwrap(), tasks)
    }
}

/// Waits until a call is answered with this status.
async fn answered(bench: &Bench, session: &str, status: u16) {
    let give_up = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let answer = bench.in_session(session, &call(1, "echo")).await;
        if answer.status == status {
            return;
        }
        assert!(tokio::time::Instant::now() < give_up, "{} {}", answer.status, answer.text());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn s0_14_while_redis_is_away_sessions_at_hand_go_on_and_afterwards_they_are_everywhere_again() {
    let Some(mut redis) = Redis::start().await else { return };
    let bench = Bench::new().await;
    let (a, b) = (redis.replica(&bench, 8), redis.replica(&bench, 9));
    for replica in [&a, &b] {
        replica.meet();
    }
    a.hears_of(1).await;
    b.hears_of(1).await;
    let session = a.initialize("2025-11-25").await;
    answered(&b, &session, 200).await;
    let only_a = a.initialize("2025-11-25").await;
    redis.kill().await;
    // Longer than a replica trusts what it has at hand.
    bench.clock.advance(chrono::Duration::minutes(2));
    bench.issuer.heartbeat();
    for replica in [&a, &b] {
        assert_eq!(replica.in_session(&session, &call(2, "echo")).await.status, 200);
    }
    // Not 404: the agent would begin anew although its session lives.
    let unknown = b.in_session(&only_a, &call(2, "echo")).await;
    assert_eq!(unknown.refusal(), (503, -32603, "coordination_unavailable".to_owned()));
    assert!(unknown.headers.contains_key("retry-after"));
    let opened = b.server.sessions();
    let refused = b.post(r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{}}}"#).await;
    assert_eq!(refused.refusal(), (503, -32603, "coordination_unavailable".to_owned()));
    while b.server.sessions() != opened {
        tokio::task::yield_now().await;
    }
    assert_eq!(b.stateless_call("echo", "").await.status, 200, "agents without a session notice nothing");
    redis.start_again().await;
    // Nobody calls at the gateway that has it at hand: it puts it back by itself.
    answered(&b, &only_a, 200).await;
    answered(&b, &session, 200).await;
    assert_eq!(b.server.sessions(), opened, "what stands open at the server is the same as before");
    for replica in [&a, &b] {
        replica.tasks.trigger_shutdown();
    }
}

#[tokio::test]
async fn s3_27_over_redis_a_large_answer_is_fetched_through_another_gateway() {
    let Some(redis) = Redis::start().await else { return };
    let bench = Bench::new().await;
    let (a, b) = (redis.replica(&bench, 8), redis.replica(&bench, 9));
    for replica in [&a, &b] {
        replica.meet();
    }
    a.hears_of(1).await;
    b.hears_of(1).await;
    let session = a.initialize("2025-11-25").await;
    let mut body = a.open(a.session_request(&session, &call(2, "weighty"))).await.into_body();
    let primed = body.frame().await.unwrap().unwrap().into_data().unwrap();
    let primed = std::str::from_utf8(&primed).unwrap();
    let id = primed.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned();
    drop(body);
    let resume = b.request(http::Method::GET).header("mcp-session-id", &session).header("last-event-id", id);
    let resumed = b.open(resume.body(axum::body::Body::empty()).unwrap()).await;
    b.server.release();
    let answer =
        tokio::time::timeout(Duration::from_secs(20), crate::testing::Read::of(resumed)).await.unwrap();
    let last = answer.events().pop().unwrap();
    let message: serde_json::Value = serde_json::from_slice(&last.data).unwrap();
    assert_eq!(message["result"]["text"].as_str().map(str::len), Some(200_000));
    for replica in [&a, &b] {
        replica.tasks.trigger_shutdown();
    }
}
