//! An at-least-once event stream with consumer groups.

#![expect(clippy::unused_async, reason = "a shared backend waits for the network here")]

mod topic;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::Notify, time::Instant};

use crate::{CoordinationError, lock};
use topic::{Next, Topic};

/// Limits of every topic of a stream.
#[derive(Clone, Debug)]
pub struct StreamSettings {
    /// How long a delivered event may stay unacknowledged before another consumer gets it.
    pub visibility_timeout: Duration,
    /// How often an event is delivered before it becomes a dead letter.
    pub max_attempts: u32,
    /// How many events a topic holds, and how many dead letters a group keeps.
    pub capacity: usize,
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self { visibility_timeout: Duration::from_secs(30), max_attempts: 5, capacity: 4096 }
    }
}

/// Names one event within its topic; later events have larger ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId(u64);

/// One event as a consumer sees it.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// What to acknowledge.
    pub id: DeliveryId,
    /// What the event is about, for example the id of a record.
    pub key: String,
    /// The event itself.
    pub payload: Bytes,
    /// 1 for the first delivery of this event to the group.
    pub attempt: u32,
}

/// An event that a group failed to acknowledge as often as the settings allow.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The event's place in its topic.
    pub id: DeliveryId,
    /// What the event is about.
    pub key: String,
    /// The event itself.
    pub payload: Bytes,
}

/// Publishes events to topics and lets groups of consumers share them.
///
/// Every group gets every event at least once, a first delivery in the order of publication. A new group begins
/// with the oldest event that its topic still holds. A topic drops an event once every group has acknowledged it
/// (without any group, the oldest one when there is no room); it refuses a new one while a group is behind by the
/// whole capacity, so nothing is lost silently: the publisher keeps the event, as an outbox does.
#[derive(Clone, Debug)]
pub struct EventStream {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: StreamSettings,
    topics: Mutex<HashMap<String, Arc<Channel>>>,
}

/// A topic with the bell that wakes its consumers.
#[derive(Debug)]
struct Channel {
    name: String,
    topic: Mutex<Topic>,
    published: Notify,
}

impl Channel {
    fn topic(&self) -> MutexGuard<'_, Topic> {
        lock(&self.topic)
    }
}

impl EventStream {
    pub(crate) fn in_process(settings: StreamSettings) -> Self {
        Self { shared: Arc::new(Shared { settings, topics: Mutex::default() }) }
    }

    /// Appends an event to a topic.
    pub async fn publish(&self, topic: &str, key: &str, payload: Bytes) -> Result<(), CoordinationError> {
        let channel = self.channel(topic);
        if !channel.topic().publish(key, payload) {
            let capacity = self.shared.settings.capacity;
            return Err(CoordinationError::Full { what: format!("topic {}", channel.name), capacity });
        }
        channel.published.notify_waiters();
        Ok(())
    }

    /// Joins a group as the named consumer; the group is made if it is new.
    pub async fn subscribe(
        &self,
        topic: &str,
        group: &str,
        consumer: &str,
    ) -> Result<Consumer, CoordinationError> {
        let channel = self.channel(topic);
        channel.topic().join(group);
        Ok(Consumer { channel, group: group.to_owned(), name: consumer.to_owned() })
    }

    /// Returns what a group could not handle, oldest first.
    pub async fn dead_letters(&self, topic: &str, group: &str) -> Result<Vec<DeadLetter>, CoordinationError> {
        Ok(self.channel(topic).topic().dead_letters(group))
    }

    fn channel(&self, name: &str) -> Arc<Channel> {
        let mut topics = lock(&self.shared.topics);
        if let Some(channel) = topics.get(name) {
            return Arc::clone(channel);
        }
        let channel = Arc::new(Channel {
            name: name.to_owned(),
            topic: Mutex::new(Topic::new(self.shared.settings.clone())),
            published: Notify::new(),
        });
        topics.insert(name.to_owned(), Arc::clone(&channel));
        channel
    }
}

/// One member of a consumer group.
///
/// Dropping it leaves the group in place: what it had not acknowledged goes to other members after the
/// visibility timeout, and what is published meanwhile waits.
#[derive(Debug)]
pub struct Consumer {
    channel: Arc<Channel>,
    group: String,
    name: String,
}

impl Consumer {
    /// Waits for the next event of the group; cancelling the wait loses nothing.
    pub async fn next(&self) -> Result<Delivery, CoordinationError> {
        let published = self.channel.published.notified();
        tokio::pin!(published);
        loop {
            // Listening starts before looking, so an event that is published in between still wakes this.
            published.as_mut().enable();
            let next = self.channel.topic().next(&self.group, Instant::now());
            let wake_at = match next {
                Next::Event(delivery) => return Ok(delivery),
                Next::Nothing { redeliver_at } => redeliver_at,
            };
            let redelivery = async {
                match wake_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = &mut published => published.set(self.channel.published.notified()),
                () = redelivery => {}
            }
        }
    }

    /// Marks an event as handled; late or repeated acknowledgements are harmless.
    pub async fn ack(&self, id: DeliveryId) -> Result<(), CoordinationError> {
        self.channel.topic().ack(&self.group, id);
        Ok(())
    }

    /// Returns the name under which this consumer joined.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}
