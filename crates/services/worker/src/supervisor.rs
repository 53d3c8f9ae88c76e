//! Consumes events, applies resyncs and keeps one watcher per instance.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use portico_coordination::{Consumer, CoordinationError, Delivery, DeliveryId, EventStream};
use portico_ids::InstanceId;
use portico_proto_events::TOPIC;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::events::{Change, InvalidEvent};
use crate::forwarding::{Foreign, Post};
use crate::health::{doubled, jittered};
use crate::instances::{Applied, Instances};
use crate::resync::Resynced;
use crate::shares::{Held, Share};
use crate::spec::Spec;
use crate::watcher::{Context, Looked, watch};

/// All workers share the events.
const GROUP: &str = "worker";
/// Watchers wait when so many have looked and the supervisor has not noticed.
const LOOKED: usize = 1024;
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// The one owner of the set of instances; it never waits for a server or the registry.
#[derive(Debug)]
pub(crate) struct Supervisor {
    context: Arc<Context>,
    /// The name of this worker.
    own: String,
    instances: Instances,
    held: watch::Receiver<Held>,
    post: Post,
    /// Aborted when the supervisor is dropped.
    watchers: JoinSet<()>,
    looked: mpsc::Sender<Looked>,
    looks: mpsc::Receiver<Looked>,
}

impl Supervisor {
    pub(crate) fn new(context: Arc<Context>, own: String, held: watch::Receiver<Held>, post: Post) -> Self {
        let (looked, looks) = mpsc::channel(LOOKED);
        let (instances, watchers) = (Instances::default(), JoinSet::new());
        Self { context, own, instances, held, post, watchers, looked, looks }
    }

    pub(crate) async fn run(
        mut self,
        events: EventStream,
        mut resyncs: mpsc::Receiver<Resynced>,
        shutdown: CancellationToken,
    ) -> Result<(), Infallible> {
        let name = self.own.clone();
        let mut subscription = Subscription { events, name, consumer: None, failures: 0 };
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                delivery = subscription.next(&self.context) => self.deliver(&delivery),
                Some(list) = resyncs.recv() => {
                    let held = self.held.borrow().clone();
                    for (id, specs) in self.instances.resync(list, &held) {
                        self.start(id, specs);
                    }
                }
                Some(looked) = self.looks.recv() => self.instances.looked(looked),
                Some(ended) = self.watchers.join_next_with_id() => self.ended(ended),
                Ok(()) = self.held.changed() => {
                    let held = self.held.borrow_and_update().clone();
                    self.instances.keep(&held);
                }
                Some(delivery) = self.post.passed_on.recv() => self.instances.finish(delivery),
                Some(payload) = self.post.arrived.recv() => self.receive(&payload),
            }
            for id in self.instances.take_done() {
                subscription.ack(id).await;
            }
        }
        // The sessions of the watchers go to the closer before this task counts as ended.
        self.watchers.shutdown().await;
        Ok(())
    }

    fn deliver(&mut self, delivery: &Delivery) {
        let metrics = &self.context.metrics;
        match self.open(&delivery.payload) {
            Err(error) => {
                metrics.event(error.outcome());
                if matches!(error, InvalidEvent::Forged) {
                    // Whoever can write to the stream does not fill the place that is for people to look at.
                    self.instances.finish(delivery.id);
                }
                tracing::error!(
                    event.key = delivery.key,
                    event.attempt = delivery.attempt,
                    error = &error as &dyn std::error::Error,
                    "an event cannot be read"
                );
            }
            Ok(change) => match change.server().filter(|server| !self.held.borrow().has(*server)) {
                Some(server) => {
                    metrics.event("foreign");
                    let (payload, delivery) = (delivery.payload.clone(), delivery.id);
                    // Without room it is delivered again.
                    let _ = self.post.out.try_send(Foreign { share: Share::of(server), payload, delivery });
                }
                None => self.apply(change, Some(delivery.id)),
            },
        }
    }

    /// Takes what another worker passed on. If the share has moved meanwhile, its new holder began with a list.
    fn receive(&mut self, payload: &[u8]) {
        match self.open(payload) {
            Ok(change) if change.server().is_some_and(|server| self.held.borrow().has(server)) => {
                self.apply(change, None);
            }
            Ok(_) => self.context.metrics.event("superseded"),
            Err(error) => {
                self.context.metrics.event(error.outcome());
                tracing::error!(error = &error as &dyn std::error::Error, "a passed on event cannot be read");
            }
        }
    }

    fn open(&self, sealed: &[u8]) -> Result<Change, InvalidEvent> {
        Change::open(sealed, &self.context.handles, &self.context.settings)
    }

    fn apply(&mut self, change: Change, delivery: Option<DeliveryId>) {
        let outcome = match change {
            Change::Nothing => "ignored",
            Change::Forget(id, _) => {
                self.instances.forget(id);
                "applied"
            }
            Change::ForgetServer(id) => {
                self.instances.forget_server(id);
                "applied"
            }
            Change::Look(spec) => {
                let id = spec.instance;
                let applied = self.instances.apply(*spec, delivery);
                return self.applied(id, applied);
            }
            Change::LookAgain(spec) => {
                let id = spec.instance;
                let applied = self.instances.apply_again(*spec, delivery);
                return self.applied(id, applied);
            }
        };
        self.context.metrics.event(outcome);
        if let Some(delivery) = delivery {
            self.instances.finish(delivery);
        }
    }

    fn applied(&mut self, id: InstanceId, applied: Applied) {
        let outcome = match applied {
            Applied::New(specs) => {
                self.start(id, specs);
                "applied"
            }
            Applied::Known => "applied",
            Applied::Superseded => "superseded",
        };
        self.context.metrics.event(outcome);
    }

    fn start(&mut self, id: InstanceId, specs: watch::Receiver<Arc<Spec>>) {
        let watching = watch(Arc::clone(&self.context), specs, self.looked.clone());
        let task = self.watchers.spawn(watching);
        self.instances.started(id, task.id());
    }

    fn ended(&mut self, ended: Result<(tokio::task::Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a watcher died");
                error.id()
            }
        };
        if self.instances.ended(id) {
            tracing::info!("an instance is watched no longer");
        }
    }
}

/// The consumer, joined again when the stream fails.
#[derive(Debug)]
struct Subscription {
    events: EventStream,
    name: String,
    consumer: Option<Consumer>,
    failures: u32,
}

impl Subscription {
    /// Waits for the next event, for as long as it takes; cancelling the wait loses nothing.
    async fn next(&mut self, context: &Context) -> Delivery {
        loop {
            match self.try_next().await {
                Ok(delivery) => {
                    self.failures = 0;
                    return delivery;
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "events cannot be read");
                    self.consumer = None;
                    self.failures = self.failures.saturating_add(1);
                    let wait = doubled(FIRST_RETRY, self.failures - 1, LONGEST_RETRY);
                    sleep(jittered(wait, &*context.rng)).await;
                }
            }
        }
    }

    async fn try_next(&mut self) -> Result<Delivery, CoordinationError> {
        let consumer = match self.consumer.take() {
            Some(consumer) => consumer,
            None => self.events.subscribe(TOPIC, GROUP, &self.name).await?,
        };
        self.consumer.insert(consumer).next().await
    }

    /// An event that stays unacknowledged is delivered again, which is harmless.
    async fn ack(&self, id: DeliveryId) {
        let Some(consumer) = &self.consumer else { return };
        if let Err(error) = consumer.ack(id).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "an event cannot be acknowledged");
        }
    }
}
