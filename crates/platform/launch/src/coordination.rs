//! The Redis that replicas share.

use std::time::Duration;

use portico_coordination::{Coordination, CoordinationDeps, CoordinationSettings, SetupError};
use portico_process::Readiness;
use portico_sealing::KeyRing;
use portico_settings::Secret;
use secrecy::ExposeSecret as _;

use crate::problems::Problems;
use crate::program::Ground;

/// How long the start waits for Redis.
const WAIT: Duration = Duration::from_secs(5);

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
        let url = problems.need(KEY, settings.redis_url.as_ref(), what)?;
        let url = problems.accept(KEY, url.load())?;
        let tls = url.expose_secret().starts_with("rediss://");
        if !tls && !url.expose_secret().starts_with("redis://") {
            problems.add(KEY, "must begin with redis:// or rediss://");
            return None;
        }
        if let Some(ca) = &settings.ca {
            if !tls {
                problems.add("coordination.ca", "is set, but the URL does not begin with rediss://");
                return None;
            }
            problems.accept("coordination.ca", std::fs::metadata(ca))?;
        }
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
    /// useless, and one that was restarted meanwhile has to come back.
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
        let shutdown = ground.tasks.shutdown_token();
        ground.tasks.spawn_short("coordination.wait", async move {
            let waited = shutdown.run_until_cancelled(tokio::time::timeout(WAIT, redis.ready())).await;
            if let Some(Err(_)) = waited {
                tracing::warn!(
                    "Redis cannot be reached: until it is, limits are local and sessions are not shared"
                );
            }
            check.ready();
        });
        Ok(coordination)
    }
}
