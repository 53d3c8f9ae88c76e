//! The Redis of `PORTICO_TEST_REDIS_URL` under test: each test is a deployment of its own.

use std::{sync::Arc, time::Duration};

use portico_clock::SystemClock;
use portico_ids::{Rng as _, SystemRng};
use portico_process::Tasks;
use portico_settings::Secret;
use portico_telemetry::Metrics;
use redis::{Value, aio::MultiplexedConnection};

use super::{Suite, eventually};
use crate::{
    Coordination, CoordinationDeps, CoordinationSettings, StreamSettings,
    server::{DEADLINE, Keys},
};

/// One process of a deployment.
pub(crate) struct Replica {
    pub(crate) coordination: Coordination,
    pub(crate) metrics: Metrics,
    pub(crate) tasks: Tasks,
    pub(crate) streams: StreamSettings,
    url: String,
    deployment: String,
}

/// Returns the only replica of a new deployment; nothing, with a notice, where there is no Redis to test with.
pub(crate) fn replica() -> Option<Replica> {
    Some(Replica::of(&url()?, &new_deployment()))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test suite has no settings; this is where its one variable is read"
)]
pub(crate) fn url() -> Option<String> {
    let url = std::env::var("PORTICO_TEST_REDIS_URL").ok().filter(|url| !url.is_empty());
    if url.is_none() {
        eprintln!("skipped: PORTICO_TEST_REDIS_URL is not set (tests/scripts/redis.sh start prints one)");
    }
    url
}

pub(crate) fn new_deployment() -> String {
    let mut bytes = [0; 8];
    SystemRng.fill(&mut bytes);
    format!("test{:016x}", u64::from_be_bytes(bytes))
}

impl Replica {
    pub(crate) fn of(url: &str, deployment: &str) -> Self {
        let visibility_timeout = Duration::from_secs(2);
        let streams = StreamSettings { max_attempts: 3, visibility_timeout, ..StreamSettings::default() };
        Self::with(url, deployment, streams)
    }

    pub(crate) fn with(url: &str, deployment: &str, streams: StreamSettings) -> Self {
        let redis_url = Some(Secret::inline(url.into()));
        let settings = CoordinationSettings { redis_url, ca: None };
        // Longer than a busy machine takes, for what is not about deadlines.
        Self::connect(&settings, url, deployment, (streams, Duration::from_secs(10)))
    }

    /// A replica with the deadline of production.
    pub(crate) fn strict(url: &str, deployment: &str) -> Self {
        let settings = CoordinationSettings { redis_url: Some(Secret::inline(url.into())), ca: None };
        Self::connect(&settings, url, deployment, (StreamSettings::default(), DEADLINE))
    }

    pub(crate) fn connect(
        settings: &CoordinationSettings,
        url: &str,
        deployment: &str,
        (streams, deadline): (StreamSettings, Duration),
    ) -> Self {
        let (tasks, metrics) = (Tasks::new(), Metrics::new());
        let deps = CoordinationDeps {
            deployment_id: deployment,
            clock: Arc::new(SystemClock),
            rng: Arc::new(SystemRng),
            tasks: &tasks,
            metrics: &metrics,
        };
        let coordination = Coordination::connect_within(settings, deps, streams.clone(), deadline).unwrap();
        let (url, deployment) = (url.to_owned(), deployment.to_owned());
        Self { coordination, metrics, tasks, streams, url, deployment }
    }

    pub(super) fn suite(&self) -> Suite<impl AsyncFn(Duration)> {
        // Long beside what a busy machine delays.
        let unit = Duration::from_secs(1);
        let pass = async |time: Duration| tokio::time::sleep(time).await;
        Suite { backend: self.coordination.clone(), streams: self.streams.clone(), unit, pass }
    }

    pub(crate) async fn is_up(&self) {
        eventually("Redis is up", async || self.metric("portico_coordination_up") == 1).await;
    }

    pub(crate) async fn is_down(&self) {
        eventually("Redis is down", async || self.metric("portico_coordination_up") == 0).await;
    }

    /// How many questions were answered for a capability.
    pub(crate) fn asked(&self, capability: &str) -> usize {
        self.metric(&format!("portico_coordination_operation_seconds_count{{capability=\"{capability}\"}}"))
    }

    /// The value of a metric; 0 as long as it has none.
    pub(crate) fn metric(&self, name: &str) -> usize {
        let page = self.metrics.render();
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }

    pub(crate) fn key(&self, kind: &str, name: &str) -> String {
        Keys::new(&self.deployment).name(kind, &[name])
    }

    pub(crate) async fn command(&self, words: &[&str]) -> Value {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]).query_async(&mut self.raw().await).await.unwrap()
    }

    /// A connection of the test's own.
    pub(crate) async fn raw(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.url.as_str()).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }

    /// The deployment's keys with their types and times to live in milliseconds (-1: none).
    pub(crate) async fn keys(&self) -> Vec<(String, String, i64)> {
        let mut raw = self.raw().await;
        let mut keys: Vec<String> = Vec::new();
        let mut cursor = 0_u64;
        // `{` and `[` mean nothing in the deployment's prefix, `*` is at its end only.
        let pattern = format!("{}*", Keys::new(&self.deployment).prefix());
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(1000);
            let (next, found): (u64, Vec<String>) = scan.query_async(&mut raw).await.unwrap();
            keys.extend(found);
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        let mut all = Vec::new();
        for key in keys {
            let kind: String = redis::cmd("TYPE").arg(&key).query_async(&mut raw).await.unwrap();
            let left: i64 = redis::cmd("PTTL").arg(&key).query_async(&mut raw).await.unwrap();
            if left != -2 {
                all.push((key, kind, left));
            }
        }
        all
    }

    /// Every key has a time to live, or is a stream that is no longer than the settings allow.
    pub(crate) async fn assert_every_key_is_bounded(&self) {
        let mut raw = self.raw().await;
        for (key, kind, left) in self.keys().await {
            if left >= 0 {
                continue;
            }
            assert_eq!(kind, "stream", "{key} lives for ever");
            let length: usize = redis::cmd("XLEN").arg(&key).query_async(&mut raw).await.unwrap();
            assert!(length <= self.streams.capacity, "{key} holds {length}");
        }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}
