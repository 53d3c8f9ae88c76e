//! The Redis that replicas share.

use std::time::Duration;

use portico_coordination::{Coordination, CoordinationDeps, CoordinationSettings, SetupError};
use portico_process::Readiness;
use portico_sealing::KeyRing;
use portico_settings::Secret;

use crate::problems::Problems;
use crate::program::Ground;

/// How long the start waits for Redis.
const WAIT: Duration = Duration::from_secs(5);

/// A start with it would be one with some keys only.
#[derive(Debug, thiserror::Error)]
#[error("setting `coordination.redis_url`: {0}")]
struct UnusableRedis(String);

/// The settings of coordination, checked.
#[derive(Debug, Clone)]
pub struct CoordinationPlan {
    settings: CoordinationSettings,
}

impl CoordinationPlan {
    /// Reads the section `coordination`; whether Redis answers shows later, and it may come and go.
    pub fn check(problems: &mut Problems, settings: CoordinationSettings) -> Option<Self> {
        const KEY: &str = "coordination.redis_url";
        let what = "give redis://… or rediss://…, inline or as { file = \"…\" }";
        problems.need(KEY, settings.redis_url.as_ref(), what)?;
        let checked = settings.check();
        let key = match &checked {
            Err(SetupError::CaWithoutTls | SetupError::Ca { .. } | SetupError::CaMalformed(_)) => {
                "coordination.ca"
            }
            _ => KEY,
        };
        problems.accept(key, checked)?;
        Some(Self { settings })
    }

    /// Returns the URL of Redis, which nobody may register as a server.
    #[must_use]
    pub fn url(&self) -> Option<&Secret> {
        self.settings.redis_url.as_ref()
    }

    /// Makes the handles, over a connection that is made in the background.
    ///
    /// The check `redis` holds once Redis was there, or was waited for long enough: without it a service is worse, not
    /// useless, and one that was restarted meanwhile has to come back. A Redis that can never do ends the start.
    pub fn connect(&self, keys: &KeyRing, ground: &Ground) -> Result<Coordination, SetupError> {
        let deps = CoordinationDeps {
            deployment_id: keys.deployment_id(),
            clock: ground.clock.clone(),
            rng: ground.rng.clone(),
            tasks: &ground.tasks,
            metrics: &ground.metrics,
        };
        let coordination = Coordination::connect(&self.settings, deps)?;
        let (redis, check) = (Readiness::new(), ground.readiness.check("redis"));
        check.not_ready("waiting for Redis");
        coordination.watch_health(redis.check("redis"), &ground.tasks);
        let (found, shutdown) = (coordination.clone(), ground.tasks.shutdown_token());
        ground.tasks.spawn("coordination.start", async move {
            let waited = async {
                tokio::select! {
                    waited = tokio::time::timeout(WAIT, redis.ready()) => Ok(waited.is_ok()),
                    why = found.unusable() => Err(UnusableRedis(why)),
                }
            };
            match shutdown.run_until_cancelled(waited).await {
                None => return Ok(()),
                Some(Err(unusable)) => return Err(unusable),
                Some(Ok(true)) => {}
                Some(Ok(false)) => tracing::warn!(
                    "Redis cannot be reached: until it is, limits are local and sessions are not shared"
                ),
            }
            check.ready();
            shutdown.cancelled().await;
            Ok(())
        });
        Ok(coordination)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use portico_ids::SeededRng;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::testing::{TestDeployment, ground};

    fn told(url: &str, ca: Option<&str>) -> String {
        let settings = CoordinationSettings {
            redis_url: Some(Secret::inline(url.to_owned().into())),
            ca: ca.map(Into::into),
        };
        let mut problems = Problems::new();
        CoordinationPlan::check(&mut problems, settings);
        problems.to_string()
    }

    #[test]
    fn s3_43_a_section_that_cannot_work_is_told() {
        assert_eq!(told("redis://127.0.0.1/", None), "");
        for malformed in ["http://127.0.0.1/", "redis://", "rediss://127.0.0.1/#insecure"] {
            let told = told(malformed, None);
            assert!(
                told.starts_with("setting `coordination.redis_url`: the Redis URL is malformed"),
                "{told}"
            );
        }
        let directory = tempfile::tempdir().unwrap();
        let empty = directory.path().join("ca.pem");
        std::fs::write(&empty, "").unwrap();
        let without_tls = told("redis://127.0.0.1/", empty.to_str());
        assert!(without_tls.contains("does not start with rediss://"), "{without_tls}");
        for unusable in [empty.to_str(), Some("/nowhere/ca.pem")] {
            let told = told("rediss://127.0.0.1/", unusable);
            assert!(told.starts_with("setting `coordination.ca`: the CA file "), "{told}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn s0_14_a_program_comes_up_without_redis_and_waits_for_it_only_a_while() {
        let deployment = TestDeployment::new();
        let keys = KeyRing::generate_file(&deployment.path("other.json"), &SeededRng::new(1)).unwrap();
        let plan = CoordinationPlan::check(&mut Problems::new(), deployment.no_redis()).unwrap();
        let ground = ground();
        let began = tokio::time::Instant::now();
        plan.connect(&keys, &ground).unwrap();
        assert!(!ground.readiness.is_ready());
        ground.readiness.ready().await;
        assert_eq!(began.elapsed(), WAIT);
        ground.tasks.abort();
    }

    /// Answers every question as a Sentinel answers HELLO.
    async fn sentinel(ground: &Ground) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        ground.tasks.spawn_short("sentinel", async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 1024];
            while stream.read(&mut asked).await.is_ok_and(|read| read > 0) {
                stream.write_all(b"%1\r\n$4\r\nmode\r\n$8\r\nsentinel\r\n").await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn s3_43_a_redis_that_can_never_do_ends_the_start_and_says_what_to_give() {
        let ground = ground();
        let url = format!("redis://{}", sentinel(&ground).await);
        let deployment = TestDeployment::new();
        let keys = KeyRing::generate_file(&deployment.path("other.json"), &SeededRng::new(1)).unwrap();
        let settings = CoordinationSettings { redis_url: Some(Secret::inline(url.into())), ca: None };
        let plan = CoordinationPlan::check(&mut Problems::new(), settings).unwrap();
        plan.connect(&keys, &ground).unwrap();
        let outcome = ground.tasks.wait(Duration::from_secs(10)).await;
        let failure = outcome.failure.unwrap();
        assert_eq!(failure.name, "coordination.start");
        assert!(
            failure.what.contains("`coordination.redis_url`: the URL leads to a Redis Sentinel"),
            "{failure}"
        );
        assert!(!ground.readiness.is_ready());
    }
}
