//! A worker with a registry that remembers what it was told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use chrono::DateTime;
use portico_clock::MockClock;
use portico_coordination::{Coordination, EventStream};
use portico_ids::{SeededRng, SharedRng};
use portico_outbound::{OutboundClient, OutboundLimits, OutboundPolicy};
use portico_process::{Readiness, Tasks};
use portico_proto_events::{Event, SEALED_AS, TOPIC};
use portico_proto_registry as proto;
use portico_proto_registry::observation_service_server::{ObservationService, ObservationServiceServer};
use portico_proto_registry::secret_resolver_service_server::{
    SecretResolverService, SecretResolverServiceServer,
};
use portico_sealing::{HandleSealer, KeyRing};
use portico_telemetry::Metrics;
use portico_transport::{Exchange, PeerIdentity, grpc_error};
use prost::Message as _;
use tokio::sync::watch;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};

use crate::{Dependencies, Worker, WorkerSettings};

/// Longer than anything that is waited for: a test that needs it has failed.
const LIMIT: Duration = Duration::from_secs(20);

/// What the registry was told, and what it answers.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) specs: BTreeMap<String, proto::InstanceSpec>,
    pub(crate) secrets: BTreeMap<String, String>,
    pub(crate) reports: Vec<proto::ReportInstanceRequest>,
    pub(crate) capabilities: BTreeMap<String, Vec<proto::Capability>>,
    pub(crate) capability_reports: usize,
    /// Purposes of the resolutions.
    pub(crate) resolved: Vec<String>,
    /// Whole lists that were read.
    pub(crate) lists: usize,
    pub(crate) is_down: bool,
    /// Which services called.
    pub(crate) callers: BTreeSet<String>,
}

impl State {
    /// The last report on the n-th instance.
    pub(crate) fn report(&self, n: u32) -> Option<&proto::ReportInstanceRequest> {
        let id = super::document::instance(n);
        self.reports.iter().rev().find(|report| report.instance_id == id)
    }

    pub(crate) fn is_healthy(&self, n: u32) -> bool {
        self.report(n).is_some_and(|report| report.status() == proto::InstanceStatus::Healthy)
    }

    pub(crate) fn is_unhealthy(&self, n: u32) -> bool {
        self.report(n).is_some_and(|report| report.status() == proto::InstanceStatus::Unhealthy)
    }

    /// What the server of the n-th instance offers.
    pub(crate) fn names(&self, n: u32) -> Vec<(proto::CapabilityKind, String)> {
        let known = self.capabilities.get(&super::document::server(n));
        known.into_iter().flatten().map(|known| (known.kind(), known.name.clone())).collect()
    }
}

#[derive(Debug, Clone)]
pub(crate) struct FakeRegistry {
    state: Arc<Mutex<State>>,
    changed: Arc<watch::Sender<u64>>,
}

impl FakeRegistry {
    fn new() -> Self {
        Self { state: Arc::default(), changed: Arc::new(watch::Sender::new(0)) }
    }

    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let answer = change(&mut self.state.lock().unwrap());
        self.changed.send_modify(|count| *count += 1);
        answer
    }

    async fn until(&self, within: Duration, what: &str, mut enough: impl FnMut(&State) -> bool) {
        let mut changed = self.changed.subscribe();
        let waiting = async {
            while !enough(&self.state.lock().unwrap()) {
                changed.changed().await.unwrap();
            }
        };
        let waited = tokio::time::timeout(within, waiting).await;
        assert!(waited.is_ok(), "never: {what}\n{:#?}", self.state.lock().unwrap());
    }

    fn enter<T, A>(
        &self,
        request: Request<T>,
        answer: impl FnOnce(&mut State, T) -> Result<A, Status>,
    ) -> Result<Response<A>, Status> {
        let caller = request.extensions().get::<PeerIdentity>().unwrap().service.clone();
        self.with(|state| {
            state.callers.insert(caller);
            if state.is_down {
                return Err(Status::unavailable("down"));
            }
            answer(state, request.into_inner()).map(Response::new)
        })
    }
}

#[tonic::async_trait]
impl ObservationService for FakeRegistry {
    async fn report_instance(
        &self,
        request: Request<proto::ReportInstanceRequest>,
    ) -> Result<Response<proto::ReportInstanceResponse>, Status> {
        self.enter(request, |state, report| {
            if !state.specs.contains_key(&report.instance_id) {
                return Err(grpc_error(Code::NotFound, "not_found", "no such instance"));
            }
            state.reports.push(report);
            Ok(proto::ReportInstanceResponse {})
        })
    }

    async fn report_capabilities(
        &self,
        request: Request<proto::ReportCapabilitiesRequest>,
    ) -> Result<Response<proto::ReportCapabilitiesResponse>, Status> {
        self.enter(request, |state, report| {
            state.capability_reports += 1;
            state.capabilities.insert(report.server_id, report.capabilities);
            Ok(proto::ReportCapabilitiesResponse {})
        })
    }

    async fn list_instance_specs(
        &self,
        request: Request<proto::ListInstanceSpecsRequest>,
    ) -> Result<Response<proto::ListInstanceSpecsResponse>, Status> {
        self.enter(request, |state, asked| {
            // One at a time, so that a list of two instances has two pages.
            let after = asked.page_token;
            let mut rest = state.specs.values().filter(|spec| spec.instance_id > after).cloned();
            let specs: Vec<_> = rest.next().into_iter().collect();
            let more = rest.next().is_some();
            let last = specs.last().map(|spec| spec.instance_id.clone()).unwrap_or_default();
            let next_page_token = if more { last } else { String::new() };
            state.lists += usize::from(!more);
            Ok(proto::ListInstanceSpecsResponse { specs, next_page_token })
        })
    }
}

#[tonic::async_trait]
impl SecretResolverService for FakeRegistry {
    async fn resolve_secrets(
        &self,
        request: Request<proto::ResolveSecretsRequest>,
    ) -> Result<Response<proto::ResolveSecretsResponse>, Status> {
        self.enter(request, |state, asked| {
            let newest = |id| state.specs.get(id).map(|spec| spec.revision);
            let current = asked.purpose.strip_prefix("instance/").and_then(newest);
            if current.is_some_and(|revision| revision != asked.spec_revision) {
                return Err(grpc_error(Code::FailedPrecondition, "spec_superseded", "not the newest"));
            }
            state.resolved.push(asked.purpose);
            let known = |name: &String| {
                let value = state.secrets.get(name)?.clone().into_bytes();
                Some(proto::ResolvedSecret { r#ref: name.clone(), value, version: 1 })
            };
            let missing = asked.refs.iter().filter(|name| !state.secrets.contains_key(*name));
            Ok(proto::ResolveSecretsResponse {
                secrets: asked.refs.iter().filter_map(known).collect(),
                missing: missing.cloned().collect(),
            })
        })
    }
}

/// A running worker and everything around it.
#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) registry: FakeRegistry,
    pub(crate) events: EventStream,
    pub(crate) coordination: Coordination,
    pub(crate) readiness: Readiness,
    pub(crate) tasks: Tasks,
    pub(crate) handles: HandleSealer,
    metrics: Metrics,
    clock: MockClock,
    limit: Duration,
    exchange: Exchange,
}

/// The sealer of one deployment of many.
pub(crate) fn sealer(deployment: u64) -> HandleSealer {
    let rng: SharedRng = Arc::new(SeededRng::new(deployment));
    let dir = tempfile::tempdir().unwrap();
    HandleSealer::new(&KeyRing::generate_file(&dir.path().join("keys.json"), &*rng).unwrap(), rng)
}

/// Settings under which a test does not wait long for anything.
pub(crate) fn quick() -> WorkerSettings {
    WorkerSettings {
        probe_interval_ms: 20,
        retry_delay_ms: 10,
        backoff_limit_ms: 20,
        discovery_interval_ms: 50,
        ..WorkerSettings::default()
    }
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let clock = MockClock::at(DateTime::from_timestamp(1_800_000_000, 0).unwrap());
        let coordination = Coordination::in_process(Arc::new(clock.clone()));
        let registry = FakeRegistry::new();
        let exchange = Exchange::new();
        let routes = Routes::new(ObservationServiceServer::new(registry.clone()))
            .add_service(SecretResolverServiceServer::new(registry.clone()));
        exchange.serve("registry", routes);
        Self {
            registry,
            events: coordination.events(),
            coordination,
            readiness: Readiness::new(),
            tasks: Tasks::new(),
            handles: sealer(1),
            metrics: Metrics::new(),
            clock,
            limit: LIMIT,
            exchange,
        }
    }

    /// For tests whose time stands still: waiting costs nothing.
    pub(crate) fn patient(mut self) -> Self {
        self.limit = Duration::from_hours(48);
        self
    }

    pub(crate) fn start(&self, settings: WorkerSettings) {
        self.start_as(7, settings, (&self.tasks, &self.metrics));
    }

    /// Starts one of several workers, each with a number and tasks of its own.
    pub(crate) fn start_as(
        &self,
        number: u64,
        settings: WorkerSettings,
        (tasks, metrics): (&Tasks, &Metrics),
    ) {
        let deps = Dependencies {
            clock: Arc::new(self.clock.clone()),
            rng: Arc::new(SeededRng::new(number)),
            coordination: self.coordination.clone(),
            handles: self.handles.clone(),
            registry: self.exchange.link("registry", PeerIdentity::new("worker")),
            outbound: OutboundClient::new(OutboundPolicy::dev(), &OutboundLimits::default()).unwrap(),
            metrics: metrics.clone(),
            readiness: self.readiness.clone(),
        };
        let worker = Worker::build(settings, deps).unwrap();
        worker.spawn_tasks(tasks);
        worker.spawn_tasks(tasks);
    }

    /// Puts an instance into the registry, without an event.
    pub(crate) fn add(&self, row: &proto::InstanceSpec) {
        self.registry.with(|state| state.specs.insert(row.instance_id.clone(), row.clone()));
    }

    /// Publishes as the registry does.
    pub(crate) async fn publish(&self, event: Event) {
        self.publish_raw(self.handles.seal(SEALED_AS, TOPIC.as_bytes(), &event.encode_to_vec())).await;
    }

    /// Publishes as anybody can who may write to the stream.
    pub(crate) async fn publish_raw(&self, payload: impl Into<Bytes>) {
        self.events.publish(TOPIC, "key", payload.into()).await.unwrap();
    }

    /// Waits until the registry knows enough.
    pub(crate) async fn until(&self, what: &str, enough: impl FnMut(&State) -> bool) {
        self.registry.until(self.limit, what, enough).await;
    }

    /// The whole number on one line of the metrics page; 0 if there is none.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        metric(&self.metrics, name)
    }

    /// Asks everything to end and checks that it does so cleanly.
    pub(crate) async fn stop(self) {
        self.tasks.trigger_shutdown();
        let outcome = self.tasks.wait(Duration::from_secs(10)).await;
        assert!(outcome.is_clean() && outcome.aborted.is_empty(), "{outcome:?}");
    }
}

/// The whole number on one line of a metrics page; 0 if there is none.
pub(crate) fn metric(metrics: &Metrics, name: &str) -> u64 {
    let page = metrics.render();
    page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or_default()
}
