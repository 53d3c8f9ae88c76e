//! Watching one instance: probe, report, discover, wait (S1-05, S1-07, S4-27).

use std::sync::Arc;
use std::time::Duration;

use portico_clock::SharedClock;
use portico_ids::{InstanceId, SharedRng};
use portico_mcp_types::Revision;
use portico_outbound::OutboundClient;
use portico_sealing::HandleSealer;
use secrecy::SecretString;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::health::{Health, Status, doubled, jittered};
use crate::mcp::greeting::{Era, Greeting};
use crate::mcp::listing::Listing;
use crate::mcp::peer::{CallError, Peer};
use crate::mcp::session::Closer;
use crate::metrics::{Counted, WorkerMetrics};
use crate::registry::{RegistryClient, RegistryFault, Report};
use crate::representatives::Representatives;
use crate::settings::WorkerSettings;
use crate::spec::Spec;

/// How old a report of unchanged capabilities may get.
const CAPABILITIES_KEPT: Duration = Duration::from_hours(1);
/// Waits while the registry does not answer.
const FIRST_REGISTRY_RETRY: Duration = Duration::from_millis(500);
const LONGEST_REGISTRY_RETRY: Duration = Duration::from_secs(30);
/// Wait after a failed discovery of a server that is otherwise well.
const FIRST_DISCOVERY_RETRY: Duration = Duration::from_secs(10);

/// What all watchers share.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) clock: SharedClock,
    pub(crate) rng: SharedRng,
    pub(crate) handles: HandleSealer,
    pub(crate) client: OutboundClient,
    pub(crate) registry: RegistryClient,
    pub(crate) closer: Closer,
    /// Separate bounds: a server with endless lists holds up other discoveries, never a probe.
    pub(crate) probes: Semaphore,
    pub(crate) discoveries: Semaphore,
    pub(crate) representatives: Representatives,
    pub(crate) metrics: WorkerMetrics,
    pub(crate) settings: WorkerSettings,
}

/// A revision of an instance was looked at and the registry knows what was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Looked {
    pub(crate) instance: InstanceId,
    pub(crate) revision: i64,
}

/// Watches an instance until its sender is dropped or the registry does not know it any more.
///
/// A new spec ends whatever is under way for the old one.
pub(crate) async fn watch(
    context: Arc<Context>,
    mut specs: watch::Receiver<Arc<Spec>>,
    looked: mpsc::Sender<Looked>,
) {
    loop {
        let spec = Arc::clone(&specs.borrow_and_update());
        let mut watcher = Watcher::new(Arc::clone(&context), spec);
        tokio::select! {
            biased;
            changed = specs.changed() => if changed.is_err() { return },
            () = watcher.run(&looked) => return,
        }
    }
}

/// Why a look ended early.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Server(#[from] CallError),
    #[error("the secret {0} does not exist: set it, or name another one in authentication.token")]
    SecretMissing(String),
    #[error(transparent)]
    Registry(#[from] RegistryFault),
}

/// What the registry was told last.
#[derive(Debug)]
struct Said {
    status: Status,
    trouble: Option<String>,
    versions: Vec<Revision>,
    at: Instant,
}

/// One instance at one revision.
#[derive(Debug)]
struct Watcher {
    context: Arc<Context>,
    spec: Arc<Spec>,
    counted: Counted,
    health: Health,
    /// Kept between looks; fetched again when the server refuses it and at every periodic discovery.
    credential: Option<SecretString>,
    era: Option<Era>,
    versions: Vec<Revision>,
    said: Option<Said>,
    discover_at: Instant,
    failed_discoveries: u32,
    /// What the last discovery found wrong with the server's lists, for its owner.
    trouble: Option<String>,
    /// Digest and time of the capabilities reported last.
    listed: Option<(u64, Instant)>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.context.representatives.resigned(self.spec.server, self.spec.instance);
    }
}

impl Watcher {
    fn new(context: Arc<Context>, spec: Arc<Spec>) -> Self {
        Self {
            counted: context.metrics.instance(),
            context,
            spec,
            health: Health::default(),
            credential: None,
            era: None,
            versions: Vec::new(),
            said: None,
            discover_at: Instant::now(),
            failed_discoveries: 0,
            trouble: None,
            listed: None,
        }
    }

    /// Looks and waits, until the instance is gone.
    async fn run(&mut self, looked: &mpsc::Sender<Looked>) {
        let mut registry_failures = 0;
        loop {
            let wait = match self.look().await {
                Ok(()) => {
                    registry_failures = 0;
                    let done = Looked { instance: self.spec.instance, revision: self.spec.revision };
                    if looked.send(done).await.is_err() {
                        return;
                    }
                    self.pause()
                }
                Err(RegistryFault::Gone) => return,
                Err(error) => {
                    self.log(&error, "the registry was not told about an instance");
                    registry_failures += 1;
                    doubled(FIRST_REGISTRY_RETRY, registry_failures - 1, LONGEST_REGISTRY_RETRY)
                }
            };
            sleep(jittered(wait, &*self.context.rng)).await;
        }
    }

    /// How long until the next look.
    fn pause(&self) -> Duration {
        let delay = self.health.delay(&self.spec.check, &self.context.settings);
        if self.health.is_failing() {
            return delay;
        }
        delay.min(self.discover_at.saturating_duration_since(Instant::now()))
    }

    /// Probes and tells the registry what changed; discovers when it is time and the server is well.
    async fn look(&mut self) -> Result<(), RegistryFault> {
        let discovers = self.discover_at <= Instant::now();
        let probed = self.probe(discovers).await;
        match probed {
            Ok((peer, greeting)) => {
                self.health.passed();
                if let Some(greeting) = &greeting {
                    self.learn(greeting);
                }
                self.report().await?;
                if discovers { self.discover(&peer, greeting).await } else { Ok(()) }
            }
            Err(LookError::Registry(fault)) => Err(fault),
            Err(error) => {
                if matches!(error, LookError::Server(CallError::Unauthorized(_))) {
                    self.credential = None;
                }
                tracing::debug!(instance.id = %self.spec.instance, error = &error as &dyn std::error::Error, "probe failed");
                self.health.failed(&self.spec.check, error.to_string());
                // A server that comes back may be another one.
                self.discover_at = Instant::now();
                if matches!(self.health.status(), Some(Status::Unhealthy(_))) {
                    self.context.representatives.resigned(self.spec.server, self.spec.instance);
                }
                self.report().await
            }
        }
    }

    async fn probe(&mut self, both_eras: bool) -> Result<(Arc<Peer>, Option<Greeting>), LookError> {
        // A failing server is asked about both eras every time; its credential is only fetched again if refused.
        let peer = Arc::new(self.peer(both_eras && !self.health.is_failing()).await?);
        let context = Arc::clone(&self.context);
        // The semaphore is never closed.
        let _permit = context.probes.acquire().await;
        let begun = Instant::now();
        let (check, closer) = (&self.spec.check, &self.context.closer);
        let probed = match (&check.url, self.era) {
            (Some(url), _) => peer.get(url, check.timeout).await.map(|()| None),
            (None, Some(era)) if !both_eras => {
                Greeting::of_era(era, &peer, closer, check.timeout).await.map(Some)
            }
            (None, _) => Greeting::of_both(&peer, closer, check.timeout).await.map(Some),
        };
        let metrics = &self.context.metrics;
        metrics.probe_seconds.observe(begun.elapsed().as_secs_f64());
        metrics.probe(if probed.is_ok() { "passed" } else { "failed" });
        Ok((Arc::clone(&peer), probed?))
    }

    /// The server with its credential, fetched if it is not at hand or may have changed.
    async fn peer(&mut self, refresh: bool) -> Result<Peer, LookError> {
        if let Some(reference) = self.spec.secret.as_ref().filter(|_| refresh || self.credential.is_none()) {
            match self.context.registry.secret(&self.spec, reference).await {
                // The old one is good enough until the registry is back.
                Err(RegistryFault::Unavailable(_)) if self.credential.is_some() => {}
                fetched => {
                    let value = fetched?.ok_or_else(|| LookError::SecretMissing(reference.clone()))?;
                    self.credential = Some(value);
                }
            }
        }
        Ok(Peer {
            client: self.context.client.clone(),
            endpoint: self.spec.endpoint.clone(),
            bearer: self.credential.clone(),
        })
    }

    fn learn(&mut self, greeting: &Greeting) {
        if greeting.complete {
            self.era = Some(greeting.era());
            self.versions = greeting.versions();
        }
    }

    /// Tells the registry if something changed, or if it has not heard of the instance for long.
    async fn report(&mut self) -> Result<(), RegistryFault> {
        let Some(status) = self.health.status().cloned() else { return Ok(()) };
        self.counted.set(match status {
            Status::Healthy => "healthy",
            Status::Unhealthy(_) => "unhealthy",
        });
        let fresh = self.context.settings.report_interval();
        let known = self.said.as_ref().is_some_and(|said| {
            (&said.status, &said.trouble, &said.versions) == (&status, &self.trouble, &self.versions)
                && said.at.elapsed() < fresh
        });
        if known {
            return Ok(());
        }
        let report = Report {
            spec: &self.spec,
            status: &status,
            trouble: self.trouble.as_deref(),
            versions: &self.versions,
            checked_at: self.context.clock.now(),
        };
        match self.context.registry.report(&report).await {
            Err(RegistryFault::Refused(error)) => self.log(&error, "the registry refused a report"),
            reported => reported?,
        }
        self.log_change(&status);
        let (trouble, versions) = (self.trouble.clone(), self.versions.clone());
        self.said = Some(Said { status, trouble, versions, at: Instant::now() });
        Ok(())
    }

    /// Lists what the server offers, if this instance speaks for it.
    async fn discover(&mut self, peer: &Arc<Peer>, greeting: Option<Greeting>) -> Result<(), RegistryFault> {
        let context = Arc::clone(&self.context);
        let _permit = context.discoveries.acquire().await;
        let begun = Instant::now();
        let limit = context.settings.discovery_timeout();
        let listed = timeout(limit, self.list(peer, greeting)).await.unwrap_or(Err(CallError::Slow));
        context.metrics.discovery_seconds.observe(begun.elapsed().as_secs_f64());
        self.trouble = match &listed {
            Ok(listing) => listing.as_ref().and_then(Listing::trouble),
            Err(error) => Some(format!("its lists cannot be read: {error}")),
        };
        // Behind an HTTP health check this was also the first to learn the versions.
        self.report().await?;
        match listed {
            Ok(listing) => {
                if let Some(listing) = listing {
                    self.report_capabilities(listing).await?;
                }
                context.metrics.discovery("ok");
                self.failed_discoveries = 0;
                self.discover_at =
                    Instant::now() + jittered(context.settings.discovery_interval(), &*context.rng);
            }
            Err(error) => {
                context.metrics.discovery("failed");
                self.log(&error, "discovery failed");
                context.representatives.resigned(self.spec.server, self.spec.instance);
                let limit = context.settings.discovery_interval();
                let wait = doubled(FIRST_DISCOVERY_RETRY.min(limit), self.failed_discoveries, limit);
                self.failed_discoveries = self.failed_discoveries.saturating_add(1);
                self.discover_at = Instant::now() + jittered(wait, &*context.rng);
            }
        }
        Ok(())
    }

    /// Greets the server unless the probe has, and lists; `None` if another instance speaks for the server.
    async fn list(
        &mut self,
        peer: &Arc<Peer>,
        greeting: Option<Greeting>,
    ) -> Result<Option<Listing>, CallError> {
        let own = self.context.settings.request_timeout();
        let deadline = self.spec.timeout.map_or(own, |timeout| timeout.min(own));
        let greeting = match greeting {
            Some(greeting) => greeting,
            None => Greeting::of_both(peer, &self.context.closer, deadline).await?,
        };
        self.learn(&greeting);
        if !self.context.representatives.may_speak(self.spec.server, self.spec.instance) {
            return Ok(None);
        }
        let listing = Listing::of(peer, &greeting, deadline).await?;
        if listing.left_out > 0 {
            tracing::warn!(
                server.name = self.spec.server_name,
                instance.id = %self.spec.instance,
                capabilities.left_out = listing.left_out,
                "a server lists things without a usable name, with duplicate keys or too large ones"
            );
        }
        Ok(Some(listing))
    }

    async fn report_capabilities(&mut self, listing: Listing) -> Result<(), RegistryFault> {
        let digest = listing.digest();
        self.context.representatives.listed(self.spec.server, self.spec.instance);
        if self.listed.is_some_and(|(last, at)| last == digest && at.elapsed() < CAPABILITIES_KEPT) {
            return Ok(());
        }
        match self.context.registry.report_capabilities(self.spec.server, listing.capabilities).await {
            Err(RegistryFault::Refused(error)) => {
                self.log(&error, "the registry refused a server's capabilities");
            }
            reported => reported?,
        }
        self.listed = Some((digest, Instant::now()));
        Ok(())
    }

    fn log_change(&self, status: &Status) {
        if self.said.as_ref().is_some_and(|said| said.status == *status) {
            return;
        }
        let (name, instance) = (&self.spec.server_name, self.spec.instance);
        match status {
            Status::Healthy => {
                tracing::info!(server.name = name, instance.id = %instance, "an instance is healthy");
            }
            Status::Unhealthy(reason) => {
                tracing::warn!(server.name = name, instance.id = %instance, reason, "an instance is unhealthy");
            }
        }
    }

    fn log(&self, error: &(dyn std::error::Error + 'static), what: &'static str) {
        tracing::warn!(
            server.name = self.spec.server_name,
            instance.id = %self.spec.instance,
            error,
            "{what}"
        );
    }
}
