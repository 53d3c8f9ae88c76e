//! Consumes events, applies resyncs and keeps one watcher per instance.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use portico_coordination::{Consumer, CoordinationError, Delivery, DeliveryId, EventStream};
use portico_ids::{EventId, InstanceId};
use portico_proto_events::TOPIC;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::events::Change;
use crate::health::{doubled, jittered};
use crate::instances::{Applied, Instances};
use crate::resync::Resynced;
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
    instances: Instances,
    /// Aborted when the supervisor is dropped.
    watchers: JoinSet<()>,
    looked: mpsc::Sender<Looked>,
    looks: mpsc::Receiver<Looked>,
}

impl Supervisor {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        let (looked, looks) = mpsc::channel(LOOKED);
        Self { context, instances: Instances::default(), watchers: JoinSet::new(), looked, looks }
    }

    pub(crate) async fn run(
        mut self,
        events: EventStream,
        mut resyncs: mpsc::Receiver<Resynced>,
        shutdown: CancellationToken,
    ) -> Result<(), Infallible> {
        let name = EventId::generate(&*self.context.clock, &*self.context.rng).to_string();
        let mut subscription = Subscription { events, name, consumer: None, failures: 0 };
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                delivery = subscription.next(&self.context) => self.deliver(&delivery),
                Some(list) = resyncs.recv() => {
                    for (id, specs) in self.instances.resync(list) {
                        self.start(id, specs);
                    }
                }
                Some(looked) = self.looks.recv() => self.instances.looked(looked),
                Some(ended) = self.watchers.join_next_with_id() => self.ended(ended),
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
        match Change::decode(&delivery.payload, &self.context.settings) {
            Err(error) => {
                metrics.event("invalid");
                tracing::error!(
                    event.key = delivery.key,
                    event.attempt = delivery.attempt,
                    error = &error as &dyn std::error::Error,
                    "an event cannot be read"
                );
            }
            Ok(Change::Nothing) => {
                metrics.event("ignored");
                self.instances.finish(delivery.id);
            }
            Ok(Change::Forget(id)) => {
                metrics.event("applied");
                self.instances.forget(id);
                self.instances.finish(delivery.id);
            }
            Ok(Change::ForgetServer(id)) => {
                metrics.event("applied");
                self.instances.forget_server(id);
                self.instances.finish(delivery.id);
            }
            Ok(Change::Look(spec)) => {
                let id = spec.instance;
                match self.instances.apply(*spec, Some(delivery.id)) {
                    Applied::New(specs) => {
                        metrics.event("applied");
                        self.start(id, specs);
                    }
                    Applied::Known => metrics.event("applied"),
                    Applied::Superseded => metrics.event("superseded"),
                }
            }
        }
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
