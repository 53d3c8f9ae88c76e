//! From the outbox to the event stream.

use std::{convert::Infallible, error::Error, sync::Arc, time::Duration};

use bytes::Bytes;
use chrono::TimeDelta;
use portico_clock::SharedClock;
use portico_coordination::{CoordinationError, EventStream};
use portico_sealing::HandleSealer;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{Db, Duty, FromRow, Row, StoreError, on_db, read};

/// How many events one pass takes.
const BATCH: i64 = 100;
/// How long an event waits if nobody rings, because another replica wrote it.
const POLL: Duration = Duration::from_millis(250);
/// The first and the longest pause after a failure.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long the stream may take for one event: less than the duty lasts without being renewed.
const PUBLISH_DEADLINE: Duration = Duration::from_secs(2);
/// How often published events are removed, and how old they are then.
const PRUNE_EVERY: Duration = Duration::from_mins(10);
const PRUNE_AFTER: TimeDelta = TimeDelta::hours(24);

/// Publishes what the outbox holds, in order and sealed, and marks it as published. Of several replicas one does it.
///
/// At least once: an event whose mark was lost is published again, and so is one that a relay was at when it slept
/// through the end of its turn. Consumers act on the newest revision, so a repetition changes nothing.
#[derive(Debug)]
pub struct Relay {
    db: Db,
    outlet: Outlet,
    clock: SharedClock,
    duty: Duty,
    bell: Bell,
}

/// Where a relay publishes, and how readers know that it did.
#[derive(Clone, Debug)]
pub struct Outlet {
    /// Takes the events. Others may be able to write to it, and to read it.
    pub stream: EventStream,
    /// Seals each event, with its topic as associated data.
    pub handles: HandleSealer,
    /// What events are sealed as.
    pub kind: &'static str,
}

impl Outlet {
    async fn publish(&self, topic: &str, key: &str, payload: &[u8]) -> Result<(), CoordinationError> {
        let sealed = self.handles.seal(self.kind, topic.as_bytes(), payload);
        self.stream.publish(topic, key, Bytes::from(sealed)).await
    }
}

/// Tells a relay that there is something to publish.
#[derive(Clone, Debug, Default)]
pub struct Bell(Arc<Notify>);

impl Bell {
    /// Wakes the relay; without effect on one that is already awake or about to be.
    pub fn ring(&self) {
        self.0.notify_one();
    }
}

struct Waiting {
    id: i64,
    topic: String,
    key: String,
    payload: Vec<u8>,
}

impl FromRow for Waiting {
    fn from_row(row: &Row<'_>) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.get("id")?,
            topic: row.get("topic")?,
            key: row.get("key")?,
            payload: row.get("payload")?,
        })
    }
}

/// How a pass ended.
enum Pass {
    /// Another replica's relay publishes.
    NotMine,
    /// Nothing is left.
    Empty,
    /// The batch was full, there may be more.
    More,
    /// The stream did not take an event; those before it are published.
    Held,
}

impl Relay {
    /// Makes a relay from a service's outbox to a stream. The duty has the same name on every replica.
    #[must_use]
    pub fn new(db: Db, outlet: Outlet, clock: SharedClock, duty: Duty) -> Self {
        Self { db, outlet, clock, duty, bell: Bell::default() }
    }

    /// Returns the bell to ring after a commit.
    #[must_use]
    pub fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// Runs until the token is cancelled; whatever fails is tried again, with growing pauses.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), Infallible> {
        let mut failures = 0;
        let mut prune_at = Instant::now() + PRUNE_EVERY;
        while !shutdown.is_cancelled() {
            let pause = match self.pass(&shutdown).await {
                Pass::More => Duration::ZERO,
                Pass::Empty | Pass::NotMine => {
                    failures = 0;
                    POLL
                }
                Pass::Held => {
                    failures += 1;
                    backoff(failures)
                }
            };
            if prune_at <= Instant::now() {
                self.prune().await;
                prune_at = Instant::now() + PRUNE_EVERY;
            }
            shutdown.run_until_cancelled(self.pause(pause, failures == 0)).await;
        }
        // Another replica goes on at once.
        self.duty.release().await;
        Ok(())
    }

    async fn pause(&self, pause: Duration, may_be_woken: bool) {
        if may_be_woken {
            // Too early or on time: either way the next pass looks.
            let _ = tokio::time::timeout(pause, self.bell.0.notified()).await;
        } else {
            tokio::time::sleep(pause).await;
        }
    }

    /// Publishes a batch, if this replica is the one that publishes.
    async fn pass(&mut self, shutdown: &CancellationToken) -> Pass {
        match self.duty.hold().await {
            Ok(true) => {}
            Ok(false) => return Pass::NotMine,
            Err(error) => {
                tracing::warn!(error = &error as &dyn Error, "events are held back");
                return Pass::Held;
            }
        }
        match self.publish(shutdown).await {
            Ok(pass) => pass,
            Err(error) => {
                tracing::warn!(error = &error as &dyn Error, "outbox cannot be read or marked");
                Pass::Held
            }
        }
    }

    async fn publish(&mut self, shutdown: &CancellationToken) -> Result<Pass, StoreError> {
        const SQL: &str =
            "SELECT id, topic, key, payload FROM outbox WHERE published_at IS NULL ORDER BY id LIMIT $1";
        let waiting: Vec<Waiting> =
            on_db!(&self.db, pool => sqlx::query(SQL).bind(BATCH).try_map(read).fetch_all(pool).await?);
        let taken = waiting.len();
        let mut published = Vec::with_capacity(taken);
        for event in waiting {
            // A batch may take longer than the lease, and what is published now has to be marked.
            if shutdown.is_cancelled() || !matches!(self.duty.hold().await, Ok(true)) {
                break;
            }
            let publish = self.outlet.publish(&event.topic, &event.key, &event.payload);
            match tokio::time::timeout(PUBLISH_DEADLINE, publish).await {
                Ok(Ok(())) => published.push(event.id),
                Ok(Err(error)) => {
                    tracing::warn!(event.topic, error = &error as &dyn Error, "event is held back");
                    break;
                }
                Err(_) => {
                    tracing::warn!(event.topic, "event is held back: the stream does not answer");
                    break;
                }
            }
        }
        self.mark(&published).await?;
        Ok(match published.len() {
            all if all < taken => Pass::Held,
            all if i64::try_from(all).is_ok_and(|all| all < BATCH) => Pass::Empty,
            _ => Pass::More,
        })
    }

    /// Marks exactly these: an id in between may belong to a transaction that committed meanwhile.
    async fn mark(&self, published: &[i64]) -> Result<(), StoreError> {
        if published.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        on_db!(&self.db, pool => {
            let mut q = sqlx::QueryBuilder::new("UPDATE outbox SET published_at = ");
            q.push_bind(now).push(" WHERE id IN (");
            let mut ids = q.separated(", ");
            for id in published {
                ids.push_bind(*id);
            }
            ids.push_unseparated(")");
            q.build().execute(pool).await?;
        });
        Ok(())
    }

    async fn prune(&self) {
        const SQL: &str = "DELETE FROM outbox WHERE published_at < $1";
        let before = self.clock.now() - PRUNE_AFTER;
        let pruned = async {
            Ok::<_, StoreError>(
                on_db!(&self.db, pool => sqlx::query(SQL).bind(before).execute(pool).await?.rows_affected()),
            )
        };
        match pruned.await {
            Ok(events) => tracing::debug!(outbox.events = events, "published events removed"),
            Err(error) => tracing::warn!(error = &error as &dyn Error, "outbox cannot be pruned"),
        }
    }
}

fn backoff(failures: u32) -> Duration {
    (FIRST_PAUSE * 2_u32.saturating_pow(failures.saturating_sub(1).min(8))).min(LONGEST_PAUSE)
}
